"""Words, logos and scale numbers."""

from collections.abc import Sequence

from pipelines.overlays.item import Detector, Item, Pixels
from pipelines.overlays.terms import Terms
from pipelines.overlays.words import find_words


def find(pixels: Pixels, terms: Terms, before: Sequence[Item]) -> list[Item]:
    """Return what is written."""
    return find_words(pixels, terms)


DETECTOR = Detector("lettering", "3", find)
