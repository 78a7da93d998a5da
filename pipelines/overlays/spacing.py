"""Blanks between words, from the gaps between letters: recognition drops the narrow ones of scanners' fonts."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

# A gap between letters this wide, as a share of the line's height, is one between words.
MIN_BLANK = 0.165
_ENLARGED = 4


def with_blanks(words: Sequence[str], crop: NDArray[np.uint8]) -> str:
    """Join words that were read as one, by a blank where their letters stand apart.

    Parameters
    ----------
    words
        What the line consists of, in order.
    crop
        The line's box, ``(h, w)`` uint8, bright letters on a darker ground. Where its letters cannot be told apart one
        by one, no blank is added.
    """
    runs = _ink_runs(crop)
    if len(runs) != sum(map(len, words)):
        return "".join(words)
    line, letters = "", 0
    for word in words:
        if letters and runs[letters][0] - runs[letters - 1][1] >= MIN_BLANK * crop.shape[0] * _ENLARGED:
            line += " "
        line, letters = line + word, letters + len(word)
    return line


def _ink_runs(crop: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Return the first and last column, enlarged, of each run of columns with ink."""
    large = cv2.resize(crop.astype(np.float32), None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC)
    ink = (large > (np.median(large) + np.percentile(large, 95)) / 2).astype(np.uint8)
    # Strokes are taller than speckle.
    ink = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((3, 1), np.uint8))
    columns = ink[_ENLARGED:-_ENLARGED].sum(axis=0) >= 1.5 * _ENLARGED
    edges = np.flatnonzero(np.diff(np.concatenate([[False], columns, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
