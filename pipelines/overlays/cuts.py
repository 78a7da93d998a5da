"""Shapes of one bright grey that stand out from whatever they lie on: what is drawn on an image, and not tissue."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.overlays.item import Box

# Grey levels at which an image is cut, and by how many cuts a shape stands out: cut that much lower it has grown by its
# blurred edge alone, where tissue runs into what surrounds it.
_STEP, _STANDS_OUT = 10, 3
_MAX_GROWTH = 1.6


def shapes_that_stand_out(
    grey: NDArray[np.uint8], area_px: tuple[int, int], length_px: tuple[int, int]
) -> Iterator[tuple[Box, NDArray[np.bool_]]]:
    """Yield box and mask of each bright shape of an image, ``(h, w)``, once for every cut at which it stands out.

    Parameters
    ----------
    grey
        The image.
    area_px, length_px
        Least and most of a shape's area and of its longer side.
    """
    cuts = [_components(grey, level) for level in range(_STEP, 256, _STEP)]
    for (parts, stats), (wider, wider_stats) in reversed(list(zip(cuts[_STANDS_OUT:], cuts, strict=False))):
        area_of, longer = stats[:, cv2.CC_STAT_AREA], stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
        fits = (area_px[0] <= area_of) & (area_of <= area_px[1])
        fits &= (length_px[0] <= longer) & (longer <= length_px[1])
        fits[0] = False  # what is darker than the cut
        for part in np.flatnonzero(fits):
            x, y, width, height, area = (int(value) for value in stats[part])
            mask = parts[y : y + height, x : x + width] == part
            grown = int(wider_stats[wider[y, x + int(mask[0].argmax())], cv2.CC_STAT_AREA])
            if grown <= _MAX_GROWTH * area:
                yield (x, y, x + width, y + height), mask


def _components(grey: NDArray[np.uint8], level: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    _, parts, stats, _ = cv2.connectedComponentsWithStats((grey >= level).astype(np.uint8), connectivity=8)
    return parts.astype(np.int32, copy=False), stats.astype(np.int32, copy=False)
