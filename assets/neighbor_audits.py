"""``neighbor_audits``: whom an encoder thinks near, and whether they share the label or the background."""

import numpy as np
import polars as pl

from analysis.audits import audit_cell
from analysis.figures import SHOWN_METRICS, SheetRow, Tile, audit_figure, neighbors_figure
from analysis.near_duplicates import near_duplicates
from analysis.neighbors import Neighbors
from analysis.telling import SCHEMA as PAIR_SCHEMA
from analysis.telling import telling_pairs
from assets import display
from assets.features import Features, embeddings_version, group_parameters, read_features, user_errors
from assets.neighbor_search import find_neighbors
from assets.step import Cell, Check, Made, Step
from store.results import write_results
from store.runs import data_version
from store.schema import NEAR_DUPLICATES, NEIGHBOR_AUDIT_VALUES, NEIGHBOR_AUDITS, NEIGHBORS, TELLING_NEIGHBORS

# Kept beyond those read: some audits look further, and images of unknown background are struck from the lists.
NEIGHBORS_KEPT = 100
MIN_GROUPS = 20
SHEETS = 6
SHEET_QUERIES = 6
SHEET_NEIGHBORS = 7
PAIRS_SHOWN = 10


def _parameters(cell: Cell) -> dict[str, object]:
    return {"k": cell.project.k, "seed": cell.project.seed, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    k = cell.project.k
    with user_errors(cell):
        neighbors, centres, probed = find_neighbors(cell, features, max(NEIGHBORS_KEPT, k))
        audits, values = audit_cell(
            neighbors,
            features.labels,
            features.backgrounds,
            features.groups,
            k=k,
            seed=cell.project.seed,
            vectors=features.vectors,
            centres=centres,
            searched=None if probed is None else probed.result(),
            group_columns=features.group_columns,
        )
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    lists = _lists(neighbors.first(min(k, neighbors.k)), features)
    pairs = _pairs(neighbors, features)
    copies = _copies(neighbors, features)
    write_results(cell.warehouse, NEIGHBORS, lists, **names)
    write_results(cell.warehouse, NEIGHBOR_AUDIT_VALUES, _by_id(values, features, image="image_id"), **names)
    write_results(cell.warehouse, TELLING_NEIGHBORS, pairs, **names)
    write_results(cell.warehouse, NEAR_DUPLICATES, copies, **names)
    write_results(cell.warehouse, NEIGHBOR_AUDITS, audits, **names)
    shown = audits.filter(pl.col("metric").is_in(SHOWN_METRICS)).with_columns(pl.lit(cell.encoder).alias("encoder"))
    n_groups = len(np.unique(features.groups))
    columns = ("metric", "confounder", "k", "value", "expected", "ci_low", "ci_high", "p_adjusted", "n", "note")
    metadata = {
        "audit picture": display.picture(
            audit_figure(shown, title=f"{cell.dataset}, {cell.encoder}"), "Neighbour audits"
        ),
        **_sheets(cell, features, lists, pairs),
        "audits": display.table(audits.select(columns), 200),
    }
    if probed is not None:
        metadata["recall of the neighbour search"] = probed.recall
    if copies.height:
        metadata["near duplicates"] = display.table(copies)
    headline = {
        f"{metric} {confounder or ''}".strip(): value
        for metric, confounder, value in shown.select("metric", "confounder", "value").iter_rows()
        if value is not None
    }
    return Made(
        rows=audits.height,
        data_version=data_version(cell.warehouse, "neighbor_audits", **names),
        tables=("neighbors", "neighbor_audit_values", "telling_neighbors", "near_duplicates", "neighbor_audits"),
        summary={
            **headline,
            "near duplicates across labels": copies.filter(~pl.col("same_label")).height,
            "near duplicates across splits": copies.filter(~pl.col("same_split")).height,
        },
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


def _pairs(neighbors: Neighbors, features: Features) -> pl.DataFrame:
    """Return the most telling pairs of every background attribute."""
    ranked = [
        telling_pairs(neighbors, features.labels, values).with_columns(pl.lit(name).alias("confounder"))
        for name, values in features.backgrounds.items()
    ]
    nothing = pl.DataFrame(schema={**PAIR_SCHEMA, "confounder": pl.String})
    return _by_id(pl.concat([nothing, *ranked]), features, image="image_id", neighbor="neighbor_id")


def _copies(neighbors: Neighbors, features: Features) -> pl.DataFrame:
    """Return the near duplicates outside of groups, nearest first, and whether their labels and splits agree."""
    found = near_duplicates(neighbors)
    schema = {
        "left": pl.Int64, "right": pl.Int64, "distance": pl.Float64, "threshold": pl.Float64, "same_label": pl.Boolean,
        "same_split": pl.Boolean,
    }  # fmt: skip
    if found is None:
        return _by_id(pl.DataFrame(schema=schema), features, left="image_id", right="other_id")
    label, split = pl.Series(features.labels, dtype=pl.String), features.images["split"]
    pairs = {
        "left": found.left,
        "right": found.right,
        "distance": found.distances,
        "threshold": np.full(len(found.left), found.threshold),
        "same_label": label.gather(found.left) == label.gather(found.right),
        "same_split": split.gather(found.left) == split.gather(found.right),
    }
    return _by_id(pl.DataFrame(pairs, schema_overrides=schema), features, left="image_id", right="other_id")


def _by_id(rows: pl.DataFrame, features: Features, **columns: str) -> pl.DataFrame:
    """Replace columns of row numbers by columns of image ids."""
    ids = features.images["image_id"]
    named = rows.with_columns(ids.gather(rows[column]).alias(name) for column, name in columns.items())
    return named.drop(columns)


def _sheets(cell: Cell, features: Features, lists: pl.DataFrame, pairs: pl.DataFrame) -> dict[str, object]:
    """Draw, for each attribute, the images that the most telling pairs begin with, among their nearest neighbours."""
    # Those whose foremost pair says most, where there are many attributes.
    foremost = (
        pairs.group_by("confounder").agg(pl.col("score").max()).sort(["score", "confounder"], descending=[True, False])
    )
    shown: dict[str, object] = {}
    for name in foremost["confounder"].head(SHEETS):
        of_name = pairs.filter(confounder=name)
        queries = of_name["image_id"].unique(maintain_order=True).head(SHEET_QUERIES).to_list()
        near = lists.filter(pl.col("rank") <= SHEET_NEIGHBORS, pl.col("image_id").is_in(queries))
        shown[f"neighbours that share {name}"] = _sheet(cell, features, name, queries, near)
        told = of_name.select(
            "value", "label", "neighbor_label", "distance", "match_distance", "image_id", "neighbor_id"
        )
        shown[f"pairs that share {name}"] = display.table(told, PAIRS_SHOWN)
    return shown


def _sheet(cell: Cell, features: Features, name: str, queries: list[str], near: pl.DataFrame) -> object:
    wanted = [*queries, *near["neighbor_id"].to_list()]
    thumbnails = cell.warehouse.frame("images").filter(
        (pl.col("dataset") == cell.dataset) & pl.col("image_id").is_in(wanted)
    )
    pictures = dict(thumbnails.select("image_id", "thumbnail").collect().iter_rows())
    known = {
        image_id: (label or "unknown", value or "unknown")
        for image_id, label, value in zip(
            features.images["image_id"], features.labels, features.backgrounds[name], strict=True
        )
    }
    rows = []
    for query in queries:
        label, value = known[query]
        tiles = [
            Tile(
                pictures[n],
                f"{known[n][0]}\n{known[n][1]}",
                None if same is None else bool(same),
                known[n][1] == value,
            )
            for n, same in near.filter(image_id=query).sort("rank").select("neighbor_id", "same_label").iter_rows()
        ]
        rows.append(SheetRow(Tile(pictures[query], f"{label}\n{value}"), tuple(tiles)))
    figure = neighbors_figure(rows, title=f"{cell.dataset}, {cell.encoder}: label and {name}", background=name)
    return display.picture(figure, f"Images and their neighbours by {name}")


STEP = Step(
    name="neighbor_audits",
    description="Cosine neighbours of every image, its own group left out, and how strongly they follow the label and "
    "each background attribute, with intervals, permutation tests, what chance alone would give and what the "
    "design can support; the pairs that show it best, and near duplicates.",
    group="analysis",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="5",
    inputs=embeddings_version,
    parameters=_parameters,
    make=_make,
    checks={"enough_groups": f"At least {MIN_GROUPS} groups: intervals over fewer cannot be trusted."},
)
