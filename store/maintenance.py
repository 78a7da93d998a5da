"""Keeping tables quick: scalar and vector indexes where they pay, compaction, and old versions let go."""

from datetime import timedelta
from typing import TYPE_CHECKING

from store.schema import EMBEDDINGS_PREFIX, STAGING_PREFIX

if TYPE_CHECKING:
    from store.warehouse import Warehouse

# Below this a scan answers a filter as fast as an index.
SCALAR_INDEX_ROWS = 10_000
# Below this a flat search is exact and takes milliseconds.
VECTOR_INDEX_ROWS = 50_000

_SCALAR_INDEXES = {
    "dataset": "BITMAP",
    "label": "BITMAP",
    "text_overlay": "BITMAP",
    "annotation": "BITMAP",
    "image_id": "BTREE",
    "patient": "BTREE",
    "slide": "BTREE",
}


def build_indexes(
    warehouse: "Warehouse",
    table: str,
    *,
    scalar_rows: int = SCALAR_INDEX_ROWS,
    vector_rows: int = VECTOR_INDEX_ROWS,
) -> list[str]:
    """Build the indexes a table is large enough to profit from, and bring those it has up to its newest rows.

    Returns
    -------
    list of str
        Indexed columns.
    """
    handle = warehouse.open_table(table)
    rows = handle.count_rows()
    present = {column for index in handle.list_indices() for column in index.columns}
    if rows >= scalar_rows:
        for column, kind in _SCALAR_INDEXES.items():
            if column in handle.schema.names and column not in present:
                handle.create_scalar_index(column, index_type=kind)
    if rows >= vector_rows and "vector" in handle.schema.names and "vector" not in present:
        # Inverted lists over full vectors: recall stays 1.0 at the default probes, and replacing a partition is cheap.
        handle.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_FLAT")
    if present:
        warehouse.dataset(table).optimize.optimize_indices()
    return sorted({column for index in handle.list_indices() for column in index.columns})


def maintain(warehouse: "Warehouse", *, older_than: timedelta) -> None:
    """Compact every table, index the large ones, and drop versions older than `older_than` that no tag names."""
    for name in warehouse._stored_tables():
        warehouse.dataset(name).optimize.compact_files()
        if name == "images" or name.startswith(EMBEDDINGS_PREFIX):
            build_indexes(warehouse, name)
        age = timedelta(0) if name.startswith(STAGING_PREFIX) else older_than
        warehouse.dataset(name).cleanup_old_versions(older_than=age, error_if_tagged_old_versions=False)
