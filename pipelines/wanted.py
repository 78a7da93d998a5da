"""Images that were read before, opened again: the same content, or a clear error."""

from dataclasses import dataclass

from PIL import Image

from pipelines.decoding import content_hash, open_image, to_rgb
from pipelines.sources import Source, UnreadableImageError
from store.schema import CounterstainError


@dataclass(frozen=True)
class Wanted:
    """An image to work on: its id, and the content it had when its row in ``images`` was made."""

    image_id: str
    content_hash: str


def open_wanted(source: Source, wanted: Wanted) -> tuple[Image.Image, Image.Image]:
    """Return the image as its file holds it, and upright in 8-bit RGB.

    Raises
    ------
    CounterstainError
        If it is no longer what it was when ``images`` was made.
    """
    try:
        payload = source.load()
        if content_hash(payload) != wanted.content_hash:
            raise UnreadableImageError("its content is another")
        image = open_image(payload)
        return image, to_rgb(image)
    except UnreadableImageError as error:
        raise CounterstainError(
            f"image {source.uri!r} has changed since the images were read: {error}. Materialize `images` again."
        ) from error
