"""What a set of phantoms is, and which background each of its images carries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

Modality = Literal["ultrasound", "radiograph", "tissue"]

# From the class that association strips of planted background to the one it gives it to.
CLASSES: dict[Modality, tuple[str, ...]] = {
    "ultrasound": ("normal", "benign", "malignant"),
    "radiograph": ("no_finding", "opacity", "nodule"),
    "tissue": ("benign", "malignant"),
}

_VIEWS: dict[Modality, tuple[str, ...]] = {
    "ultrasound": ("left breast", "right breast", "left axilla", "right axilla"),
    "radiograph": ("pa", "ap"),
    "tissue": ("400x",),
}

_SMALLEST_SIDE_PX = 64


class Stream(IntEnum):
    """Independent streams of random numbers, so that drawing one thing never moves another."""

    PLAN = 0
    GROUP = 1
    IMAGE = 2
    LESION = 3
    WORDS = 4
    MARKS = 5


@dataclass(frozen=True)
class PhantomSpec:
    """A set of phantoms: what is seen, what is planted, and how far that goes with the label.

    Groups (patients; slides for tissue) hold one label each, in turn, so classes are balanced to within one group.
    Words and annotations are given to images, a stain to whole slides. Each goes to half of every class at association
    0, chosen at random but in exact numbers, and the two marks are independent of each other within a class.

    Parameters
    ----------
    modality
        What the images resemble.
    n_images
        Images in the set, at least 1.
    side_px
        Width and height of an image, at least 64.
    strength
        How conspicuous the planted background is, in [0, 1]: size and opacity of words and marks, distance between the
        stains. At 0 there is none: no words, no marks, every slide stained "a". A strength above 0 but too small to
        change a pixel (1e-6) keeps the flags, which is the null world of an audit.
    association
        How strongly the planted background goes with the label, in [0, 1]: the share of a class that carries it runs
        linearly over `CLASSES`, from 1/2 everywhere at 0 to 0 … 1 at 1.
    lesion_contrast
        How visible the lesion is, in [0, 1]; 0 draws none.
    images_per_group
        Images of one patient, or of one slide, at least 1.
    seed
        Not negative. Equal specs give equal images.

    Raises
    ------
    ValueError
        If a value is out of range; the message names the field.
    """

    modality: Modality
    n_images: int = 600
    side_px: int = 256
    strength: float = 0.0
    association: float = 0.0
    lesion_contrast: float = 0.7
    images_per_group: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ValueError(f"modality must be one of {', '.join(get_args(Modality))}, not {self.modality!r}")
        smallest = {"n_images": 1, "side_px": _SMALLEST_SIDE_PX, "images_per_group": 1, "seed": 0}
        for field, least in smallest.items():
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{field} must be a whole number of at least {least}, not {value!r}")
        for field in ("strength", "association", "lesion_contrast"):
            value = getattr(self, field)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{field} must be a number from 0 to 1, not {value!r}")


@dataclass(frozen=True)
class Assignment:
    """What one image is to show, before anything is drawn."""

    label: str
    group: int
    view: str
    words: bool
    mark: bool
    stain: str | None


def random_stream(spec: PhantomSpec, stream: Stream, number: int) -> np.random.Generator:
    """Random numbers of one image, group or class (`number`), the same whatever else was drawn."""
    modality = get_args(Modality).index(spec.modality)
    return np.random.default_rng([spec.seed, modality, int(stream), number])


@lru_cache(maxsize=16)
def assign(spec: PhantomSpec) -> tuple[Assignment, ...]:
    """Lay out labels, groups, views and planted background over the whole set, in exact numbers.

    Within a class every choice of carriers is equally likely, so that permuting a flag within the label is its exact
    null.
    """
    classes, views = CLASSES[spec.modality], _VIEWS[spec.modality]
    n_groups = math.ceil(spec.n_images / spec.images_per_group)
    has_marks = spec.modality != "tissue" and spec.strength > 0
    view_of: dict[int, str] = {}
    other_stain: set[int] = set()
    words: set[int] = set()
    marks: set[int] = set()
    for code in range(len(classes)):
        rng = random_stream(spec, Stream.PLAN, code)
        share = 0.5 + spec.association * (code / (len(classes) - 1) - 0.5)
        groups = range(code, n_groups, len(classes))
        images = [i for i in range(spec.n_images) if i // spec.images_per_group in groups]
        for rank, group in enumerate(rng.permutation(groups)):
            view_of[int(group)] = views[rank % len(views)]
        other_stain |= _draw(rng, groups, _round(share * len(groups)))
        with_words = _draw(rng, images, _round(share * len(images)))
        without = [i for i in images if i not in with_words]
        n_both = _round(share * len(with_words))
        words |= with_words
        marks |= _draw(rng, sorted(with_words), n_both)
        marks |= _draw(rng, without, min(_round(share * len(images)) - n_both, len(without)))

    def assignment(index: int) -> Assignment:
        group = index // spec.images_per_group
        stain = "b" if spec.strength > 0 and group in other_stain else "a"
        return Assignment(
            label=classes[group % len(classes)],
            group=group,
            view=view_of[group],
            words=has_marks and index in words,
            mark=has_marks and index in marks,
            stain=stain if spec.modality == "tissue" else None,
        )

    return tuple(assignment(index) for index in range(spec.n_images))


def _draw(rng: np.random.Generator, among: Sequence[int], count: int) -> set[int]:
    return {int(item) for item in rng.permutation(np.asarray(among, dtype=np.int64))[:count]}


def _round(value: float) -> int:
    """Halves go up: Python's own rounding would send equal classes different ways."""
    return math.floor(value + 0.5)
