"""``duplicates``: which images of a data set are copies or near-duplicates of each other."""

import dagster as dg
import numpy as np
import polars as pl

from analysis.duplicates import Duplicates, corrected, find_duplicates
from analysis.figures import image_grid_figure
from assets import display
from assets.progress import Progress
from assets.step import Cell, Check, Made, Step
from pipelines.descriptors import SIDE_PX, describe_picture
from store.images import corrected_groups, read_metadata
from store.runs import data_version
from store.schema import DUPLICATES

SHEET_GROUPS = 6
SHEET_IMAGES = 7
_BATCH_ROWS = 1024


def _inputs(cell: Cell) -> dict[str, str]:
    # What may identify someone is covered on the thumbnails that are compared.
    columns = {"images": ["content_hash", "label"], "overlays": ["box", "possible_identifying"]}
    return {name: data_version(cell.warehouse, name, columns=c, dataset=cell.dataset) for name, c in columns.items()}


def _parameters(cell: Cell) -> dict[str, object]:
    return {"corrected groups": corrected_groups(cell.warehouse, cell.dataset)}


def _make(cell: Cell) -> Made:
    images = read_metadata(cell.warehouse, cell.dataset)
    found = find_duplicates(_descriptors(cell, images), images["content_hash"].to_list())
    found = corrected(found, images["image_id"].to_list(), corrected_groups(cell.warehouse, cell.dataset))
    pairs = _pairs(cell, images, found)
    cell.warehouse.replace_partition(DUPLICATES, pairs.to_arrow(), dataset=cell.dataset)
    sizes = np.bincount(found.groups)
    across = pairs.filter(~pl.col("same_label"))
    metadata = {"of different labels": display.table(_across(across, images))}
    if pairs.height:
        metadata["contact sheet"] = _sheet(cell, images, pairs)
    return Made(
        rows=pairs.height,
        data_version=data_version(cell.warehouse, "duplicates", dataset=cell.dataset),
        tables=("duplicates",),
        summary={
            "groups": int((sizes > 1).sum()),
            "images in groups": int(sizes[sizes > 1].sum()),
            "surplus images": int((sizes - 1).sum()),
            "exact pairs": int(found.exact.sum()),
            "near pairs": int((found.kind == "near").sum()),
            "corrected pairs": int((found.kind == "corrected").sum()),
            "threshold": found.threshold,
            "groups across labels": across["duplicate_group"].n_unique(),
        },
        metadata=metadata,
        checks={
            "calibrated": Check(
                found.uncalibrated is None,
                f"the threshold is {found.threshold:.3g}"
                + (f", and is not calibrated: {found.uncalibrated}" if found.uncalibrated else ""),
            ),
            "one_label_per_picture": Check(
                across.is_empty(),
                f"{across['duplicate_group'].n_unique()} groups of duplicates hold images of different labels, "
                f"{across.filter(kind='exact')['duplicate_group'].n_unique()} of them the identical image",
            ),
        },
    )


def _descriptors(cell: Cell, images: pl.DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return the descriptors ``(n, SIDE_PX²)`` of the thumbnails, aligned with `images`."""
    row_of = {image_id: i for i, image_id in enumerate(images["image_id"])}
    descriptors = np.zeros((images.height, SIDE_PX**2), np.float32)
    progress = Progress("images described", images.height)
    rows = cell.warehouse.frame("images").filter(pl.col("dataset") == cell.dataset).select("image_id", "thumbnail")
    for batch in rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=False):
        for image_id, thumbnail in batch.iter_rows():
            descriptors[row_of[image_id]] = describe_picture(thumbnail)
        progress.advance(batch.height)
    return descriptors


def _pairs(cell: Cell, images: pl.DataFrame, found: Duplicates) -> pl.DataFrame:
    ids, labels = images["image_id"], images["label"]
    # Images come sorted by id: the first of a group has the least.
    least = pl.DataFrame({"id": ids, "group": found.groups}).select(pl.col("id").first().over("group"))["id"]
    return pl.DataFrame(
        {
            "dataset": pl.Series([cell.dataset] * len(found.first), dtype=pl.String),
            "image_id": ids.gather(found.first),
            "other_id": ids.gather(found.second),
            "duplicate_group": least.gather(found.first),
            "kind": pl.Series(found.kind.tolist(), dtype=pl.String),
            "distance": pl.Series(found.distance, nan_to_null=True),
            "same_label": labels.gather(found.first) == labels.gather(found.second),
        }
    )


def _across(pairs: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs of different labels, by the names of their files, the most alike first."""
    named = images.select("image_id", "uri", "label")
    both = pairs.join(named, on="image_id").join(named, left_on="other_id", right_on="image_id", suffix="_other")
    return both.sort("distance", "uri").select("uri", "label", "uri_other", "label_other", "kind", "distance")


def _sheet(cell: Cell, images: pl.DataFrame, pairs: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Draw some groups, those of several labels first."""
    groups = pairs.group_by("duplicate_group").agg(
        pl.col("same_label").not_().any().fill_null(False).alias("mixed"),
        pl.concat_list("image_id", "other_id").explode().unique().sort().alias("members"),
    )
    chosen = groups.sort(["mixed", "duplicate_group"], descending=[True, False]).head(SHEET_GROUPS)
    wanted = [image_id for members in chosen["members"] for image_id in members[:SHEET_IMAGES]]
    shown = cell.warehouse.frame("images").filter(pl.col("dataset") == cell.dataset, pl.col("image_id").is_in(wanted))
    tiles = {
        image_id: (thumbnail, label or "unknown")
        for image_id, thumbnail, label in shown.select("image_id", "thumbnail", "label").collect().iter_rows()
    }
    shown_groups = [list(members)[:SHEET_IMAGES] for members in chosen["members"]]
    across = max(len(members) for members in shown_groups)
    places: list[tuple[bytes, str] | None] = []
    for members in shown_groups:
        places += [tiles[image_id] for image_id in members]
        places += [None] * (across - len(members))
    title = f"{cell.dataset}: {len(shown_groups)} of {groups.height} groups of duplicates, a row each"
    return display.picture(image_grid_figure(places, title=title, across=across), f"Duplicates in {cell.dataset}")


STEP = Step(
    name="duplicates",
    description="Copies by content and near-duplicates by how the pictures look, with a threshold calibrated on the "
    "data set; their groups never straddle a split.",
    group="data",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="dataset",
    upstream=("overlays",),
    code_version="4",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={
        "calibrated": "The threshold could be calibrated on the data set.",
        "one_label_per_picture": "No two duplicates have different labels.",
    },
)
