"""``layout_clusters``: clusters that recur across a cell's layouts, and how far they follow label and background."""

import dagster as dg
import polars as pl

from analysis.figures import layout_figure
from analysis.layout_findings import LayoutFindings, layout_findings, summarise_associations
from analysis.layouts import nearness_to_reference
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
            "clusters": _picture(cell, points, found),
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


def _picture(cell: Cell, points: pl.DataFrame, found: LayoutFindings) -> dg.MarkdownMetadataValue:
    """Draw the layout nearest to umap-learn's defaults, each image in the cluster that most layouts show."""
    settings = points.select("n_neighbors", "min_dist").unique().rows()
    size, distance = min(settings, key=lambda setting: nearness_to_reference(*setting))
    shown = dict(found.clusters.filter(note="").select("cluster", "layouts").iter_rows())
    foremost = sorted(shown, key=lambda cluster: (-shown[cluster], cluster))
    order = pl.col("cluster").replace_strict(foremost, range(len(foremost)), return_dtype=pl.Int64)
    recurring = found.members.filter(pl.col("cluster").is_in(foremost))
    of_image = recurring.sort(order, "image_id").unique("image_id", keep="first", maintain_order=True)
    names = pl.format("cluster {}", "cluster")
    drawn = points.filter(n_neighbors=size, min_dist=distance)
    drawn = drawn.join(of_image.select("image_id", cluster=names), on="image_id", how="left")
    drawn = drawn.with_columns(pl.col("cluster").fill_null("none that recurs"))
    return display.picture(layout_figure(drawn, colour_by="cluster", title=str(cell)), "Clusters")


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
    kinds=frozenset({"scikitlearn", "lancedb"}),
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
