"""A table of images: CSV, TSV or Parquet, one row per image, with a column of paths.

Columns named as those of ``images`` (label, split, patient, slide, text_overlay, …) become these; every other column is
kept as an attribute of the image; a column ``label`` beside a chosen label column as the attribute
``label:label``, which is no background.
Paths are relative to the table.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl

from pipelines.sources import DataSet, Reader, Source, file_state, read_file
from pipelines.tables import read_text_table
from store.schema import GIVEN_COLUMNS, LABEL_PREFIX, CounterstainError, parse_cell

PATH_COLUMNS = ("path", "file", "filename", "uri", "image")
_GIVEN = frozenset({*GIVEN_COLUMNS, "caption", "overlay_boxes", "lesion_box"})


def read(dataset: DataSet) -> Iterator[Source]:
    """Yield the images in the order of the table's rows.

    Raises
    ------
    CounterstainError
        If the table is missing or cannot be read, lacks the column of paths, the label or a group column, names an
        image twice, or holds a cell that does not parse.
    """
    table_path, frame = _read_table(dataset)
    path_column = _path_column(dataset, frame)
    label_column = dataset.label or ("label" if "label" in frame.columns else None)
    meant = {column: column for column in frame.columns if column in _GIVEN}
    if label_column:
        meant["label"] = label_column
    others = {
        column: LABEL_PREFIX + "label" if column == "label" else column
        for column in frame.columns
        if column != path_column and column not in meant.values()
    }
    for row in frame.iter_rows(named=True):
        uri = row[path_column]
        given = {name: _parse(dataset, uri, name, row[column]) for name, column in meant.items()}
        attributes = {name: row[column] for column, name in others.items() if (row[column] or "").strip()}
        yield Source(uri, partial(read_file, table_path.parent / uri), given, attributes)


def fingerprint(dataset: DataSet) -> str:
    """Return a digest of the table and of every image's size and time of modification."""
    table_path, frame = _read_table(dataset)
    digest = hashlib.sha256(table_path.read_bytes())
    for uri in frame[_path_column(dataset, frame)]:
        digest.update(file_state(table_path.parent / uri))
    return digest.hexdigest()[:32]


def _read_table(dataset: DataSet) -> tuple[Path, pl.DataFrame]:
    """Return the table's path and its cells as text."""
    path = dataset.root / "manifest.csv" if dataset.root.is_dir() else dataset.root
    wanted = [column for column in (dataset.label, *dataset.groups) if column is not None]
    try:
        return path, read_text_table(path, wanted)
    except CounterstainError as error:
        raise CounterstainError(f"data set {dataset.name!r}: {error}") from error


def _path_column(dataset: DataSet, frame: pl.DataFrame) -> str:
    column = next((name for name in PATH_COLUMNS if name in frame.columns), None)
    if column is None:
        raise CounterstainError(
            f"data set {dataset.name!r}: the table needs a column of image paths named one of {PATH_COLUMNS}; it has "
            f"{frame.columns}."
        )
    paths = frame[column]
    if nameless := int((paths.fill_null("").str.strip_chars() == "").sum()):
        raise CounterstainError(f"data set {dataset.name!r}: {nameless} rows of the table have no {column!r}.")
    if paths.n_unique() < paths.len():
        twice = paths.filter(paths.is_duplicated())[0]
        raise CounterstainError(f"data set {dataset.name!r}: the table names {twice!r} in more than one row.")
    return column


def _parse(dataset: DataSet, uri: str, column: str, cell: str | None) -> object:
    try:
        return parse_cell(column, cell)
    except CounterstainError as error:
        raise CounterstainError(f"data set {dataset.name!r}, image {uri!r}: {error}") from error


READER = Reader("manifest", read, fingerprint)
