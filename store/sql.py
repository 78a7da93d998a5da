"""SQL over the tables: DuckDB reads Lance through Arrow, and reaches nothing else."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from store.schema import TABLES, CounterstainError
from store.views import view_queries

if TYPE_CHECKING:
    import polars as pl

    from store.warehouse import Warehouse


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
        If the query is not one read-only statement, or DuckDB refuses it (its message names the column or table).
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
        stored = warehouse.tables()
        for name in stored:
            connection.register(name, warehouse.dataset(name))
        for name in TABLES.keys() - set(stored):
            connection.register(name, TABLES[name].schema.empty_table())
        for name, rows in view_queries(warehouse).items():
            if name not in stored and name not in TABLES:
                connection.execute(f'CREATE VIEW "{name}" AS {rows}')
        try:
            answer: pl.DataFrame = connection.sql(query, params=parameters or None).pl()
            return answer
        except duckdb.CatalogException as error:
            raise CounterstainError(f"SQL: {error}\nTables: {', '.join(sorted({*stored, *TABLES}))}") from error
        except duckdb.Error as error:
            raise CounterstainError(f"SQL: {error}") from error
    finally:
        connection.close()
