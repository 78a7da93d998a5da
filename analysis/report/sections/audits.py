"""Whom an encoder thinks near: the audits of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import SHOWN_METRICS, audit_figure
from analysis.report.blocks import Column, Interval, Note, Picture, PValue, Score, Table
from analysis.report.pictures import data_uri
from analysis.report.section import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

# Metrics in the first table; the others follow folded.
_FOREMOST = ("cramers_v", *SHOWN_METRICS)
_METRIC_NAMES = {
    "cramers_v": "Cramér's V",
    "confounder_agreement": "background agreement",
    "confounder_agreement_by_k": "background agreement by k",
    "bras": "BRAS",
    "mari": "MaRI",
    "croma_median": "CRoMa, median",
    "croma_tail": "CRoMa, lowest tenth",
    "croma_dominated": "CRoMa, share ≤ 0",
    "ilisi": "iLISI",
    "clisi": "cLISI",
    "kbet": "kBET",
    "pcr": "PCR",
}


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    audits = tables.of_cell("neighbor_audits", cell.dataset, cell.encoder)
    if audits.is_empty():
        return []
    foremost = pl.col("metric").is_in(_FOREMOST)
    blocks: list[Block] = []
    shown = audits.filter(pl.col("metric").is_in(SHOWN_METRICS))
    if shown.height and audits["confounder"].null_count() < audits.height:
        png = audit_figure(shown, title=str(cell))
        blocks.append(Picture(data_uri(png), f"Audits of {cell.dataset} under {cell.encoder}, against chance"))
    blocks.append(_foremost(audits.filter(foremost)))
    others = audits.filter(~foremost)
    if others.height:
        blocks.append(_others(others))
    return blocks


def _foremost(audits: pl.DataFrame) -> Table:
    columns: list[str | Column] = [
        "Metric",
        "Background",
        Column("Value vs chance", scores=True),
        Column("p, adjusted", numeric=True),
        Column("k", numeric=True),
        Column("Images", numeric=True),
        "Note",
    ]
    rows: list[list[Value]] = [
        [
            metric_name(row["metric"]),
            row["confounder"] or "",
            Score(row["value"], row["ci_low"], row["ci_high"], row["expected"]),
            PValue(row["p_adjusted"]),
            "" if row["k"] is None else row["k"],
            row["n"],
            Note(row["note"]),
        ]
        for row in audits.iter_rows(named=True)
    ]
    return Table(columns, rows)


def _others(audits: pl.DataFrame) -> Table:
    columns: list[str | Column] = [
        "Metric",
        "Background",
        Column("Value", numeric=True),
        Column("By chance", numeric=True),
        Column("k", numeric=True),
        Column("Images", numeric=True),
        "Note",
    ]
    rows: list[list[Value]] = [
        [
            metric_name(row["metric"]),
            row["confounder"] or "",
            Interval(row["value"], row["ci_low"], row["ci_high"]),
            row["expected"],
            "" if row["k"] is None else row["k"],
            row["n"],
            Note(row["note"]),
        ]
        for row in audits.iter_rows(named=True)
    ]
    return Table(columns, rows, folded=f"Every other metric of the neighbourhoods ({audits.height})")


def metric_name(metric: str) -> str:
    """Name a metric as its literature does."""
    return _METRIC_NAMES.get(metric, metric.replace("_", " "))


PART = Part(
    name="audits",
    title="Whom the encoder thinks near",
    place=40,
    make=_make,
    tables=("neighbor_audits",),
    asset="neighbor_audits",
    what="audits",
)
