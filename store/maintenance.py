"""Keeping tables quick: scalar and vector indexes where they pay, compaction, and old versions let go."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from store.schema import EMBEDDINGS_PREFIX, STAGING_PREFIX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from store.warehouse import Warehouse

# Below this a scan answers a filter as fast as an index.
SCALAR_INDEX_ROWS = 10_000
# Below this a flat search is exact and takes milliseconds.
VECTOR_INDEX_ROWS = 50_000
# Staged rows are taken once; what was replaced stays on disk for those who are reading it, and no longer.
STAGING_AGE = timedelta(hours=1)

# Words burned into images, for full-text search: at any size, as there is no search without its index.
TEXT_COLUMN = "overlay_text"
_BITMAP_COLUMNS = ("dataset", "label", "text_overlay", "annotation")
_BTREE_COLUMNS = ("image_id", "patient", "slide")


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
    from lancedb.index import FTS, Bitmap, BTree, IvfFlat

    warehouse.check_writable()
    handle = warehouse.open_table(table)
    rows = handle.count_rows()
    present = {column for index in handle.list_indices() for column in index.columns}
    if rows >= scalar_rows:
        for column in (*_BITMAP_COLUMNS, *_BTREE_COLUMNS):
            if column in handle.schema.names and column not in present:
                handle.create_index(column, config=Bitmap() if column in _BITMAP_COLUMNS else BTree())
    if rows >= vector_rows and "vector" in handle.schema.names and "vector" not in present:
        # Inverted lists over full vectors: recall 1.0 at 100,000 rows, and replacing a partition is cheap.
        handle.create_index("vector", config=IvfFlat(distance_type="cosine"))
    if table == "images" and TEXT_COLUMN not in present:
        # Whole words of any language: burned-in text is abbreviations, not sentences.
        handle.create_index(TEXT_COLUMN, config=FTS(stem=False, remove_stop_words=False))
    if present:
        warehouse.dataset(table).optimize.optimize_indices()
    return sorted({column for index in handle.list_indices() for column in index.columns})


def list_centres(warehouse: "Warehouse", encoder: str) -> "NDArray[np.float32] | None":
    """Return the centres ``(lists, d)`` of an encoder's vector index; None where it has none."""
    dataset = warehouse.dataset(EMBEDDINGS_PREFIX + encoder)
    name = next((index.name for index in dataset.describe_indices() if index.field_names == ["vector"]), None)
    if name is None:
        return None
    centres = dataset.centroids(index_name=name)
    return np.asarray(centres.flatten(), np.float32).reshape(len(centres), -1)


def maintain(warehouse: "Warehouse", *, older_than: timedelta) -> None:
    """Compact every table, index the large ones, and drop versions that were replaced `older_than` ago and not tagged.

    Safe beside writers and, unless `older_than` is shorter than they read, beside readers.
    """
    warehouse.check_writable()
    for name in warehouse.tables(staging=True):
        try:
            warehouse.dataset(name).optimize.compact_files()
            if name == "images" or name.startswith(EMBEDDINGS_PREFIX):
                build_indexes(warehouse, name)
        except (OSError, RuntimeError) as error:
            # A writer came first and its rows stand; this table waits for the next time.
            if "commit conflict" not in str(error):
                raise
        staging = name.startswith(STAGING_PREFIX)
        drop_replaced_versions(warehouse.dataset(name), min(older_than, STAGING_AGE) if staging else older_than)


def drop_replaced_versions(dataset: Any, older_than: timedelta) -> None:
    """Drop the versions of a Lance data set that were replaced at least `older_than` ago and that no tag names.

    Lance itself counts from when a version was *written*: a table left alone for a month would lose, at its next
    write, the version that someone is reading just then.
    """
    now = datetime.now()  # naive local time, as Lance's versions have it
    try:
        versions = dataset.versions()
    except (OSError, ValueError) as error:
        if "Not found" not in str(error):
            raise
        return  # another process is just dropping them
    replaced = [old["version"] for old, new in pairwise(versions) if now - new["timestamp"] >= older_than]
    if replaced:
        dataset.cleanup_old_versions(versions=replaced, error_if_tagged_old_versions=False)
