"""What is found on an image, and the interface of whatever finds it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.overlays.terms import Terms

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in px, half-open
Pixels = NDArray[np.uint8]  # (h, w, 3)

# Marks that a person puts on an image; the other kinds are what the machine writes: word, logo, scale.
MARKS = ("calliper", "arrow", "box", "colour")


@dataclass(frozen=True)
class Item:
    """One thing found.

    Attributes
    ----------
    kind
        ``word``, ``logo``, ``scale`` or one of `MARKS`.
    box
        Where, in px of the image.
    confidence
        From 0 to 1, of its being what `kind` says.
    text
        As read, where there is text.
    term
        The terms of the field within the text, joined by a blank; None where it has none.
    possible_identifying
        Whether the text may name a person, a date or a record.
    """

    kind: str
    box: Box
    confidence: float
    text: str | None = None
    term: str | None = None
    possible_identifying: bool = False


@dataclass(frozen=True)
class Detector:
    """A way of finding things on images.

    Attributes
    ----------
    name
        Unique; detectors run in the order of their names, those of other distributions last.
    version
        Raised when it would find something else on the same image.
    find
        Returns what it finds on an image, ``(h, w, 3)`` uint8, given the terms of the field and what was found before.
    """

    name: str
    version: str
    find: Callable[[Pixels, Terms, Sequence[Item]], list[Item]]
