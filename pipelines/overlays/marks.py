"""Callipers, at least two crosses that go together among those the network points at; and arrows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.overlays.arrows import find_arrows
from pipelines.overlays.crosses import crossness
from pipelines.overlays.item import Box, Item, Pixels
from pipelines.overlays.marks_net import CHANNELS, STRIDE, WORKING_SIDE_PX, look

# Likelihoods, of which a measurement's is the geometric mean of its two crosses'. Among 1,140 phantoms without one the
# highest is 0.74.
MIN_MEASUREMENT = 0.75
MIN_CROSS = 0.15

# A longer side is shrunk to this.
MAX_SIDE_PX = 4096
_APART_PX = 6  # half of what a cross takes up, at the working size
_CANDIDATES = 12


@dataclass(frozen=True)
class Point:
    """A place the network points at, in px at the working size."""

    x: int
    y: int
    likelihood: float


def find_marks(pixels: Pixels, passed_over: Sequence[Box] = ()) -> list[Item]:
    """Return the calliper crosses and arrows of an image, ``(h, w, 3)`` uint8, outside the boxes passed over."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, WORKING_SIDE_PX / min(height, width), MAX_SIDE_PX / max(height, width))
    brightest = np.ascontiguousarray(pixels.max(axis=2))
    if shrink < 1:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        brightest = cv2.resize(brightest, size, interpolation=cv2.INTER_AREA)
    planes = look(brightest)
    cross = planes[CHANNELS.index("cross")]
    # Crosses without any blur, which scanners draw and the network was shown few of, are told by their shape.
    np.maximum(cross, _brightest_of_stride(crossness(brightest)), out=cross)
    for x0, y0, x1, y1 in passed_over:
        left, top, right, bottom = (int(edge * shrink / STRIDE) for edge in (x0, y0, x1, y1))
        planes[:, top : bottom + 1, left : right + 1] = 0
    likely = dict(zip(CHANNELS, planes, strict=True))
    score, crosses = callipers(peaks(likely["cross"], MIN_CROSS, _APART_PX), likely["dots"])
    items = [Item("calliper", _around(cross, shrink, pixels.shape), score) for cross in crosses]
    # A cross on a bright streak looks like one.
    blocked = [*passed_over, *(item.box for item in items)]
    for edges, fit in find_arrows(brightest):
        box = _enlarged(edges, shrink, pixels.shape)
        if not any(box[0] < x1 and x0 < box[2] and box[1] < y1 and y0 < box[3] for x0, y0, x1, y1 in blocked):
            items.append(Item("arrow", box, fit))
    return items


def _brightest_of_stride(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest of every `STRIDE` × `STRIDE` places."""
    padded = np.pad(plane, [(0, -length % STRIDE) for length in plane.shape])
    rows, columns = (length // STRIDE for length in padded.shape)
    highest: NDArray[np.float32] = padded.reshape(rows, STRIDE, columns, STRIDE).max(axis=(1, 3))
    return highest


def peaks(plane: NDArray[np.float32], least: float, apart_px: int) -> list[Point]:
    """Return the highest places of a plane that are at least `least`, none within `apart_px` of a higher one."""
    left, reach = plane.copy(), max(1, apart_px // STRIDE)
    points = []
    for _ in range(_CANDIDATES):
        row, column = (int(place) for place in np.unravel_index(int(left.argmax()), left.shape))
        if left[row, column] < least:
            break
        points.append(Point(column * STRIDE, row * STRIDE, float(left[row, column])))
        left[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = 0
    return points


def callipers(crosses: list[Point], dots: NDArray[np.float32]) -> tuple[float, list[Point]]:
    """Return the likelihood of the best measurement, and the crosses that are part of one; none where it is too low."""
    best = 0.0
    found: set[Point] = set()
    for one, other in combinations(crosses, 2):
        line = _dots_between(dots, one, other)
        pair = (one.likelihood * other.likelihood) ** 0.5
        likelihood = pair + (1 - pair) * line
        if likelihood >= MIN_MEASUREMENT:
            found |= {one, other}
            best = max(best, likelihood)
    return best, sorted(_without_dots(found), key=lambda cross: (cross.y, cross.x))


def _without_dots(crosses: set[Point]) -> list[Point]:
    """Leave out what lies on the line between two likelier crosses: a dot of it, or where two lines meet."""
    kept: list[Point] = []
    for cross in sorted(crosses, key=lambda cross: (-cross.likelihood, cross.y, cross.x)):
        if not any(_lies_between(cross, one, other) for one, other in combinations(kept, 2)):
            kept.append(cross)
    return kept


def _lies_between(point: Point, one: Point, other: Point) -> bool:
    ahead, aside = np.array([other.x - one.x, other.y - one.y]), np.array([point.x - one.x, point.y - one.y])
    length = float(np.hypot(*ahead))
    along = float(aside @ ahead) / length
    beside = abs(float(aside[0] * ahead[1] - aside[1] * ahead[0])) / length
    return _APART_PX <= along <= length - _APART_PX and beside < _APART_PX


def _dots_between(dots: NDArray[np.float32], one: Point, other: Point) -> float:
    """Return how much of the line between two crosses is dotted, 0 to 1."""
    length = float(np.hypot(other.x - one.x, other.y - one.y))
    if length < 4 * _APART_PX:
        return 0.0
    along = np.linspace(_APART_PX / length, 1 - _APART_PX / length, int(length / STRIDE))
    columns = (one.x + (other.x - one.x) * along) / STRIDE
    rows = (one.y + (other.y - one.y) * along) / STRIDE
    thick = cv2.dilate(dots, np.ones((3, 3), np.uint8))
    return float(np.mean(thick[np.rint(rows).astype(int), np.rint(columns).astype(int)] > 0.3))


def _around(point: Point, shrink: float, shape: tuple[int, ...]) -> Box:
    edges = (point.x - _APART_PX, point.y - _APART_PX, point.x + _APART_PX + 1, point.y + _APART_PX + 1)
    return _enlarged(edges, shrink, shape)


def _enlarged(edges: Box, shrink: float, shape: tuple[int, ...]) -> Box:
    """Return a box at the working size in px of the image, within it."""
    x0, y0, x1, y1 = (round(edge / shrink) for edge in edges)
    return max(0, x0), max(0, y0), min(shape[1], x1), min(shape[0], y1)
