"""Thumbnails with what may identify someone covered: the pictures of every asset are made from them."""

import polars as pl
import pyarrow as pa

from assets.step import Cell
from pipelines.overlays.item import Box
from pipelines.overlays.redaction import cover
from store import Warehouse
from store.schema import IMAGES

_COLUMNS = ["dataset", "image_id", "width_px", "height_px", "thumbnail"]


def identifying_boxes(cell: Cell) -> dict[str, list[Box] | None]:
    """Return by image id what is to be covered; None stands for all of an image that could not be searched."""
    named = pl.col("dataset") == cell.dataset
    items = cell.warehouse.frame("overlays").filter(named, pl.col("possible_identifying")).collect()
    boxes: dict[str, list[Box] | None] = {}
    for image_id, (x0, y0, x1, y1) in items.select("image_id", "box").iter_rows():
        known = boxes.setdefault(image_id, [])
        assert known is not None
        known.append((x0, y0, x1, y1))
    attributes = cell.warehouse.frame("image_attributes").filter(named, pl.col("text_overlay").is_null())
    return boxes | dict.fromkeys(attributes.select("image_id").collect()["image_id"])


def searched(warehouse: Warehouse) -> pl.LazyFrame:
    """Return ``dataset`` and ``image_id`` of the images of which it is known what to cover: no other may be shown."""
    return warehouse.frame("image_attributes").select("dataset", "image_id")


def covered(images: pa.RecordBatch, boxes: dict[str, list[Box] | None]) -> pa.RecordBatch:
    """Return rows of ``images`` with their thumbnails covered where there is something to cover."""
    rows = images.select(_COLUMNS[1:]).to_pylist()
    if not any(row["image_id"] in boxes for row in rows):
        return images
    thumbnails = []
    for row in rows:
        found = boxes.get(row["image_id"], [])
        size = (row["width_px"], row["height_px"])
        drawn = cover(row["thumbnail"], *size, [(0, 0, *size)] if found is None else found) if found != [] else None
        thumbnails.append(drawn or row["thumbnail"])
    index = images.schema.get_field_index("thumbnail")
    return images.set_column(index, images.schema.field(index), pa.array(thumbnails, images.schema.field(index).type))


def cover_stored(cell: Cell) -> None:
    """Cover the stored thumbnails of a data set, of which what is covered stays so until its images are read anew."""
    boxes = identifying_boxes(cell)
    if not boxes:
        return
    stored = cell.warehouse.frame("images").filter(
        pl.col("dataset") == cell.dataset, pl.col("image_id").is_in(list(boxes))
    )
    for batch in stored.select(_COLUMNS).collect().to_arrow().to_batches():
        columns = covered(batch, boxes).select(["dataset", "image_id", "thumbnail"])
        cell.warehouse.update_columns(IMAGES, pa.Table.from_batches([columns]))
