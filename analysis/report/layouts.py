"""What the layouts of a cell show, in sentences, and encoders side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import encoders_figure
from analysis.layout_findings import LABEL, summarise_associations
from analysis.layouts import nearness_to_reference
from analysis.report.pictures import attribute_values, data_uri

if TYPE_CHECKING:
    from analysis.report.tables import ReportTables

_SETTING = ["n_neighbors", "min_dist"]


def layout_sentences(associations: pl.DataFrame, clusters: pl.DataFrame) -> list[str]:
    """Say how many layouts of a cell show what, and how many of its clusters recur.

    Parameters
    ----------
    associations, clusters
        Rows of ``layout_associations`` and ``layout_clusters`` of one cell; nothing is said of what is not there.
    """
    sentences = []
    if not associations.is_empty():
        for row in summarise_associations(associations).iter_rows(named=True):
            if row["best"] is None:
                sentences.append(f"{row['attribute']}: {row['note']}, in all {row['layouts_in_all']} layouts.")
                continue
            chance = "by chance" if row["attribute"] == LABEL else "by chance given the label"
            bare = row["layouts_in_all"] - row["layouts_defined"]
            tested = (
                f"p = {row['p_adjusted']:.2g} adjusted over layouts and attributes"
                if row["note"] == ""
                else row["note"]
            )
            expected = "" if row["expected"] is None else f", {row['expected']:.2f} expected {chance}"
            none = f" (in {bare} there are no clusters to compare, which counts as 0)" if bare else ""
            sentences.append(
                f"{row['attribute']}: {row['layouts']} of {row['layouts_in_all']} layouts show clusters that go along "
                f"with it{none}; adjusted mutual information {row['median']:.2f} in the median layout{expected}, "
                f"at most {row['best']:.2f} (n_neighbors {row['n_neighbors']}, min_dist {row['min_dist']:g}; "
                f"n = {row['n']}, {tested})."
            )
    if not clusters.is_empty():
        total = clusters["layouts_in_all"][0]
        recurring = clusters.filter(2 * pl.col("layouts") > total).height
        once = clusters.filter(pl.col("note") != "").height
        sentences.append(
            f"Clusters that recur in more than half of {total} layouts: {recurring}; seen at one setting only, and so "
            f"perhaps its doing: {once}."
        )
    return sentences


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
