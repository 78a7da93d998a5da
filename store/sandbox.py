"""One frame as a DuckDB table that a browser may query as it likes: in memory, and within reach of nothing else."""

import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl

# The table, and the column of its rows' numbers.
TABLE = "dataset"
ROW = "__row_index__"
_MEMORY_LIMIT = "4GB"


class QueryError(Exception):
    """DuckDB refuses a query; the message says why."""


class Sandbox:
    """A table `TABLE` whose rows are numbered by `ROW`; safe to use from several threads, one after the other.

    Parameters
    ----------
    rows
        Its columns; rows keep their order, and are numbered from 0.
    """

    def __init__(self, rows: "pl.DataFrame"):
        import duckdb

        # From the start, and locked: no file, network, extension, Python variable or setting is within reach.
        self._connection = duckdb.connect(
            config={
                "enable_external_access": False,
                "python_enable_replacements": False,
                "memory_limit": _MEMORY_LIMIT,
                "lock_configuration": True,
            }
        )
        self._lock = threading.RLock()
        self._create(rows.with_row_index(ROW), "SELECT * FROM added")

    def add_columns(self, columns: "pl.DataFrame") -> None:
        """Add columns, or replace those of the same names: a row for each row of the table, in its order."""
        with self._lock:
            replaced = {name.casefold() for name in columns.columns}  # DuckDB knows no upper case
            names = [name.replace('"', '""') for name in self._columns() if name.casefold() not in replaced]
            kept = ", ".join(f'{TABLE}."{name}"' for name in names)
            self._create(
                columns.with_row_index(ROW),
                f'SELECT {kept}, added.* EXCLUDE ("{ROW}") FROM {TABLE} JOIN added USING ("{ROW}") '
                f'ORDER BY {TABLE}."{ROW}"',
            )

    def _create(self, added: "pl.DataFrame", query: str) -> None:
        with self._lock:
            self._connection.register("added", added.to_arrow())
            self._connection.execute(f"CREATE OR REPLACE TABLE {TABLE} AS {query}")
            self._connection.unregister("added")

    def _columns(self) -> list[str]:
        names: list[str] = self._run(f"DESCRIBE {TABLE}")["column_name"].to_pylist()
        return names

    def answer(self, query: str) -> bytes:
        """Answer SQL with an Arrow IPC stream; of several statements, with that of the last.

        Raises
        ------
        QueryError
            If DuckDB refuses it.
        """
        sink = pa.BufferOutputStream()
        table = self._run(query)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        answer: bytes = sink.getvalue().to_pybytes()
        return answer

    def chosen(self, column: str, predicate: str) -> list[Any]:
        """Return the values of a column in the rows that a predicate chooses.

        Raises
        ------
        QueryError
            If DuckDB refuses the predicate.
        """
        values: list[Any] = self._run(f'SELECT "{column}" FROM {TABLE} WHERE ({predicate}\n)')[column].to_pylist()
        return values

    def _run(self, query: str) -> pa.Table:
        import duckdb

        with self._lock:
            try:
                answer = self._connection.sql(query)
                return pa.table({}) if answer is None else answer.to_arrow_table()
            except duckdb.Error as error:
                raise QueryError(str(error)) from error
