"""Fields of smooth noise and soft shapes, from which the phantoms are built."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.floating[Any]]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Site:
    """Where a lesion would be: centre and half axes as shares of the image's side.

    Drawn alike for every class, so that a mark put there says nothing of the label.
    """

    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True)
class Drawing:
    """An image without planted marks: ``(side, side)`` grey or ``(side, side, 3)`` colour in [0, 1]."""

    image: Field
    site: Site
    lesion_box: Box | None
    caption: str


def axes(side_px: int) -> tuple[Field, Field]:
    """Rows ``(side, 1)`` and columns ``(1, side)`` of pixel centres in [0, 1]."""
    centres = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px
    return centres[:, None], centres[None, :]


def smooth_noise(rng: np.random.Generator, side_px: int, rows: int, columns: int) -> Field:
    """Noise ``(side, side)`` of mean 0 and variance 1 whose grain is one of ``rows × columns`` cells."""
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((side_px, side_px), Image.Resampling.BICUBIC))
    sample = fine[::3, ::3]  # enough to scale by, at a tenth of the time
    scaled: Field = (fine - sample.mean()) / (sample.std() + 1e-6)
    return scaled


def smooth_curve(rng: np.random.Generator, side_px: int, knots: int) -> Field:
    """Draw a smooth random curve ``(1, side)`` of variance about 1/2."""
    position = np.linspace(0, np.pi, side_px, dtype=np.float32)
    weights = rng.standard_normal((2, knots)) / np.sqrt(knots)
    curve = sum(
        weights[0, k] * np.cos((k + 1) * position) + weights[1, k] * np.sin((k + 1) * position) for k in range(knots)
    )
    return np.asarray(curve, dtype=np.float32)[None, :]


def trace(value: Field, knots: Sequence[float], heights: Sequence[float]) -> Field:
    """Piecewise linear function of `value` through (`knots`, `heights`), in single precision."""
    return np.interp(value, knots, heights).astype(np.float32)


def soft_step(value: Field, width: float) -> Field:
    """From 0 to 1 as `value` rises through 0, over about `width` either side."""
    step: Field = 0.5 + 0.5 * np.tanh(value / width)
    return step


def look_up(field: Field, rows: Field, columns: Field) -> Field:
    """`field` at positions in [0, 1), nearest pixel; what lies beyond an edge repeats it."""
    height, width = field.shape
    row = np.clip((rows * height).astype(np.int32), 0, height - 1)
    column = np.clip((columns * width).astype(np.int32), 0, width - 1)
    found: Field = field[row, column]
    return found


def confine(effect: Field, threshold: float) -> tuple[Field, Box | None]:
    """Cut a lesion's effect off where it is negligible, and box what is left.

    Returns
    -------
    tuple
        The effect, exactly 0 outside the box, and the half-open box in pixels; no box if nothing is left.
    """
    kept = np.where(np.abs(effect) > threshold, effect, 0)
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    if rows.size == 0:
        return kept, None
    return kept, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def quadrant(site: Site) -> str:
    """Say where a site is in the image: "upper left", "centre", …."""
    row = "upper" if site.y < 0.4 else "lower" if site.y > 0.6 else ""
    column = "left" if site.x < 0.42 else "right" if site.x > 0.58 else ""
    return f"{row} {column}".strip() or "centre"
