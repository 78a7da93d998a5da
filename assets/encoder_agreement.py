"""``encoder_agreement``: which encoders agree on whose neighbours, data set by data set."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.encoder_agreement import SCHEMA, encoder_agreement
from analysis.figures import agreement_figure
from assets import display
from assets.backgrounds import image_groups
from assets.step import Cell, Made, Step
from store.images import read_metadata
from store.results import write_results
from store.runs import data_version, latest_runs
from store.schema import ENCODER_AGREEMENT


def _inputs(cell: Cell) -> dict[str, str]:
    runs = latest_runs(cell.warehouse).filter(pl.col("asset") == "neighbor_audits")
    columns = ("dataset", "encoder", "run_id")
    return {f"{dataset}/{encoder}": run_id for dataset, encoder, run_id in runs.select(columns).iter_rows()}


def _make(cell: Cell) -> Made:
    cells = cell.warehouse.frame("neighbors").select("dataset", "encoder").unique().sort("dataset", "encoder").collect()
    frames, left_out = [], []
    for (dataset,), rows in cells.group_by("dataset", maintain_order=True):
        if rows.height > 1:
            agreement, others = _agreement(cell, str(dataset), rows["encoder"].to_list())
            frames.append(agreement.with_columns(pl.lit(dataset).alias("dataset")))
            left_out += [{"dataset": dataset, **other} for other in others]
    nothing = pl.DataFrame(schema={**SCHEMA, "dataset": pl.String})
    found = pl.concat([nothing, *frames])
    write_results(cell.warehouse, ENCODER_AGREEMENT, found)
    metadata = {"table": display.table(found, 200)}
    if left_out:
        metadata["left out"] = display.table(pl.DataFrame(left_out), 200)
    if found.height:
        metadata["who agrees"] = display.picture(agreement_figure(found), "Agreement of encoders")
    return Made(
        rows=found.height,
        data_version=data_version(cell.warehouse, "encoder_agreement"),
        tables=("encoder_agreement",),
        summary={
            "pairs": found.select("dataset", "encoder", "other_encoder").n_unique() if found.height else 0,
            "encoders left out": len(left_out),
        },
        metadata=metadata,
    )


def _agreement(cell: Cell, dataset: str, encoders: list[str]) -> tuple[pl.DataFrame, list[dict[str, object]]]:
    """Return the agreement of encoders that saw every image, and those left out with their reason."""
    images = read_metadata(cell.warehouse, dataset).sort("image_id")
    groups = image_groups(cell.warehouse, dataset, images)
    lists, vectors = {}, {}
    left_out: list[dict[str, object]] = []
    for encoder in encoders:
        matrix = cell.warehouse.vectors(encoder, dataset)
        if matrix.images["image_id"].equals(images["image_id"]):
            vectors[encoder] = matrix.vectors
            lists[encoder] = _lists(cell, dataset, encoder, images["image_id"])
        else:
            reason = f"has vectors of {matrix.images.height} of {images.height} images, or of others"
            left_out.append({"encoder": encoder, "reason": reason})
    return encoder_agreement(lists, vectors, groups, seed=cell.project.seed), left_out


def _lists(cell: Cell, dataset: str, encoder: str, ids: pl.Series) -> NDArray[np.int64]:
    """Return the stored lists as rows ``(n, k)``, -1 where one has ended."""
    stored = cell.warehouse.frame("neighbors").filter(dataset=dataset, encoder=encoder)
    rows = stored.select("image_id", "rank", "neighbor_id").collect()
    row_of = pl.DataFrame({"image_id": ids}).with_row_index("row")
    known = rows.join(row_of, on="image_id").join(
        row_of.rename({"image_id": "neighbor_id", "row": "neighbor"}), on="neighbor_id"
    )
    lists = np.full((len(ids), cell.project.k), -1, dtype=np.int64)
    read = known.filter(pl.col("rank") <= cell.project.k)
    lists[read["row"].to_numpy(), read["rank"].to_numpy() - 1] = read["neighbor"].to_numpy()
    return lists


STEP = Step(
    name="encoder_agreement",
    description="Which encoders agree: neighbours in common, rank-biased overlap and CKA of every two encoders on the "
    "images of a data set. Are one model's neighbours those of the model it was tuned from?",
    group="findings",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="all",
    upstream=("neighbor_audits",),
    code_version="2",
    inputs=_inputs,
    parameters=lambda cell: {"k": cell.project.k, "seed": cell.project.seed},
    make=_make,
)
