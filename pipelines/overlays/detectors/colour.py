"""Coloured marks on grey images: a frame around a region, or anything else in colour."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.overlays.item import Box, Detector, Item, Pixels
from pipelines.overlays.terms import Terms

# Difference between the largest and the smallest of red, green and blue; compression leaves less on grey images.
FAINT, STRONG = 20, 40
# Fewer coloured pixels than this, on an image of 256², are nothing.
MIN_FAINT_PX, MIN_STRONG_PX = 50, 20
# A larger share in colour is a coloured image, on which colour is no mark.
MAX_SHARE = 0.35
# A frame has colour along this share of each side, within so many pixels of its bounds, and on little of the inside.
OUTLINED, LINE_PX, MAX_FILLED = 0.6, 4, 0.5
ENDS = (slice(None, LINE_PX), slice(-LINE_PX, None))
# A smaller one, as a share of the image's sides, is a letter.
MIN_FRAME = 0.1


def chroma(pixels: Pixels) -> Pixels:
    """Return the difference between the largest and the smallest of red, green and blue, ``(h, w)``."""
    difference: Pixels = pixels.max(axis=2) - pixels.min(axis=2)
    return difference


def is_coloured(pixels: Pixels) -> bool:
    """Return whether an image is coloured as a whole."""
    return float((chroma(pixels) > FAINT).mean()) > MAX_SHARE


def find(pixels: Pixels, terms: Terms, before: Sequence[Item]) -> list[Item]:
    """Return coloured frames and other coloured areas; none on an image that is coloured as a whole."""
    colour = chroma(pixels)
    if is_coloured(pixels):
        return []
    scale = pixels.shape[0] * pixels.shape[1] / 256**2
    items = []
    faint, strong = colour > FAINT, colour > STRONG
    if faint.sum() > MIN_FAINT_PX * scale:
        for frame in _frames(faint):
            items.append(Item("box", frame, 1.0))
            strong &= ~_outline(faint.shape, frame)
    if strong.sum() > MIN_STRONG_PX * scale:
        rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        items.append(Item("colour", box, 1.0))
    return items


def _frames(mask: NDArray[np.bool_]) -> Iterator[Box]:
    """Yield the bounds of each connected part of a mask that is the outline of a rectangle."""
    import cv2

    # One pixel of gap, as compression leaves, does not part a line.
    joined = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    for x, y, width, height, _ in stats[1:count].tolist():
        if width < MIN_FRAME * mask.shape[1] or height < MIN_FRAME * mask.shape[0]:
            continue
        box = (x, y, x + width, y + height)
        part = mask[y : y + height, x : x + width]
        sides = [*(part[rows].any(axis=0) for rows in ENDS), *(part[:, columns].any(axis=1) for columns in ENDS)]
        inside = part[LINE_PX:-LINE_PX, LINE_PX:-LINE_PX]
        if min(side.mean() for side in sides) >= OUTLINED and inside.mean() <= MAX_FILLED:
            yield box


def _outline(shape: tuple[int, ...], box: Box) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = box
    outline = np.zeros(shape, np.bool_)
    outline[y0:y1, x0:x1] = True
    outline[y0 + LINE_PX : y1 - LINE_PX, x0 + LINE_PX : x1 - LINE_PX] = False
    return outline


DETECTOR = Detector("colour", "1", find)
