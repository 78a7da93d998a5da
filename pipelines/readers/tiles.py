"""Tiles of whole slides, named by a table: a row per tile, read out of its slide when it is needed.

The table (CSV, TSV or Parquet) has a column ``slide``, a file below the table's folder, and ``x`` and ``y``, the tile's
upper left corner in pixels of the full resolution; ``width`` and ``height`` in pixels of the tile (224 if there are
none) and ``level``, the slide's pyramid level (0). Other columns are as in ``manifest``. Tiles of one slide are one
group. Where a slide holds nothing, a tile is white.

Source: https://openslide.org/api/python.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.decoding import MAX_PIXELS
from pipelines.sources import DataSet, Reader, Source, UnreadableImageError, check_file, file_state
from pipelines.tables import read_text_table
from pipelines.trees import place_in
from store.schema import GIVEN_COLUMNS, LABEL_PREFIX, CounterstainError, parse_cell

_DEFAULTS = {"width": 224, "height": 224, "level": 0}
_PLACE = ("slide", "x", "y", *_DEFAULTS)
_GIVEN = frozenset({*GIVEN_COLUMNS, "caption", "overlay_boxes", "lesion_box"})
# Slides kept open: each holds a cache of its own.
_OPEN_SLIDES = 4


def read(dataset: DataSet) -> Iterator[Source]:
    """Yield the tiles in the order of the table's rows.

    Raises
    ------
    CounterstainError
        If the table is missing or lacks a column, a cell does not parse, a tile is named twice, or OpenSlide is not
        installed.
    """
    _openslide()
    table = _table(dataset)
    seen: set[str] = set()
    for row in table.iter_rows(named=True):
        x, y, width, height, level = (_number(dataset, row, name) for name in ("x", "y", *_DEFAULTS))
        uri = f"{row['slide']}#{level}:{x},{y},{width}x{height}"
        if uri in seen:
            raise CounterstainError(
                f"data set {dataset.name!r}: the table names the tile {uri!r} in more than one row."
            )
        seen.add(uri)
        label = dataset.label or "label"
        given: dict[str, object] = {"slide": row["slide"]}
        attributes: dict[str, str] = {}
        for name, cell in row.items():
            if name == label:
                given["label"] = parse_cell("label", cell)
            elif name in _GIVEN and name not in ("slide", "label"):
                given[name] = _parsed(dataset, uri, name, cell)
            elif name not in _PLACE and (cell or "").strip():
                attributes[LABEL_PREFIX + name if name == "label" else name] = cell
        path = _slide(dataset, row["slide"])
        yield Source(uri, partial(_tile, path, (x, y), level, (width, height)), given, attributes)


def fingerprint(dataset: DataSet) -> str:
    """Return a digest of the table and of every slide's size and time of modification."""
    table = _table(dataset)
    digest = hashlib.sha256(dataset.root.read_bytes())
    for slide in table["slide"].unique(maintain_order=True):
        digest.update(file_state(_slide(dataset, slide)))
    return digest.hexdigest()[:32]


def _table(dataset: DataSet) -> pl.DataFrame:
    wanted = [column for column in (dataset.label, *dataset.groups) if column is not None]
    try:
        return read_text_table(dataset.root, ["slide", "x", "y", *wanted], key="slide")
    except CounterstainError as error:
        raise CounterstainError(f"data set {dataset.name!r}: {error}") from error


def _slide(dataset: DataSet, name: str) -> Path:
    try:
        return place_in(dataset.root.parent, name)
    except CounterstainError as error:
        raise CounterstainError(f"data set {dataset.name!r}: {error}") from error


def _number(dataset: DataSet, row: dict[str, Any], name: str) -> int:
    cell = (row.get(name) or "").strip()
    if not cell and name in _DEFAULTS:
        return _DEFAULTS[name]
    if not cell.isascii() or not cell.isdigit() or len(cell) > 9:
        raise CounterstainError(
            f"data set {dataset.name!r}, slide {row['slide']!r}: {name!r}: {cell!r} is not a whole number of pixels."
        )
    return int(cell)


def _parsed(dataset: DataSet, uri: str, column: str, cell: str | None) -> object:
    try:
        return parse_cell(column, cell)
    except CounterstainError as error:
        raise CounterstainError(f"data set {dataset.name!r}, tile {uri!r}: {error}") from error


def _tile(path: Path, place: tuple[int, int], level: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    openslide = _openslide()
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise UnreadableImageError(f"{size[0]} × {size[1]} pixels, which is none or above the limit of {MAX_PIXELS:,}")
    check_file(path)
    try:
        slide = _opened(path, file_state(path))
        if level >= slide.level_count:
            raise UnreadableImageError(f"the slide has {slide.level_count} levels, no level {level}")
        if place[0] >= slide.dimensions[0] or place[1] >= slide.dimensions[1]:
            raise UnreadableImageError(f"{place} is outside the slide of {slide.dimensions} px")
        region = slide.read_region(place, level, size)
    except (openslide.OpenSlideError, OSError) as error:
        raise UnreadableImageError(f"OpenSlide cannot read it: {error}") from error
    values = np.asarray(region)
    # OpenSlide leaves what a scanner did not see transparent.
    shown: NDArray[np.uint8] = np.where(values[..., 3:] == 0, np.uint8(255), values[..., :3])
    return np.ascontiguousarray(shown)


@lru_cache(maxsize=_OPEN_SLIDES)
def _opened(path: Path, _state: bytes) -> Any:
    """Open a slide, or return it where it is open; a file that changed is opened anew."""
    return _openslide().OpenSlide(path)


def _openslide() -> Any:
    try:
        import openslide
    except (ModuleNotFoundError, OSError) as error:  # the package without the library
        raise CounterstainError(
            "reading tiles of slides needs OpenSlide: pip install 'counterstain[slides]'."
        ) from error
    return openslide


READER = Reader("tiles", read, fingerprint)
