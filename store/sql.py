"""SQL over the tables: DuckDB reads Lance through Arrow, and reaches nothing else."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from store.schema import TABLES, CounterstainError
from store.views import view_queries

if TYPE_CHECKING:
    import polars as pl

    from store.warehouse import Warehouse

# How DuckDB names a column or a table that it does not find.
_NO_COLUMN = re.compile(r'Referenced column "(.+?)" not found|does not have a column named "(.+?)"')
_NO_TABLE = re.compile(r"Table with name (.+?) does not exist")


def run_query(
    warehouse: "Warehouse", query: str, parameters: Sequence[object] | Mapping[str, object] = ()
) -> "pl.DataFrame":
    """Answer one SELECT; projections and filters are pushed down to Lance.

    Parameters
    ----------
    warehouse
        Every table of it is a view of the same name, all pinned to the versions of this moment; so is every named view,
        with the columns of ``images``.
    query
        One SELECT (or WITH, DESCRIBE, SUMMARIZE …) in DuckDB's dialect.
    parameters
        Values for ``?`` or ``$name`` placeholders.

    Raises
    ------
    CounterstainError
        If the query is not one read-only statement, or DuckDB refuses it; where a table or a column does not exist,
        the message says which do.
    """
    import duckdb

    # From the start, and locked: no file, network, extension, Python variable or setting is within reach.
    connection = duckdb.connect(
        config={"enable_external_access": False, "python_enable_replacements": False, "lock_configuration": True}
    )
    try:
        try:
            statements = connection.extract_statements(query)
        except duckdb.Error as error:
            raise CounterstainError(f"SQL: {error}") from error
        readable = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
        if len(statements) != 1 or statements[0].type not in readable:
            raise CounterstainError("SQL: one SELECT at a time; the tables are read-only here.")
        stored = set(warehouse.tables())
        for name in readable_tables(warehouse):
            source = warehouse.dataset(name) if name in stored else TABLES[name].schema.empty_table()
            connection.register(name, source)
        for name, rows in view_queries(warehouse).items():
            if name not in stored and name not in TABLES:
                connection.execute(f'CREATE VIEW "{name}" AS {rows}')
        try:
            answer: pl.DataFrame = connection.sql(query, params=parameters or None).pl()
            return answer
        except duckdb.Error as error:
            said = str(error)
            if missing := _NO_TABLE.search(said):
                said += "\n" + _about_tables(missing[1], readable_tables(warehouse))
            elif missing := _NO_COLUMN.search(said):
                said += "\n" + _about_columns(missing[1] or missing[2], query, _columns(connection))
            raise CounterstainError(f"SQL: {said}") from error
    finally:
        connection.close()


def readable_tables(warehouse: "Warehouse") -> list[str]:
    """Return the names of all tables that can be asked, sorted: those stored, and those of the design still empty."""
    return sorted({*warehouse.tables(), *TABLES})


def _about_tables(missing: str, known: Sequence[str]) -> str:
    return f"{_closest(missing, known)}Tables: {', '.join(known)}"


def _about_columns(missing: str, query: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Return what helps where a column does not exist: close names, where it is instead, the columns there are."""
    words = set(re.findall(r"\w+", query))
    asked = {table: names for table, names in columns.items() if table in words}
    elsewhere = [table for table, names in columns.items() if missing in names and table not in asked]
    lines = [_closest(missing, {name for names in asked.values() for name in names})]
    if elsewhere:
        lines.append(f"A column of that name is in: {', '.join(elsewhere)}\n")
    lines += [f"Columns of {table}: {', '.join(names)}\n" for table, names in asked.items()]
    return "".join(lines).rstrip("\n")


def _closest(missing: str, known: Iterable[str]) -> str:
    near = get_close_matches(missing.lower(), sorted(known), n=3)
    return f"Closest: {', '.join(near)}\n" if near else ""


def _columns(connection: Any) -> dict[str, list[str]]:
    """Return the columns of every table, both by name."""
    rows = connection.execute(
        "SELECT table_name, list(column_name ORDER BY ordinal_position) FROM information_schema.columns "
        "GROUP BY table_name ORDER BY table_name"
    )
    return dict(rows.fetchall())
