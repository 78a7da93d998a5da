"""How the command line prints: tables for people, JSON, CSV and Parquet for other programs."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import typer

from store.schema import CounterstainError

MAX_ROWS = 200


def print_answer(
    answer: pl.DataFrame, as_json: bool, as_csv: bool, shown: pl.DataFrame | None = None, parquet: Path | None = None
) -> None:
    """Print an answer for another program, or as `shown` for a person; or write it to a Parquet file.

    Raises
    ------
    CounterstainError
        If more than one form is asked for, or the file cannot be written.
    """
    if as_json + as_csv + (parquet is not None) > 1:
        raise CounterstainError("one of --json, --csv and --parquet at a time.")
    if as_json:
        typer.echo(json.dumps(answer.to_dicts(), default=_plain, ensure_ascii=False))
    elif as_csv:
        typer.echo(_flat(answer).write_csv(), nl=False)
    elif parquet is not None:
        try:
            answer.write_parquet(parquet)
        except OSError as error:
            raise CounterstainError(f"cannot write {parquet}: {error}") from error
        typer.echo(f"{parquet}: {answer.height} rows")
    else:
        print_frame(answer if shown is None else shown)


def print_frame(frame: pl.DataFrame) -> None:
    """Print a frame as `as_text` writes it, and say how many rows there are where some are left out."""
    typer.echo(as_text(frame))
    if frame.height > MAX_ROWS:
        typer.echo(f"{frame.height} rows; --csv prints them all")


def as_text(frame: pl.DataFrame) -> str:
    """Write a frame whole, with bytes counted and control characters as codes: words are read off images."""
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    blobs = [name for name, kind in frame.schema.items() if kind == pl.Binary]
    frame = frame.with_columns(
        *(pl.Series(name, [_printable(value) for value in frame[name]], dtype=pl.String) for name in texts),
        *(pl.format("<{} bytes>", pl.col(name).bin.size()).alias(name) for name in blobs),
    )
    with pl.Config(
        tbl_rows=MAX_ROWS, tbl_cols=-1, tbl_width_chars=10_000, fmt_str_lengths=1_000, tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True, tbl_formatting="UTF8_BORDERS_ONLY", tbl_cell_numeric_alignment="RIGHT",
    ):  # fmt: skip
        return str(frame)


def print_card(thing: Any) -> None:
    """Print a record field by field; what is empty is left out."""
    for field in fields(thing):
        value = getattr(thing, field.name)
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count:,}" for key, count in value.items())
        if isinstance(value, tuple):
            value = "; ".join(value)
        if value not in (None, ""):
            typer.echo(f"{field.name + ':':<13}{value}")


def _printable(text: str | None) -> str | None:
    if text is None or text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Write lists as JSON, as CSV has none."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind == pl.Binary]
    return frame.with_columns(
        pl.Series(name, [json.dumps(value, default=_plain) for value in frame[name].to_list()]) for name in nested
    )


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
