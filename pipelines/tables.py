"""Reading a table of text: CSV, TSV or Parquet."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from store.schema import CounterstainError


def read_text_table(path: Path, columns: Iterable[str] = (), key: str | None = None) -> pl.DataFrame:
    """Return a table's cells as text, without the empty rows that spreadsheets leave behind.

    Raises
    ------
    CounterstainError
        If it is missing, cannot be read, lacks one of `columns`, or has a row without its `key`.
    """
    if not path.is_file():
        raise CounterstainError(f"no table at {path} (a CSV, TSV or Parquet file).")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(path)
            frame = frame.select(pl.all().cast(pl.String))
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            frame = pl.read_csv(path, infer_schema=False, separator=separator)
    # A Parquet file whose insides are damaged makes polars panic.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise CounterstainError(f"cannot read the table {path}: {error}") from error
    if missing := [column for column in columns if column not in frame.columns]:
        raise CounterstainError(f"{path} has no column {missing[0]!r}; it has {frame.columns}.")
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if key is not None and frame[key].null_count():
        raise CounterstainError(f"{path} has {frame[key].null_count()} rows without {key!r}.")
    return frame


def is_one(cell: str | None) -> bool:
    """Return whether a cell says 1, as tables of one-hot labels write it; empty, 0 and -1 do not."""
    return (cell or "").strip() in {"1", "1.0"}
