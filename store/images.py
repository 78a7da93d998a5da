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
from store.warehouse import equals

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
    version = warehouse.replace_partition(IMAGES, corrected, dataset=dataset)
    # A correction made while the rows were on their way.
    return _correct_stored(warehouse, dataset) or version


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
        If a column cannot be corrected, a cell is not of its type, or an image is not in the data set or named twice;
        nothing is written then.
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
    _correct_stored(warehouse, dataset)
    for encoder in warehouse.encoders():
        refresh_metadata(warehouse, encoder, dataset)
    return len({row["image_id"] for row in rows})


def refresh_metadata(warehouse: "Warehouse", encoder: str, dataset: str) -> None:
    """Bring the metadata in an encoder's table up to that in ``images``, leaving its vectors alone."""
    columns = ["dataset", "image_id", *METADATA_COLUMNS]
    where = equals({"dataset": dataset})
    wanted = warehouse.dataset("images").to_table(columns=columns, filter=where)
    table = warehouse.dataset(EMBEDDINGS_PREFIX + encoder)
    changed = _rows_that_differ(wanted, table.to_table(columns=columns, filter=where))
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
    if twice := rows[named_by].filter(rows[named_by].is_duplicated()).to_list():
        raise CounterstainError(f"{named_by} {twice[0]!r} is named by more than one row.")
    return [ids[name] for name in names]


def _stored_corrections(warehouse: "Warehouse", dataset: str) -> "pl.DataFrame":
    import polars as pl

    return warehouse.frame("corrections").filter(pl.col("dataset") == dataset).collect()


def _correct_stored(warehouse: "Warehouse", dataset: str) -> int | None:
    """Apply the corrections to ``images``; return the Lance version where that changed something."""
    corrections = _stored_corrections(warehouse, dataset)
    touched = {name for column in corrections["column"].unique() for name in _columns_set_by(column)}
    if not touched:
        return None
    # Only what is corrected is read and written: the rest may be written anew by another process meanwhile.
    columns = ["dataset", "image_id", *sorted(touched)]
    stored = warehouse.dataset("images").to_table(columns=columns, filter=equals({"dataset": dataset}))
    changed = _rows_that_differ(_apply(stored, corrections), stored)
    return warehouse.update_columns(IMAGES, changed) if changed.num_rows else None


def _columns_set_by(column: str) -> list[str]:
    """Columns that a correction of `column` sets: itself, and where a flag came from."""
    return [column, _FLAG_SOURCES[column]] if column in _FLAG_SOURCES else [column]


def _parsed(column: str, values: "pl.Series") -> list[object]:
    # A table read from CSV has numbers where the text looks like one.
    cells = [v if v is None or isinstance(v, list) else parse_cell(column, str(v)) for v in values.to_list()]
    try:
        pa.array(cells, IMAGES.schema.field(column).type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise CounterstainError(f"column {column!r}: {error}") from error
    return cells


def _apply(table: pa.Table, corrections: "pl.DataFrame") -> pa.Table:
    """Return `table` with the corrected cells put in."""
    positions = {image_id: i for i, image_id in enumerate(table["image_id"].to_pylist())}
    cells: dict[str, list[Any]] = {}
    for image_id, column, value in corrections.select("image_id", "column", "value").iter_rows():
        if image_id not in positions:
            continue
        for name in _columns_set_by(column):
            if name not in cells:
                cells[name] = table[name].to_pylist()
            cells[name][positions[image_id]] = json.loads(value) if name == column else "corrected"
    for name, values in cells.items():
        index = table.schema.get_field_index(name)
        field = table.schema.field(name)
        table = table.set_column(index, field, pa.array(values, field.type))
    return table


def _rows_that_differ(wanted: pa.Table, stored: pa.Table) -> pa.Table:
    """Return the rows of `wanted` whose image is in `stored` with another value in any column."""
    import polars as pl

    columns = [name for name in wanted.column_names if name not in ("dataset", "image_id")]
    before = pl.DataFrame(stored).select("image_id", pl.struct(columns).alias("before"))
    now = pl.DataFrame(wanted).with_row_index("row").select("row", "image_id", pl.struct(columns).alias("now"))
    differing = now.join(before, on="image_id").filter(pl.col("now").ne_missing(pl.col("before")))
    return wanted.take(differing["row"].sort().to_arrow())
