"""What of a data set's images is known to be where: lesions, burned-in words, marks."""

from collections.abc import Mapping

import polars as pl

from assets.features import embeddings_version
from assets.step import Cell
from pipelines.overlays.item import MARKS, Box
from store.runs import data_version

LESION, TEXT, MARK, BACKGROUND = "lesion", "text", "marks", "background"

Regions = Mapping[str, list[Box]]


def known_regions(cell: Cell) -> dict[str, Regions]:
    """Return boxes by region and image id, in px of the image; what was detected where nothing was given.

    The background is what is not lesion, and has no boxes of its own.
    """
    named = pl.col("dataset") == cell.dataset
    columns = ["image_id", "text_overlay", "overlay_boxes"]
    images = cell.warehouse.frame("images").filter(named).select(*columns, "lesion_box").collect()
    detected = cell.warehouse.frame("image_attributes").filter(named).select("image_id", "overlay_boxes").collect()
    joined = images.join(detected, on="image_id", how="left", suffix="_detected")
    items = cell.warehouse.frame("overlays").filter(named, pl.col("kind").is_in(MARKS)).collect()
    marks: dict[str, list[Box]] = {}
    for image_id, box in items.select("image_id", "box").iter_rows():
        marks.setdefault(image_id, []).append(tuple(box))
    found: dict[str, Regions] = {}
    for row in joined.iter_rows(named=True):
        regions: dict[str, list[Box]] = {}
        if row["lesion_box"]:
            regions[LESION] = [tuple(row["lesion_box"])]
        words = row["overlay_boxes"] or row["overlay_boxes_detected"]
        # A flag that a person set to no is believed.
        if words and row["text_overlay"] is not False:
            regions[TEXT] = [tuple(box) for box in words]
        if row["image_id"] in marks:
            regions[MARK] = marks[row["image_id"]]
        found[row["image_id"]] = regions
    return found


def regions_version(cell: Cell) -> dict[str, str]:
    """Return the versions of a cell's vectors, and of what is known to be where on its images, as inputs."""
    named = {"dataset": cell.dataset}
    columns = ["content_hash", "overlay_boxes", "lesion_box"]
    return embeddings_version(cell) | {
        "images": data_version(cell.warehouse, "images", columns=columns, **named),
        "overlays": data_version(cell.warehouse, "overlays", **named),
    }
