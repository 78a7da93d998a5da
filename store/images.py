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
    GROUP_CORRECTION,
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

# The columns that have one source, by the column that names it; the flag itself comes first.
_FLAG_COLUMNS = {
    "text_overlay_source": ("text_overlay", "overlay_text", "overlay_boxes"),
    "annotation_source": ("annotation", "annotation_kinds"),
}
_FLAG_SOURCES = {name: source for source, names in _FLAG_COLUMNS.items() for name in names}
_DETECTED_COLUMNS = tuple(name for source, names in _FLAG_COLUMNS.items() for name in (source, *names))


def write_images(warehouse: "Warehouse", dataset: str, batches: Iterable[pa.RecordBatch]) -> int:
    """Replace a data set's images in one commit, with what was detected and corrected so far applied to them.

    Returns the Lance version that holds them. What encoders' tables know of the images follows.
    """
    corrections = _stored_corrections(warehouse, dataset)
    detected = _stored_detections(warehouse, dataset)
    corrected = (
        piece
        for batch in batches
        for piece in _apply(_fill(pa.Table.from_batches([batch]), detected), corrections).to_batches()
    )
    version = warehouse.replace_partition(IMAGES, corrected, dataset=dataset)
    # A correction made while the rows were on their way.
    version = _correct_stored(warehouse, dataset) or version
    _refresh_all(warehouse, dataset)
    return version


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
        A row per image: ``image_id`` or ``uri``, and any of `store.schema.GIVEN_COLUMNS` and `GROUP_CORRECTION`. The
        latter names its group of duplicates, which the table ``duplicates`` follows when it is made next. Cells of text
        are parsed by `store.schema.parse_cell`; a null cell leaves the value as it is.

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
    correctable = [*GIVEN_COLUMNS, GROUP_CORRECTION]
    if unknown := [c for c in columns if c not in correctable]:
        raise CounterstainError(f"cannot correct {unknown}: correctable columns are {correctable}.")
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
    # Where a flag says yes again, what was detected is put back.
    fill_detected(warehouse, dataset)
    return len({row["image_id"] for row in rows})


def fill_detected(warehouse: "Warehouse", dataset: str) -> None:
    """Bring the flags of a data set up to what was detected, where nobody gave or corrected them, everywhere."""
    columns = ["dataset", "image_id", *_DETECTED_COLUMNS]
    stored = warehouse.dataset("images").to_table(columns=columns, filter=equals({"dataset": dataset}))
    changed = _rows_that_differ(_fill(stored, _stored_detections(warehouse, dataset)), stored)
    if changed.num_rows:
        warehouse.update_columns(IMAGES, changed)
    # A correction made meanwhile.
    _correct_stored(warehouse, dataset)
    _refresh_all(warehouse, dataset)


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


def _refresh_all(warehouse: "Warehouse", dataset: str) -> None:
    for encoder in warehouse.encoders():
        refresh_metadata(warehouse, encoder, dataset)


def _stored_detections(warehouse: "Warehouse", dataset: str) -> "pl.DataFrame":
    import polars as pl

    columns = ["image_id", *(name for names in _FLAG_COLUMNS.values() for name in names)]
    return warehouse.frame("image_attributes").filter(pl.col("dataset") == dataset).select(columns).collect()


def _fill(table: pa.Table, detected: "pl.DataFrame") -> pa.Table:
    """Return `table` with what was detected put in: where a flag was neither given nor corrected, and in its gaps.

    A flag and what goes with it have one source. Of a corrected one, only columns without a value are filled in, and
    none where it says that there is nothing.
    """
    import polars as pl

    known = pl.DataFrame(table.select(["image_id", *_DETECTED_COLUMNS]))
    joined = known.join(detected, on="image_id", how="left", suffix="_found", maintain_order="left")
    filled = []
    for source, (flag, *others) in _FLAG_COLUMNS.items():
        searched = pl.col(f"{flag}_found").is_not_null()
        free = searched & (pl.col(source).is_null() | (pl.col(source) == "detected"))
        gap = searched & (pl.col(source) == "corrected") & pl.col(flag).fill_null(True)
        filled.append(pl.when(free).then(pl.lit("detected")).otherwise(pl.col(source)).alias(source))
        filled += [
            pl.when(free | (gap & pl.col(name).is_null()))
            .then(pl.col(f"{name}_found"))
            .otherwise(pl.col(name))
            .alias(name)
            for name in (flag, *others)
        ]
    values = joined.select(filled).to_arrow()
    for name in _DETECTED_COLUMNS:
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), values[name].cast(table.schema.field(index).type))
    return table


def corrected_groups(warehouse: "Warehouse", dataset: str) -> dict[str, str]:
    """Return by image id which group of duplicates a person says an image is in."""
    import polars as pl

    said = warehouse.frame("corrections").filter(pl.col("dataset") == dataset, pl.col("column") == GROUP_CORRECTION)
    return {image_id: json.loads(value) for image_id, value in said.select("image_id", "value").collect().iter_rows()}


def _stored_corrections(warehouse: "Warehouse", dataset: str) -> "pl.DataFrame":
    """Return the corrections of what stands in ``images``."""
    import polars as pl

    of_images = (pl.col("dataset") == dataset) & (pl.col("column") != GROUP_CORRECTION)
    return warehouse.frame("corrections").filter(of_images).collect()


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
    """Columns that a correction of `column` sets: itself, or a flag with what goes with it and where it came from."""
    if column not in _FLAG_SOURCES:
        return [column]
    source = _FLAG_SOURCES[column]
    return [source, *_FLAG_COLUMNS[source]]


def _parsed(column: str, values: "pl.Series") -> list[object]:
    if column == GROUP_CORRECTION:
        return [str(v).strip() or None if v is not None else None for v in values.to_list()]
    # A table read from CSV has numbers where the text looks like one.
    cells = [v if v is None or isinstance(v, list) else parse_cell(column, str(v)) for v in values.to_list()]
    try:
        pa.array(cells, IMAGES.schema.field(column).type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise CounterstainError(f"column {column!r}: {error}") from error
    return cells


def _apply(table: pa.Table, corrections: "pl.DataFrame") -> pa.Table:
    """Return `table` with the corrected cells put in.

    Text, boxes or kinds that were corrected say that there is something, unless the flag was corrected together with
    them or since; a flag that says no empties them.
    """
    positions = {image_id: i for i, image_id in enumerate(table["image_id"].to_pylist())}
    cells: dict[str, list[Any]] = {}
    flag_at: dict[tuple[str, str], datetime] = {}
    ordered = corrections.select("image_id", "column", "value", "corrected_at").sort("corrected_at")
    for image_id, column, value, at in ordered.iter_rows():
        if image_id not in positions:
            continue
        row = positions[image_id]
        for name in _columns_set_by(column):
            if name not in cells:
                cells[name] = table[name].to_pylist()
        cells[column][row] = json.loads(value)
        if source := _FLAG_SOURCES.get(column):
            flag = _FLAG_COLUMNS[source][0]
            cells[source][row] = "corrected"
            if column == flag:
                flag_at[image_id, flag] = at
            elif cells[column][row] and flag_at.get((image_id, flag)) != at:
                cells[flag][row] = True
    for source, (flag, *others) in _FLAG_COLUMNS.items():
        for row, said in enumerate(cells.get(flag, [])):
            if said is False and cells[source][row] == "corrected":
                for name in others:
                    cells[name][row] = None
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
