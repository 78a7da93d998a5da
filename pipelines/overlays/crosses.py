"""Crisp upright crosses by their shape: four even arms that end, with darker quarters between them."""

from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

# In px at the working size, from the centre to the end of an arm.
_ARMS_PX = range(4, 10)
# The quarters begin so far from the centre, beyond half of the thickest line.
_BESIDE_PX = 2
# A cross that stands out by so many grey levels is certain.
_CLEAR_LEVELS = 50
_MARGIN_PX = max(_ARMS_PX) + _BESIDE_PX


def crossness(grey: Grey) -> NDArray[np.float32]:
    """Return how likely each place of an image, ``(h, w)`` at the working size, is the centre of a cross, 0 to 1.

    That is by how much the darkest place of its arms is brighter than three of the quarters and than what lies beyond
    three of the ends: the fourth may meet something bright.
    """
    padded = np.pad(grey, _MARGIN_PX, mode="edge")
    levels: Grey = reduce(np.maximum, (_of_arm(grey, padded, arm) for arm in _ARMS_PX))
    return levels.astype(np.float32) / np.float32(_CLEAR_LEVELS)


def _of_arm(grey: Grey, padded: Grey, arm: int) -> Grey:
    """Return by how many grey levels crosses of one size stand out, `_CLEAR_LEVELS` at most."""
    height, width = grey.shape
    upright, level = (cv2.erode(grey, np.ones(size, np.uint8)) for size in ((2 * arm + 1, 1), (1, 2 * arm + 1)))
    side = arm - _BESIDE_PX
    # The mean of the square whose first pixel a place is.
    means = np.asarray(cv2.blur(padded, (side, side), anchor=(0, 0)), np.uint8)

    def shifted(values: Grey, down: int, right: int) -> Grey:
        top, left = _MARGIN_PX + down, _MARGIN_PX + right
        return values[top : top + height, left : left + width]

    near, far, end = _BESIDE_PX, -_BESIDE_PX - side + 1, arm + 2
    quarters = [shifted(means, down, right) for down in (near, far) for right in (near, far)]
    beyond = [shifted(padded, *place) for place in ((end, 0), (-end, 0), (0, end), (0, -end))]
    background = cv2.max(_second_brightest(*quarters), _second_brightest(*beyond))
    stands_out = cv2.subtract(cv2.min(upright, level), background)  # not below 0
    return np.minimum(np.asarray(stands_out, np.uint8), np.uint8(_CLEAR_LEVELS))


def _second_brightest(one: Grey, two: Grey, three: Grey, four: Grey) -> Grey:
    both = cv2.min(cv2.max(one, two), cv2.max(three, four))
    return np.asarray(cv2.max(both, cv2.max(cv2.min(one, two), cv2.min(three, four))), np.uint8)
