"""Arrows by their shape: one bright grey, a head that widens evenly from its tip, and a straight shaft behind it."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.overlays.item import Box

# Grey levels at which the image is cut, and by how many cuts an arrow stands out: cut that much lower it has grown by
# its blurred edge alone, where tissue runs into what surrounds it.
_STEP, _STANDS_OUT = 10, 3
_MAX_GROWTH = 1.6
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
    cuts = [_components(grey, level) for level in range(_STEP, 256, _STEP)]
    seen: list[tuple[int, int]] = []
    for (parts, stats), (wider, wider_stats) in reversed(list(zip(cuts[_STANDS_OUT:], cuts, strict=False))):
        for part in range(1, len(stats)):
            x, y, width, height, area = (int(value) for value in stats[part])
            if not _AREA_PX[0] <= area <= _AREA_PX[1] or not _LENGTH_PX[0] <= max(width, height) <= _LENGTH_PX[1]:
                continue
            mask = parts[y : y + height, x : x + width] == part
            column = int(mask[0].argmax())
            grown = int(wider_stats[wider[y, x + column], cv2.CC_STAT_AREA])
            if grown > _MAX_GROWTH * area or (fit := arrow_fit(mask)) is None:
                continue
            centre = (x + width // 2, y + height // 2)
            # Every cut shows it again.
            if all(max(abs(centre[0] - a), abs(centre[1] - b)) > _LENGTH_PX[0] for a, b in seen):
                seen.append(centre)
                yield (x, y, x + width, y + height), fit


def _components(grey: NDArray[np.uint8], level: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    _, parts, stats, _ = cv2.connectedComponentsWithStats((grey >= level).astype(np.uint8), connectivity=8)
    return parts.astype(np.int32, copy=False), stats.astype(np.int32, copy=False)


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
