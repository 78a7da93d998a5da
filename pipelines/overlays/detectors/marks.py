"""Callipers and arrows."""

from collections.abc import Sequence

from pipelines.overlays.item import Detector, Item, Pixels
from pipelines.overlays.marks import find_marks
from pipelines.overlays.terms import Terms


def find(pixels: Pixels, terms: Terms, before: Sequence[Item]) -> list[Item]:
    """Return what a reader drew, outside what was read as words before: letters have crossings of their own."""
    return find_marks(pixels, [item.box for item in before if item.text and sum(map(str.isalpha, item.text)) > 1])


DETECTOR = Detector("marks", "4", find)
