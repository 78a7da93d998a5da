"""Scores measured here beside those that the study published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import comparison_figure
from analysis.published import CITATION
from analysis.report.blocks import Column, Interval, Note, Picture, Table, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.tables import ReportTables

_METRIC = "accuracy"


def _make(tables: ReportTables) -> Sequence[Block]:
    rows = tables["published_comparison"]
    if rows.is_empty():
        return []
    rows = rows.filter(metric=_METRIC)
    measured = rows.filter(pl.col("value").is_not_null())
    if measured.is_empty():
        return [
            Words(
                "No data set here is registered with the reader of one of the published ones: there is no score to set "
                "beside ours.",
                note=True,
            )
        ]
    columns: list[str | Column] = [
        "Data set",
        "Encoder",
        Column("Measured here", numeric=True),
        Column("Published", numeric=True),
        Column("Difference", numeric=True),
        "Note",
    ]
    lines: list[list[Value]] = [
        [
            row["dataset"],
            row["encoder"],
            Interval(row["value"], row["ci_low"], row["ci_high"]),
            row["published"],
            row["difference"],
            Note(row["note"]),
        ]
        for row in measured.sort("dataset", "encoder").iter_rows(named=True)
    ]
    return [
        Words(f"Accuracy on held-out images under the study's protocol, beside the scores published by {CITATION}."),
        Picture(
            data_uri(comparison_figure(rows, metric="accuracy on held-out images")),
            "Accuracy measured here beside the published one, by data set and encoder",
        ),
        Table(columns, lines),
    ]


SECTION = Section(
    name="published",
    title="Beside the published study",
    place=15,
    make=_make,
    tables=("published_comparison",),
    asset="published_comparison",
    what="comparison with the published study",
)
