"""What of an image a model is shown, and where: its preprocessing, as a map of places.

Every preprocessing of the registry resizes, crops or pads, so a place of the image is at ``a x + b`` of the input. The
numbers are not taken from its settings, which each library writes in its own way, but measured: a black, a white and a
ramp image are preprocessed as any other, which holds for preprocessing that nobody here has seen.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from store.schema import CounterstainError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

Box = tuple[float, float, float, float]

# Towards its borders a resized ramp is bent by the resampling kernel.
_INNER = (0.05, 0.95)
# Columns of a ramp that a line is laid through at least.
_FEWEST = 3


@dataclass(frozen=True, eq=False)
class View:
    """Where images of one size come to lie in a model's input.

    Attributes
    ----------
    shape
        Height and width of the input in px.
    shown
        ``x0, y0, x1, y1`` in px of the input, half-open: where it shows the image; the rest is padding.
    scale, offset
        For x and for y: a place of the image in px, times the scale, plus the offset, is its place in the input.
    black, white
        ``(3, h, w)`` float32: the input for a black and for a white image.
    """

    shape: tuple[int, int]
    shown: tuple[int, int, int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]
    black: NDArray[np.float32]
    white: NDArray[np.float32]

    def box(self, box: tuple[int, int, int, int]) -> Box | None:
        """Return where a box of the image lies in the input, cut to what is shown; None if all is cropped away."""
        x0, y0, x1, y1 = (
            min(max(place * self.scale[i % 2] + self.offset[i % 2], self.shown[i % 2]), self.shown[2 + i % 2])
            for i, place in enumerate(box)
        )
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def seen(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return what of an image of `size` (width and height) is shown, half-open in px of the image."""
        x0, y0, x1, y1 = (
            min(max(round((place - self.offset[i % 2]) / self.scale[i % 2]), 0), size[i % 2])
            for i, place in enumerate(self.shown)
        )
        return x0, y0, x1, y1

    def picture(self, pixels: "torch.Tensor") -> Image.Image:
        """Return an input ``(3, h, w)`` as the image that the model is shown; padding is black."""
        range_ = self.white - self.black
        share = (pixels.cpu().numpy() - self.black) / np.where(range_ > 0, range_, 1)
        shown = np.clip(np.where(range_ > 0, share, 0), 0, 1)
        return Image.fromarray(np.rint(shown * 255).astype(np.uint8).transpose(1, 2, 0))


def measure_view(preprocess: "Callable[[Image.Image], torch.Tensor]", size: tuple[int, int]) -> View:
    """Measure a preprocessing for images of a size.

    Parameters
    ----------
    preprocess
        From an RGB image to a float32 tensor ``(3, h, w)``.
    size
        Width and height of the images in px.

    Raises
    ------
    CounterstainError
        If the input does not depend on the image.
    """
    width, height = size
    black, white = (preprocess(Image.new("RGB", size, (level,) * 3)).numpy() for level in (0, 255))
    depends = (white - black).max(axis=0) > 0.5 * (white - black).max(initial=0)
    rows, columns = np.flatnonzero(depends.any(axis=1)), np.flatnonzero(depends.any(axis=0))
    if not len(rows):
        raise CounterstainError(
            f"a black and a white image of {width} x {height} px are preprocessed to the same input."
        )
    shown = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = _levels(width)
    ramp[..., 1] = _levels(height)[:, None]
    inside = (slice(None), slice(shown[1], shown[3]), slice(shown[0], shown[2]))
    light = preprocess(Image.fromarray(ramp)).numpy()[inside]
    share = (light - black[inside]) / (white[inside] - black[inside])
    across = _line(share[0].mean(axis=0), shown[0], shown[2], width)
    down = _line(share[1].mean(axis=1), shown[1], shown[3], height)
    return View(
        shape=(black.shape[1], black.shape[2]),
        shown=shown,
        scale=(across[0], down[0]),
        offset=(across[1], down[1]),
        black=black,
        white=white,
    )


def _levels(length: int) -> NDArray[np.uint8]:
    """Return the ramp's light at each px: as steep as 8 bits allow, and in whole steps where they suffice."""
    step = 255 / max(1, length - 1)
    levels: NDArray[np.uint8] = np.rint(np.arange(length) * (np.floor(step) if step >= 1 else step)).astype(np.uint8)
    return levels


def _line(share: NDArray[np.float32], start: int, stop: int, length: int) -> tuple[float, float]:
    """Return scale and offset from places of the image to those of the input, given the ramp as the input shows it."""
    levels, places = _levels(length).astype(np.float64), np.arange(length) + 0.5
    shown = share.astype(np.float64) * 255
    low, high = (np.quantile(levels, end) for end in _INNER)
    inner = (shown > low) & (shown < high)
    if length < _FEWEST or inner.sum() < _FEWEST:
        # An image, or an input, of a few px: all of the one is all of the other.
        return (stop - start) / length, float(start)
    slope, intercept = np.polyfit(levels, places, 1)
    scale, offset = np.polyfit(slope * shown[inner] + intercept, (np.arange(start, stop) + 0.5)[inner], 1)
    return float(scale), float(offset)


def png(image: Image.Image, side_px: int) -> bytes:
    """Return a PNG of an image, at most `side_px` on its longer side."""
    small = image.copy()
    small.thumbnail((side_px, side_px))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()
