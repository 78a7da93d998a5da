"""Pictures with what may identify someone painted over."""

import io
from collections.abc import Iterable

from PIL import Image, ImageDraw

from pipelines.decoding import FORMATS, thumbnail
from pipelines.overlays.item import Box

COVER = (96, 96, 96)
# Around a box, in px of the thumbnail: letters may reach beyond it, and compression smears them.
_MARGIN_PX = 2


def cover(picture: bytes, width_px: int, height_px: int, boxes: Iterable[Box]) -> bytes:
    """Return a thumbnail anew, with boxes of the image it is of filled in grey.

    Parameters
    ----------
    picture
        The thumbnail's file.
    width_px, height_px
        Size of the image, in whose px the boxes are.
    boxes
        What to cover.
    """
    with Image.open(io.BytesIO(picture), formats=FORMATS) as small:
        covered = small.convert("RGB")
    draw = ImageDraw.Draw(covered)
    across, down = covered.width / width_px, covered.height / height_px
    for x0, y0, x1, y1 in boxes:
        draw.rectangle(
            [x0 * across - _MARGIN_PX, y0 * down - _MARGIN_PX, x1 * across + _MARGIN_PX, y1 * down + _MARGIN_PX],
            fill=COVER,
        )
    return thumbnail(covered)
