"""``neighbor_audits``: whom an encoder thinks near, and whether they share the label or the background."""

import numpy as np
import polars as pl

from analysis.audits import run_audits
from analysis.figures import SheetRow, Tile, audit_figure, neighbors_figure
from analysis.neighbors import Neighbors, cosine_neighbors
from assets import display
from assets.features import Features, embeddings_version, group_parameters, read_features, user_errors
from assets.step import Cell, Check, Made, Step
from store.results import write_results
from store.runs import data_version
from store.schema import NEIGHBOR_AUDITS, NEIGHBORS

# Kept beyond those read, since images of unknown background are struck from the lists.
NEIGHBORS_KEPT = 50
MIN_GROUPS = 20
SHEET_QUERIES = 6
SHEET_NEIGHBORS = 7


def _parameters(cell: Cell) -> dict[str, object]:
    return {"k": cell.project.k, "seed": cell.project.seed, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    k = cell.project.k
    with user_errors(cell):
        neighbors = cosine_neighbors(features.vectors, max(NEIGHBORS_KEPT, k), groups=features.groups)
        audits = run_audits(
            neighbors, features.labels, features.backgrounds, features.groups, k=k, seed=cell.project.seed
        )
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    lists = _lists(neighbors.first(k), features)
    write_results(cell.warehouse, NEIGHBORS, lists, **names)
    write_results(cell.warehouse, NEIGHBOR_AUDITS, audits, **names)
    shown = audits.with_columns(pl.lit(cell.encoder).alias("encoder"))
    n_groups = len(np.unique(features.groups))
    metadata = {
        "audits": display.table(
            audits.select("metric", "confounder", "value", "expected", "ci_low", "ci_high", "p_adjusted", "n")
        ),
        "audit picture": display.picture(
            audit_figure(shown, title=f"{cell.dataset}, {cell.encoder}"), "Neighbour audits"
        ),
        "neighbours that share the background only": _sheet(cell, lists),
    }
    headline = {
        f"{metric} {confounder or ''}".strip(): value
        for metric, confounder, value in audits.select("metric", "confounder", "value").iter_rows()
        if value is not None
    }
    return Made(
        rows=audits.height,
        data_version=data_version(cell.warehouse, "neighbor_audits", **names),
        tables=("neighbors", "neighbor_audits"),
        summary=headline,
        metadata=metadata,
        checks={"enough_groups": Check(n_groups >= MIN_GROUPS, f"{n_groups} groups of {len(features.labels)} images")},
    )


def _lists(neighbors: Neighbors, features: Features) -> pl.DataFrame:
    """Return the neighbour lists as rows: image, rank, neighbour, distance, and what the two share."""
    query, rank = np.nonzero(neighbors.indices >= 0)
    found = neighbors.indices[query, rank]
    ids, label = features.images["image_id"], pl.Series(features.labels, dtype=pl.String)
    rows = pl.DataFrame(
        {
            "image_id": ids.gather(query),
            "rank": pl.Series(rank + 1, dtype=pl.Int32),
            "neighbor_id": ids.gather(found),
            "distance": neighbors.distances[query, rank],
            "same_label": label.gather(query) == label.gather(found),
        }
    )
    shared = [
        pl.when(column.gather(query) == column.gather(found)).then(pl.lit(name)).alias(name)
        for name, values in features.backgrounds.items()
        for column in [pl.Series(values, dtype=pl.String)]
    ]
    same = pl.concat_list(shared).list.drop_nulls() if shared else pl.lit([], dtype=pl.List(pl.String))
    return rows.with_columns(same.alias("same_background"))


def _sheet(cell: Cell, lists: pl.DataFrame) -> object:
    """Draw the images whose nearest neighbours most often share a background and not the label."""
    near = lists.filter(pl.col("rank") <= SHEET_NEIGHBORS)
    misled = (~pl.col("same_label") & (pl.col("same_background").list.len() > 0)).sum().alias("misled")
    queries = near.group_by("image_id").agg(misled).sort(["misled", "image_id"], descending=[True, False])
    chosen = queries.head(SHEET_QUERIES)["image_id"].to_list()
    near = near.filter(pl.col("image_id").is_in(chosen))
    wanted = [*chosen, *near["neighbor_id"].to_list()]
    images = cell.warehouse.frame("images").filter(
        (pl.col("dataset") == cell.dataset) & pl.col("image_id").is_in(wanted)
    )
    known = {
        i: (data, label or "unknown")
        for i, data, label in images.select("image_id", "thumbnail", "label").collect().iter_rows()
    }
    rows = []
    for image_id in chosen:
        neighbors = near.filter(pl.col("image_id") == image_id).sort("rank")
        tiles = [
            Tile(known[n][0], f"{known[n][1]}\n{distance:.3f}", same, bool(shared))
            for n, distance, same, shared in neighbors.select(
                "neighbor_id", "distance", "same_label", "same_background"
            ).iter_rows()
        ]
        rows.append(SheetRow(Tile(*known[image_id]), tuple(tiles)))
    return display.picture(
        neighbors_figure(rows, title=f"{cell.dataset}, {cell.encoder}"), "Images and their neighbours"
    )


STEP = Step(
    name="neighbor_audits",
    description="Exact cosine neighbours of every image, its own group left out, and how strongly they follow the "
    "label and each background attribute, with intervals, permutation tests and what chance alone would give.",
    group="analysis",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="cell",
    upstream=("embeddings",),
    code_version="1",
    inputs=embeddings_version,
    parameters=_parameters,
    make=_make,
    checks={"enough_groups": f"At least {MIN_GROUPS} groups: intervals over fewer cannot be trusted."},
)
