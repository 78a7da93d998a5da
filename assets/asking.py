"""Questions in SQL as the command line takes them: from an argument or a file, with values by name."""

import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from store import Warehouse
from store.schema import CounterstainError


def ask(warehouse: Warehouse, query: str | None, file: Path | None, values: Sequence[str]) -> pl.DataFrame:
    """Answer one SELECT, given as text or in a file (``-``: standard input).

    Parameters
    ----------
    warehouse
        The warehouse.
    query, file
        One of them.
    values
        ``name=value`` each, bound to ``$name`` as text; DuckDB reads it as what it is compared with.

    Raises
    ------
    CounterstainError
        If there is not just one query, the file cannot be read, a value has no name, or as `Warehouse.sql` says.
    """
    if file is not None and query is None:
        query = _read(file)
    elif query is None or file is not None:
        raise CounterstainError("give one SELECT, or --file with one; `counterstain sql --tables` shows the tables.")
    return warehouse.sql(query, dict(_named(value) for value in values))


def dictionary(described: pl.DataFrame) -> str:
    """Write what `Warehouse.describe` returns for a person, table by table."""
    lines = []
    for _, columns in described.group_by("table", maintain_order=True):
        table, rows, one_row = columns.select("table", "rows", "one_row_is").row(0)
        lines.append(f"{table} ({rows:,} {'row' if rows == 1 else 'rows'}): {one_row or 'unknown'}")
        padded = [columns[name].str.pad_end(max(map(len, columns[name]))) for name in ("column", "type")]
        said = columns["meaning"].fill_null("")
        lines += [f"  {name}  {kind}  {meaning}".rstrip() for name, kind, meaning in zip(*padded, said, strict=True)]
        lines.append("")
    return "\n".join(lines[:-1])


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CounterstainError(f"cannot read {file} as SQL: {error}") from error


def _named(value: str) -> tuple[str, str]:
    name, equals, bound = value.partition("=")
    if not equals or not name.isidentifier():
        raise CounterstainError(f"--param {value!r}: write name=value, for $name in the query.")
    return name, bound
