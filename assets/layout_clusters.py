"""``layout_clusters``: clusters that recur across a cell's layouts, and how far they follow label and background."""

import polars as pl

from analysis.layout_findings import layout_findings, summarise_associations
from assets import display
from assets.features import embeddings_version, group_parameters, read_features, user_errors
from assets.step import Cell, Check, Made, Step
from store.results import write_results
from store.runs import data_version, latest_run
from store.schema import LAYOUT_ASSOCIATIONS, LAYOUT_CLUSTER_MEMBERS, LAYOUT_CLUSTERS, CounterstainError

CLUSTERS_SHOWN = 12


def _inputs(cell: Cell) -> dict[str, str]:
    # As recorded when they were made: a study's grid has millions of rows to read.
    made = latest_run(cell.warehouse, "umap_layouts", cell.dataset, cell.encoder)
    return {"layouts": made["data_version"] if made else "", **embeddings_version(cell)}


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    names, seed = {"dataset": cell.dataset, "encoder": cell.encoder}, cell.project.seed
    points = _layouts_of(cell)
    with user_errors(cell):
        found = layout_findings(
            points, features.images["image_id"], features.labels, features.backgrounds, features.groups, seed=seed
        )
    seeded = pl.lit(seed, pl.Int64).alias("seed")
    write_results(cell.warehouse, LAYOUT_CLUSTERS, found.clusters.with_columns(seeded), **names)
    write_results(cell.warehouse, LAYOUT_CLUSTER_MEMBERS, found.members, **names)
    write_results(cell.warehouse, LAYOUT_ASSOCIATIONS, found.associations.with_columns(seeded), **names)
    summary = summarise_associations(found.associations)
    recurring = found.clusters.filter(2 * pl.col("layouts") > pl.col("layouts_in_all"))
    once = found.clusters.filter(pl.col("note") != "").height
    columns = ("n", "layouts", "layouts_in_all", "coassignment", "attribute", "attribute_value", "phi", "note")
    return Made(
        rows=found.associations.height,
        data_version=data_version(cell.warehouse, "layout_associations", **names),
        tables=("layout_clusters", "layout_cluster_members", "layout_associations"),
        summary={
            "clusters in most layouts": recurring.height,
            "clusters at one setting only": once,
            **{f"layouts showing {name}": layouts for name, layouts in summary.select("attribute", "layouts").rows()},
        },
        metadata={
            "how many layouts show what": display.table(summary),
            "clusters, the most frequent first": display.table(found.clusters.select(columns), CLUSTERS_SHOWN),
        },
        checks={
            "clusters_recur": Check(
                recurring.height > 0,
                f"{recurring.height} clusters are in most layouts, {once} at one setting only",
            )
        },
    )


def _layouts_of(cell: Cell) -> pl.DataFrame:
    named = (pl.col("dataset") == cell.dataset) & (pl.col("encoder") == cell.encoder)
    points = cell.warehouse.frame("layouts").filter(named).sort("row").collect()
    if points.is_empty():
        raise CounterstainError(f"{cell} has no layouts: materialize umap_layouts.")
    return points


STEP = Step(
    name="layout_clusters",
    description="Clusters of every layout of a cell, at how many settings each recurs, and how far they go along with "
    "the label and each background attribute, beside what permutation gives.",
    group="analysis",
    kinds=frozenset({"sklearn", "lancedb"}),
    scope="cell",
    upstream=("embeddings", "umap_layouts"),
    code_version="2",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={
        "clusters_recur": "Some cluster is in most layouts: else what is seen in one is an accident of its setting."
    },
)
