"""Findings in: a polars frame becomes one partition of a table of results."""

from typing import TYPE_CHECKING

from store.schema import TableSpec

if TYPE_CHECKING:
    import polars as pl

    from store.warehouse import Warehouse


def write_results(warehouse: "Warehouse", spec: TableSpec, rows: "pl.DataFrame", **partition: str) -> int:
    """Replace a partition of a table of results; returns the Lance version that holds it.

    Parameters
    ----------
    warehouse
        The warehouse.
    spec
        A table whose rows are identified by their place.
    rows
        Its columns but ``row``, and but those named by `partition`; further columns are an error.
    partition
        Data set and encoder, where the table is partitioned by them.

    Raises
    ------
    ValueError
        If columns are missing or left over.
    """
    import polars as pl

    named = rows.with_columns(pl.lit(value).alias(name) for name, value in partition.items())
    numbered = named.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("row"))
    if difference := set(numbered.columns) ^ set(spec.schema.names):
        raise ValueError(f"{spec.name}: columns missing or left over: {sorted(difference)}")
    return warehouse.replace_partition(spec, numbered.select(spec.schema.names).to_arrow(), **partition)
