"""Clusters of a cell, and how many settings of the layout show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.layout_findings import summarise_associations
from analysis.report.blocks import Column, Note, PValue, Table, Words
from analysis.report.layouts import recurrence
from analysis.report.section import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

_SHOWN = 12


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    clusters = tables.of_cell("layout_clusters", cell.dataset, cell.encoder)
    associations = tables.of_cell("layout_associations", cell.dataset, cell.encoder)
    if clusters.is_empty() and associations.is_empty():
        return []
    blocks: list[Block] = [
        Words(
            "A cluster is to be believed where it recurs across settings. It is described by the value of the label or "
            "of a background that agrees with it best, if one does by φ of 0.3 or more.",
            note=True,
        )
    ]
    if not clusters.is_empty():
        blocks.append(_table(clusters))
        blocks.append(Words(recurrence(clusters)))
    if not associations.is_empty():
        blocks += [
            Words(
                "How far the clusters of each layout go along with the label, and, the label held, with each "
                "background: adjusted mutual information, 0 by chance and 1 at best. A layout shows an attribute where "
                "it is 0.1 above chance or more, with adjusted p below 0.05."
            ),
            _associations(associations),
        ]
    return blocks


def _table(clusters: pl.DataFrame) -> Table:
    # Of settings that show a cluster the share, as a grid may lack some layouts.
    foremost = clusters.sort(pl.col("layouts") / pl.col("layouts_in_all"), "n", descending=True).head(_SHOWN)
    columns: list[str | Column] = [
        Column("Layouts that\nshow it", numeric=True),
        Column("Images", numeric=True),
        "Described by",
        Column("φ", numeric=True),
        "n_neighbors",
        "min_dist",
        "Note",
    ]
    rows: list[list[Value]] = [
        [
            f"{row['layouts']} of {row['layouts_in_all']}",
            row["n"],
            "nothing on record" if row["phi"] is None else f"{row['attribute']} = {row['attribute_value']}",
            row["phi"],
            _span(row["n_neighbors_low"], row["n_neighbors_high"]),
            _span(row["min_dist_low"], row["min_dist_high"]),
            Note(row["note"]),
        ]
        for row in foremost.iter_rows(named=True)
    ]
    more = clusters.height - foremost.height
    return Table(columns, rows, caption=f"{more} more, of fewer layouts or images, are not listed." if more else "")


def _associations(associations: pl.DataFrame) -> Table:
    columns: list[str | Column] = [
        "Attribute",
        Column("Layouts that\nshow it", numeric=True),
        Column("In the median\nlayout", numeric=True),
        Column("By\nchance", numeric=True),
        Column("At most", numeric=True),
        "There\nn_neighbors, min_dist",
        Column("p,\nadjusted", numeric=True),
        Column("Images", numeric=True),
        "Note",
    ]
    rows: list[list[Value]] = []
    for row in summarise_associations(associations).iter_rows(named=True):
        bare = row["layouts_in_all"] - row["layouts_defined"]
        note = row["note"] or (f"{bare} layouts have no clusters to compare, which counts as 0" if bare else "")
        there = "" if row["best"] is None else f"{row['n_neighbors']}, {row['min_dist']:g}"
        rows.append(
            [
                row["attribute"],
                f"{row['layouts']} of {row['layouts_in_all']}",
                row["median"],
                row["expected"],
                row["best"],
                there,
                PValue(row["p_adjusted"] if row["best"] is not None else None),
                row["n"],
                Note(note),
            ]
        )
    return Table(columns, rows)


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


PART = Part(
    name="clusters",
    title="Clusters that recur",
    place=20,
    make=_make,
    tables=("layout_clusters", "layout_associations"),
    asset="layout_clusters",
    what="clusters",
)
