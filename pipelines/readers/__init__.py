"""Readers of data-set layouts: each module declares one ``READER``; other distributions add theirs by entry point."""

import sys
from functools import cache

from pipelines.discovery import discover
from pipelines.sources import DataSet, Reader
from store.schema import CounterstainError


@cache
def readers() -> dict[str, Reader]:
    """Return the registered readers by name."""
    return discover(sys.modules[__name__], "READER", "counterstain.readers", Reader)


def reader_of(dataset: DataSet) -> Reader:
    """Return the reader of a data set, or raise `CounterstainError` naming those there are."""
    if dataset.reader not in readers():
        raise CounterstainError(f"no reader {dataset.reader!r}; readers: {', '.join(sorted(readers()))}.")
    return readers()[dataset.reader]
