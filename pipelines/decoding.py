"""From an untrusted file to RGB pixels, within limits.

How each kind of image becomes 8-bit RGB: greyscale is repeated into three channels; a palette is looked up; greyscale
of more than 8 bits, or of floats, is stretched linearly from the image's own minimum and maximum; of 16-bit colour the
upper 8 bits are kept; transparency is laid over black, the background of most medical images; CMYK and YCbCr are
converted; EXIF orientation is applied; of an animation or a stack of pages, the first is taken.
"""

import hashlib
import io
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from pipelines.sources import Payload, UnreadableImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
# Pillow warns above this and refuses above twice as many; here it is the limit.
MAX_PIXELS = 89_478_485
THUMBNAIL_SIDE_PX = 128

# What Pillow's decoders raise for files that are cut off, damaged or made to harm.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    struct.error,
    OverflowError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where warnings are errors
)

# What brings an image of each EXIF orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
        shaped = payload.ndim == 2 or (payload.ndim == 3 and payload.shape[2] == 3)
        if not shaped or not payload.size or payload.dtype != np.uint8:
            raise UnreadableImageError(
                f"pixels of shape {payload.shape} and type {payload.dtype}, not (h, w) or (h, w, 3) uint8"
            )
        return Image.fromarray(np.ascontiguousarray(payload))
    try:
        image = Image.open(io.BytesIO(payload), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImageError(f"{image.width} × {image.height} pixels, above the limit of {MAX_PIXELS:,}")
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
        If its EXIF data is damaged or its pixels are not finite.
    """
    # Not ImageOps.exif_transpose: that writes the EXIF data anew, which fails on tags that matter to nobody here.
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DECODER_ERRORS as error:
        raise UnreadableImageError(f"damaged EXIF data: {error}") from error
    if turn is not None:
        image = image.transpose(turn)
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


def mask_box(masks: Sequence[Payload]) -> list[int] | None:
    """Return the box ``[x0, y0, x1, y1]`` in px, half-open, around all that is not black in masks of one image.

    None where nothing is marked.

    Raises
    ------
    UnreadableImageError
        If a mask cannot be read.
    """
    boxes = [box for mask in masks if (box := open_image(mask).convert("L").getbbox()) is not None]
    if not boxes:
        return None
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return [min(lefts), min(tops), max(rights), max(bottoms)]


def _stretch(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableImageError("it has pixels that are not finite")
    values -= values.min()
    high = values.max()
    if high > 0:
        values *= 255 / high
    stretched: NDArray[np.uint8] = values.round(out=values).astype(np.uint8)
    return stretched
