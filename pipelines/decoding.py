"""From an untrusted file to RGB pixels, within limits.

How each kind of image becomes 8-bit RGB: greyscale is repeated into three channels; a palette is looked up; more than
8 bits per channel, or floats, are stretched linearly from the image's own minimum and maximum; transparency is laid
over black, the background of most medical images; CMYK and YCbCr are converted; EXIF orientation is applied; of an
animation or a stack of pages, the first is taken.
"""

import hashlib
import io
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.sources import Payload, UnreadableImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
THUMBNAIL_SIDE_PX = 128

# Above Pillow's pixel limit (about 89 megapixels) an image is an error here, not a warning.
warnings.simplefilter("error", Image.DecompressionBombWarning)

# What Pillow's decoders raise for files that are cut off, damaged or made to harm.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    OverflowError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def content_hash(payload: Payload) -> str:
    """Return the SHA-256 of a file's bytes, or of decoded pixels with their shape, as 64 hexadecimal digits."""
    if isinstance(payload, bytes):
        return hashlib.sha256(payload).hexdigest()
    return hashlib.sha256(repr(payload.shape).encode() + np.ascontiguousarray(payload).tobytes()).hexdigest()


def open_image(payload: Payload) -> Image.Image:
    """Return the image as its file holds it, with its size and mode known and its pixels decoded.

    Raises
    ------
    UnreadableImageError
        If it is no image of a known format, is damaged or cut off, or has more pixels than the limit.
    """
    if not isinstance(payload, bytes):
        if payload.ndim not in (2, 3) or (payload.ndim == 3 and payload.shape[2] != 3) or not payload.size:
            raise UnreadableImageError(f"pixels of shape {payload.shape}, not (h, w) or (h, w, 3)")
        return Image.fromarray(np.ascontiguousarray(payload))
    try:
        image = Image.open(io.BytesIO(payload), formats=FORMATS)
        image.load()
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    except _DECODER_ERRORS as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an upright 8-bit RGB image; the module's docstring says how each kind becomes that.

    Raises
    ------
    UnreadableImageError
        If its orientation tag is damaged or its pixels are not finite.
    """
    try:
        image = ImageOps.exif_transpose(image)
    except _DECODER_ERRORS as error:
        raise UnreadableImageError(f"damaged EXIF data: {error}") from error
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_stretch(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def thumbnail(image: Image.Image) -> bytes:
    """Return a JPEG of an RGB image, `THUMBNAIL_SIDE_PX` on its longer side at most."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _stretch(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableImageError("it has pixels that are not finite")
    low, high = values.min(), values.max()
    if high == low:
        return np.zeros(values.shape, np.uint8)
    stretched: NDArray[np.uint8] = np.round((values - low) * (255 / (high - low))).astype(np.uint8)
    return stretched
