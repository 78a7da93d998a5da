"""Planned questions about sets of encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import contrast_figure
from analysis.report.blocks import Column, Interval, Note, Picture, PValue, Table, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.tables import ReportTables

_QUESTIONS = {
    "language_model": "with a large language model",
    "language": "with language",
    "medical": "with medical images",
    "trained": "trained at all",
}


def _make(tables: ReportTables) -> Sequence[Block]:
    found = tables["encoder_contrasts"]
    if found.is_empty():
        return []
    blocks: list[Block] = [
        Words(
            "Questions fixed beforehand: is what a probe reads of the label, or of a background, greater under "
            "encoders trained in one way than under others? Differences are paired by data set; above zero is in "
            "favour of what the contrast is named after. The protocol study is of the scores which arXiv 2601.14774 "
            "published, not of any measured here."
        )
    ]
    drawn = found.filter(pl.col("value").is_not_null(), target="label")
    if drawn.height:
        png = contrast_figure(drawn, metric="score")
        blocks.append(Picture(data_uri(png), "Difference of label scores between sets of encoders, by data set"))
    overall = found.filter(pl.col("dataset").is_null())
    told = overall.filter(pl.col("value").is_not_null())
    if told.height:
        blocks.append(_table(told))
    untold = overall.height - told.height
    if untold:
        notes = overall.filter(pl.col("value").is_null())["note"].drop_nulls().unique().sort().to_list()
        blocks.append(Words(f"Over all data sets {untold} more could not be told: {'; '.join(notes)}.", note=True))
    return blocks


def _table(overall: pl.DataFrame) -> Table:
    columns: list[str | Column] = [
        "Encoders",
        "What is read",
        "Protocol",
        Column("Difference", numeric=True),
        Column("p, adjusted", numeric=True),
        Column("Data sets", numeric=True),
        "Which",
    ]
    rows: list[list[Value]] = [
        [
            _QUESTIONS.get(row["contrast"], row["contrast"]),
            row["target"],
            row["protocol"],
            Interval(row["value"], row["ci_low"], row["ci_high"]),
            PValue(row["p_adjusted"]),
            row["n"],
            Note(row["note"]),
        ]
        for row in overall.iter_rows(named=True)
    ]
    return Table(columns, rows)


SECTION = Section(
    name="contrasts",
    title="Planned contrasts",
    place=20,
    make=_make,
    tables=("encoder_contrasts",),
    asset="encoder_contrasts",
    what="contrasts of encoders",
)
