"""What the layouts of a cell show, in sentences, and encoders side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import encoders_figure
from analysis.layouts import nearness_to_reference
from analysis.report.pictures import attribute_values, data_uri

if TYPE_CHECKING:
    from analysis.report.tables import ReportTables

_SETTING = ["n_neighbors", "min_dist"]


def recurrence(clusters: pl.DataFrame) -> str:
    """Say how many clusters of a cell recur; `clusters` are its rows of ``layout_clusters``, at least one."""
    total = clusters["layouts_in_all"][0]
    recurring = clusters.filter(2 * pl.col("layouts") > total).height
    once = clusters.filter(pl.col("note") != "").height
    return (
        f"Clusters that recur in more than half of {total} layouts: {recurring}; seen at one setting only, and so "
        f"perhaps its doing: {once}."
    )


def encoders_picture(tables: ReportTables, dataset: str) -> str | None:
    """Draw one layout of each encoder of a data set by label, at the setting nearest to umap-learn's defaults.

    None where fewer than two encoders have one.
    """
    points = tables.of_dataset("layouts", dataset)
    images = tables.of_dataset("images", dataset)
    if points.is_empty() or images.is_empty() or points["encoder"].n_unique() < 2:
        return None
    settings = points.group_by(_SETTING).agg(pl.col("encoder").n_unique())
    most = settings.filter(pl.col("encoder") == pl.col("encoder").max())
    if most["encoder"][0] < 2:
        return None
    size, distance = min(most.select(_SETTING).rows(), key=lambda setting: nearness_to_reference(*setting))
    drawn = points.filter(n_neighbors=size, min_dist=distance).join(attribute_values(images, "label"), on="image_id")
    title = f"{dataset}: n_neighbors {size}, min_dist {distance:g}"
    return data_uri(encoders_figure(drawn, colour_by="label", title=title))
