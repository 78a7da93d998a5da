"""Detectors: each module declares one ``DETECTOR``; other distributions add theirs by entry point."""

import hashlib
import re
import sys
from collections.abc import Sequence
from functools import cache

from pipelines.discovery import discover
from pipelines.overlays.item import Box, Detector, Item, Pixels
from pipelines.overlays.terms import Terms


@cache
def detectors() -> dict[str, Detector]:
    """Return the registered detectors by name, in the order in which they run."""
    return discover(sys.modules[__name__], "DETECTOR", "counterstain.detectors", Detector)


def find_items(pixels: Pixels, terms: Terms) -> list[Item]:
    """Return all that the detectors find on an image, ``(h, w, 3)`` uint8."""
    found: list[Item] = []
    for detector in detectors().values():
        found += detector.find(pixels, terms, found)
    callipers = [item.box for item in found if item.kind == "calliper"]
    return [item for item in found if not _numbers_a_calliper(item, callipers)]


def _numbers_a_calliper(item: Item, callipers: Sequence[Box]) -> bool:
    """Return whether what was read is the cross itself, or the number beside it: part of the mark, and no word."""
    if item.kind != "word" or not re.fullmatch(r"[x+]?\s*\d?\s*[x+]?", item.text or "", re.IGNORECASE):
        return False
    x0, y0, x1, y1 = item.box
    # Within a cross's width of its box.
    return any(
        x0 < c1 + (c1 - c0) and x1 > c0 - (c1 - c0) and y0 < d1 + (d1 - d0) and y1 > d0 - (d1 - d0)
        for c0, d0, c1, d1 in callipers
    )


def detectors_fingerprint(terms: Terms) -> str:
    """Return a digest that changes when a detector or the terms do."""
    versions = [(detector.name, detector.version) for detector in detectors().values()]
    return hashlib.sha256(repr((versions, terms.version)).encode()).hexdigest()[:32]
