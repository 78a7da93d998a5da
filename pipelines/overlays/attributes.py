"""Borders and artefacts: what an image shows as a whole that is known to be a shortcut."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.overlays.detectors.colour import is_coloured
from pipelines.overlays.item import Pixels

# Grey levels up to this are black, in a corner or a frame.
BLACK = 12
_CORNER = 0.05
_EDGE = 0.06
_MIN_TICKS = 5


@dataclass(frozen=True)
class Attributes:
    """Columns of ``image_attributes``, as `store.schema` describes them."""

    aspect: float
    dark_corners: int
    frame_share: float
    ruler: bool
    coloured: bool
    jpeg_quality: int | None


def describe(image: Image.Image, pixels: Pixels) -> Attributes:
    """Return the attributes of an image.

    Parameters
    ----------
    image
        As its file holds it.
    pixels
        The same upright, ``(h, w, 3)`` uint8.
    """
    grey = pixels.max(axis=2)
    return Attributes(
        aspect=round(grey.shape[1] / grey.shape[0], 2),
        dark_corners=dark_corners(grey),
        frame_share=round(frame_share(grey), 3),
        ruler=has_ruler(grey),
        coloured=is_coloured(pixels),
        jpeg_quality=jpeg_quality(image),
    )


def dark_corners(grey: NDArray[np.uint8]) -> int:
    """Return how many corners of ``(h, w)`` are black all over, within squares of a twentieth of the sides."""
    height, width = (max(1, round(_CORNER * side)) for side in grey.shape)
    corners = (grey[:height, :width], grey[:height, -width:], grey[-height:, :width], grey[-height:, -width:])
    return sum(bool(np.quantile(corner, 0.95) <= BLACK) for corner in corners)


def frame_share(grey: NDArray[np.uint8]) -> float:
    """Return the share of ``(h, w)`` within a frame: rows and columns at the edges that are of one grey level."""
    uniform = [np.ptp(grey, axis=axis).astype(int) <= BLACK for axis in (1, 0)]
    inside = [np.flatnonzero(~lines) for lines in uniform]
    if not inside[0].size or not inside[1].size:
        return 1.0
    height, width = (lines[-1] - lines[0] + 1 for lines in inside)
    return float(1 - height * width / grey.size)


def has_ruler(grey: NDArray[np.uint8]) -> bool:
    """Return whether ticks stand at even distances along an edge of ``(h, w)``."""
    height, width = (max(3, round(_EDGE * side)) for side in grey.shape)
    strips = (grey[:height].T, grey[-height:].T, grey[:, :width], grey[:, -width:])
    return any(_ticked(strip.astype(np.float32)) for strip in strips)


def jpeg_quality(image: Image.Image) -> int | None:
    """Return the quality, 1 to 100, whose standard table is nearest to a JPEG's own; None for another format.

    References
    ----------
    Independent JPEG Group, ``jcparam.c``: the standard luminance table is scaled by 5000 / q below 50, else 200 - 2 q.
    """
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    scale = 100 * sum(tables[0]) / _STANDARD_LUMINANCE_SUM
    quality = 5000 / scale if scale > 100 else (200 - scale) / 2
    return int(min(100, max(1, round(quality))))


_STANDARD_LUMINANCE_SUM = 3688  # of table K.1 of ITU-T T.81


def _ticked(strip: NDArray[np.float32]) -> bool:
    """Return whether a strip, its edge along the first axis, has short bright lines across it at one distance."""
    dark = np.median(strip)
    profile = np.maximum(strip - dark, 0).max(axis=1) if dark < 2 * BLACK else np.zeros(len(strip), np.float32)
    on = profile > 60
    starts = np.flatnonzero(on[1:] & ~on[:-1]) + 1
    if len(starts) < _MIN_TICKS or on.mean() > 0.5:
        return False
    gaps = np.diff(starts)
    even = np.abs(gaps - np.median(gaps)) <= max(1, 0.1 * float(np.median(gaps)))
    return bool(even.mean() >= 0.8)
