"""What is known of images: written from a source, corrected by a person, and told to every encoder's table."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from store.schema import (
    CORRECTIONS,
    EMBEDDINGS_PREFIX,
    GIVEN_COLUMNS,
    IMAGES,
    METADATA_COLUMNS,
    CounterstainError,
    embeddings_table,
    parse_cell,
)

if TYPE_CHECKING:
    import polars as pl

    from store.warehouse import Warehouse

_FLAG_SOURCES = {
    "text_overlay": "text_overlay_source",
    "overlay_text": "text_overlay_source",
    "annotation": "annotation_source",
    "annotation_kinds": "annotation_source",
}


def write_images(warehouse: "Warehouse", dataset: str, batches: Iterable[pa.RecordBatch]) -> int:
    """Replace a data set's images in one commit, with the corrections made so far applied to them.

    Returns the Lance version that holds them.
    """
    corrections = _stored_corrections(warehouse, dataset)
    corrected = (
        piece for batch in batches for piece in _apply(pa.Table.from_batches([batch]), corrections).to_batches()
    )
    return warehouse.replace_partition(IMAGES, corrected, dataset=dataset)


def read_metadata(warehouse: "Warehouse", dataset: str) -> "pl.DataFrame":
    """Return ``image_id``, ``content_hash``, ``uri`` and the metadata columns of a data set, by image id.

    Raises
    ------
    CounterstainError
        If the data set has no images yet.
    """
    import polars as pl

    columns = ["image_id", "content_hash", "uri", *METADATA_COLUMNS]
    frame = warehouse.frame("images").filter(pl.col("dataset") == dataset).select(columns).sort("image_id").collect()
    if frame.is_empty():
        raise CounterstainError(
            f"no images of data set {dataset!r} yet: run `counterstain materialize --dataset {dataset} --asset images`."
        )
    return frame


def correct(warehouse: "Warehouse", dataset: str, corrections: "pl.DataFrame") -> int:
    """Overwrite what is known of images, in ``images`` and in every embeddings table, without encoding.

    Corrections are kept in their own table and applied again whenever the images are read anew.

    Parameters
    ----------
    warehouse
        The warehouse.
    dataset
        Data set whose images are corrected.
    corrections
        A row per image: ``image_id`` or ``uri``, and any of `store.schema.GIVEN_COLUMNS`; cells of text are parsed by
        `store.schema.parse_cell`. A null cell leaves the value as it is.

    Returns
    -------
    int
        Images corrected.

    Raises
    ------
    CounterstainError
        If a column cannot be corrected or an image is not in the data set; nothing is written then.
    """
    columns = [c for c in corrections.columns if c not in ("image_id", "uri")]
    if unknown := [c for c in columns if c not in GIVEN_COLUMNS]:
        raise CounterstainError(f"cannot correct {unknown}: correctable columns are {list(GIVEN_COLUMNS)}.")
    image_ids = resolve_image_ids(warehouse, dataset, corrections)
    now = datetime.now(UTC)
    rows = [
        {
            "dataset": dataset,
            "image_id": image_id,
            "column": column,
            "value": json.dumps(value),
            "corrected_at": now,
        }
        for column in columns
        for image_id, value in zip(image_ids, _parsed(column, corrections[column]), strict=True)
        if value is not None
    ]
    if not rows:
        return 0
    warehouse.upsert(CORRECTIONS, rows)
    columns_read = ["dataset", "image_id", *METADATA_COLUMNS]
    stored = warehouse.dataset("images").to_table(columns=columns_read, filter=_equals_dataset(dataset))
    corrected = _apply(stored, _stored_corrections(warehouse, dataset))
    warehouse.update_columns(IMAGES, corrected)
    for encoder in warehouse.encoders():
        refresh_metadata(warehouse, encoder, dataset)
    return len({row["image_id"] for row in rows})


def refresh_metadata(warehouse: "Warehouse", encoder: str, dataset: str) -> None:
    """Bring the metadata in an encoder's table up to that in ``images``, leaving its vectors alone."""
    columns = ["dataset", "image_id", *METADATA_COLUMNS]
    wanted = warehouse.dataset("images").to_table(columns=columns, filter=_equals_dataset(dataset))
    table = warehouse.dataset(EMBEDDINGS_PREFIX + encoder)
    stored = table.to_table(columns=columns, filter=_equals_dataset(dataset))
    changed = _rows_that_differ(wanted, stored)
    if changed.num_rows:
        dimension = table.schema.field("vector").type.list_size
        warehouse.update_columns(embeddings_table(encoder, dimension), changed)


def resolve_image_ids(warehouse: "Warehouse", dataset: str, rows: "pl.DataFrame") -> list[str]:
    """Return the image id of each row of a user's table, which names images by ``image_id`` or by ``uri``.

    Raises
    ------
    CounterstainError
        If it has neither column, or names an image that the data set does not have, or one image twice.
    """
    named_by = next((c for c in ("image_id", "uri") if c in rows.columns), None)
    if named_by is None:
        raise CounterstainError(f"the table needs a column 'image_id' or 'uri'; it has {rows.columns}.")
    known = read_metadata(warehouse, dataset)
    ids = dict(zip(known[named_by], known["image_id"], strict=True))
    names = rows[named_by].to_list()
    if missing := [name for name in names if name not in ids]:
        raise CounterstainError(
            f"{len(missing)} of {len(names)} rows name no image of data set {dataset!r} by {named_by}, "
            f"first: {missing[:3]}."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CounterstainError(f"{named_by} {twice!r} is named by more than one row.")
    return [ids[name] for name in names]


def _stored_corrections(warehouse: "Warehouse", dataset: str) -> "pl.DataFrame":
    import polars as pl

    return warehouse.frame("corrections").filter(pl.col("dataset") == dataset).collect()


def _parsed(column: str, values: "pl.Series") -> list[object]:
    return [parse_cell(column, v) if isinstance(v, str) else v for v in values.to_list()]


def _apply(table: pa.Table, corrections: "pl.DataFrame") -> pa.Table:
    """Return `table` with the corrected cells put in."""
    positions = {image_id: i for i, image_id in enumerate(table["image_id"].to_pylist())}
    cells: dict[str, list[Any]] = {}
    for image_id, column, value in corrections.select("image_id", "column", "value").iter_rows():
        if image_id not in positions:
            continue
        for name, new in ((column, json.loads(value)), (_FLAG_SOURCES.get(column), "corrected")):
            if name is not None:
                cells.setdefault(name, table[name].to_pylist())[positions[image_id]] = new
    for name, values in cells.items():
        index = table.schema.get_field_index(name)
        field = table.schema.field(name)
        table = table.set_column(index, field, pa.array(values, field.type))
    return table


def _rows_that_differ(wanted: pa.Table, stored: pa.Table) -> pa.Table:
    """Return the rows of `wanted` whose image is in `stored` with another value in any column."""
    before = {row["image_id"]: row for row in stored.to_pylist()}
    keep = [i for i, row in enumerate(wanted.to_pylist()) if before.get(row["image_id"], row) != row]
    return wanted.take(pa.array(keep, pa.int64()))


def _equals_dataset(dataset: str) -> str:
    from store.warehouse import equals

    return equals({"dataset": dataset})
