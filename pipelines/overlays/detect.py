"""Sources to what is burned into them: decode, find, describe, an image at a time in each of several threads."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.overlays.attributes import Attributes, describe
from pipelines.overlays.detectors import find_items
from pipelines.overlays.item import MARKS, Box, Item
from pipelines.overlays.terms import Terms
from pipelines.sources import Source
from pipelines.threads import map_ordered
from pipelines.wanted import Wanted, open_wanted

log = logging.getLogger("counterstain.overlays")


@dataclass(frozen=True)
class Found:
    """What was found on one image; `failed` says why nothing could be, where a detector gave up on it."""

    image_id: str
    items: tuple[Item, ...]
    attributes: Attributes
    failed: str | None = None

    @property
    def words(self) -> tuple[Item, ...]:
        """The words alone: no logo, no scale."""
        return tuple(item for item in self.items if item.kind == "word")

    @property
    def overlay_text(self) -> str | None:
        """The words from the top down, but for those that may identify someone."""
        return " ".join(word.text or "" for word in self.words if not word.possible_identifying) or None

    @property
    def overlay_boxes(self) -> list[Box]:
        """A box for each line of words."""
        return [word.box for word in self.words]

    @property
    def annotation_kinds(self) -> list[str]:
        """Kinds of marks, each once."""
        return sorted({item.kind for item in self.items if item.kind in MARKS})


def detect(
    sources: Iterable[Source], wanted: Mapping[str, Wanted], terms: Terms, *, workers: int = 2
) -> Iterator[Found]:
    """Yield what is found on the wanted images, in the sources' order.

    Parameters
    ----------
    sources
        What a reader yields; those not in `wanted` are passed over unread.
    wanted
        Images to look at, by uri.
    terms
        Terms of the field.
    workers
        Threads; the libraries that do the work release the interpreter lock.

    A detector that fails on an image, by its size or its pixels, is named in `Found.failed`, and the rest goes on.

    Raises
    ------
    CounterstainError
        If an image is no longer what it was when ``images`` was made.
    """
    import cv2
    import torch
    from rapidocr.inference_engine.onnxruntime import ONNXRuntimeError

    # What the libraries raise on pixels that they cannot take, torch a plain RuntimeError; anything else is a defect,
    # and stops the run.
    expected = (cv2.error, ONNXRuntimeError, RuntimeError, MemoryError)

    def look_at(source: Source) -> Found:
        image, upright = open_wanted(source, wanted[source.uri])
        pixels = np.asarray(upright)
        image_id, attributes = wanted[source.uri].image_id, describe(image, pixels)
        try:
            return Found(image_id, tuple(find_items(pixels, terms)), attributes)
        except expected as error:
            log.warning("%s: not searched for overlays: %s", source.uri, error)
            return Found(image_id, (), attributes, failed=f"{type(error).__name__}: {error}")

    chosen = (source for source in sources if source.uri in wanted)
    cores = torch.get_num_threads()
    # As in `pipelines.encode`: the threads together fill the cores and no more.
    torch.set_num_threads(max(1, cores // workers))
    try:
        for _, found in map_ordered(look_at, chosen, workers, look_ahead=2 * workers):
            yield found
    finally:
        torch.set_num_threads(cores)
