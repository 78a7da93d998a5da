"""Arrows by their shape: one bright grey, a head that widens evenly from its tip, and a straight shaft behind it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipelines.overlays.cuts import shapes_that_stand_out
from pipelines.overlays.item import Box

# In px at the working size, whose shorter side is 256.
_AREA_PX, _LENGTH_PX = (60, 1200), (15, 90)
# The head: times as wide as the shaft, and its share of the length.
_MIN_WIDER, _HEAD_SHARE = 2.0, (0.2, 0.7)
_LENGTH_TO_WIDTH = (1.3, 5.0)
# Area over that within the outline.
_MIN_FILLED = 0.9
# How far the outline is from an arrow's and the middle from a line, on average and in widths of the head. Of 605 shapes
# cut from arrows planted on phantoms the worst reach 0.075 and 0.030, and of 366 in speckle that pass all else none
# stays within both.
_MAX_APART, _MAX_CROOKED = 0.08, 0.035


def find_arrows(grey: NDArray[np.uint8]) -> Iterator[tuple[Box, float]]:
    """Yield the box of each bright arrow of an image, ``(h, w)`` at the working size, and how well it fits, 0 to 1."""
    seen: list[tuple[int, int]] = []
    for (x0, y0, x1, y1), mask in shapes_that_stand_out(grey, _AREA_PX, _LENGTH_PX):
        centre = ((x0 + x1) // 2, (y0 + y1) // 2)
        # Every cut shows it again.
        if any(max(abs(centre[0] - a), abs(centre[1] - b)) <= _LENGTH_PX[0] for a, b in seen):
            continue
        if (fit := arrow_fit(mask)) is not None:
            seen.append(centre)
            yield (x0, y0, x1, y1), fit


def arrow_fit(mask: NDArray[np.bool_]) -> float | None:
    """Return how well a shape, ``(h, w)``, fits an arrow of any size and direction, 0 to 1; None where it is none."""
    rows, columns = np.nonzero(mask)
    places = np.stack([columns - columns.mean(), rows - rows.mean()], axis=1)
    axes = np.linalg.eigh(places.T @ places)[1]
    along, aside = places @ axes[:, 1], places @ axes[:, 0]
    slices = np.floor(along - along.min()).astype(int)
    count = int(slices.max()) + 1
    steps = np.arange(count)
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, slices, aside)
    np.maximum.at(high, slices, aside)
    met = np.flatnonzero(np.isfinite(low))  # a slice of a turned shape may miss every pixel
    low, high = (np.interp(steps, met, edge[met]) for edge in (low, high))
    width, middle = _smooth(high - low + 1), _smooth((low + high) / 2)
    if width.argmax() > count / 2:
        width, middle = width[::-1], middle[::-1]
    widest = int(width.argmax())
    head, shaft = width[: widest + 1], width[widest + 2 :]
    if min(len(head), len(shaft)) < 4:
        return None
    thick = float(np.median(shaft))
    sides = np.linspace(head[0], head[-1], len(head))
    ideal = np.concatenate([sides, [(head[-1] + thick) / 2], np.full(len(shaft), thick)])
    line = np.polyval(np.polyfit(steps, middle, 1), steps)
    apart, crooked = (float(np.abs(off).mean() / head[-1]) for off in (width - ideal, middle - line))
    fits = (
        head[-1] >= _MIN_WIDER * thick
        and _HEAD_SHARE[0] <= len(head) / count <= _HEAD_SHARE[1]
        and _LENGTH_TO_WIDTH[0] <= count / head[-1] <= _LENGTH_TO_WIDTH[1]
        and mask.sum() >= _MIN_FILLED * width.sum()
        and apart <= _MAX_APART
        and crooked <= _MAX_CROOKED
    )
    return 1 - apart - crooked if fits else None


def _smooth(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(np.pad(profile, 1, mode="edge"), np.ones(3) / 3, "valid")
