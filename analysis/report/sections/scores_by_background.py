"""The label's score on each value of each background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup

from analysis.evidence import format_interval, format_number
from analysis.report.blocks import Column, Score, Table, Words, grey, strong
from analysis.report.section import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

Row = dict[str, Any]


@dataclass(frozen=True)
class Strata:
    """The label's score on each value of one attribute, worst first."""

    attribute: str
    rows: list[Row]
    gap: float
    overlap: bool


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    protocol, overall, strata = label_strata(tables.of_cell("probe_scores", cell.dataset, cell.encoder))
    if overall is None:
        return []
    flattered = (
        ""
        if protocol == "grouped"
        else " There is no grouped score for this cell, so it may be flattered by patients or slides on both sides."
    )
    words = Markup("Accuracy over all images, {} protocol, cross-validated: {}, {:,} images.{}").format(
        protocol,
        strong(format_interval(overall["value"], overall["ci_low"], overall["ci_high"])),
        overall["n"],
        flattered,
    )
    if not strata:
        return [Words(words), Words("No background is on record to split the score by.", note=True)]
    columns: list[str | Column] = [
        "Background",
        "Value",
        Column("Images", numeric=True),
        Column("Accuracy", scores=True),
        Column("Balanced accuracy", scores=True),
        "Gap in accuracy,\nbest to worst",
    ]
    rows: list[list[Value]] = []
    first = []
    for stratum in strata:
        first.append(len(rows))
        rows += [_line(stratum, row, worst=i == 0) for i, row in enumerate(stratum.rows)]
    return [
        Words(words),
        Table(columns, rows, first=frozenset(first)),
        Words(
            "Values differ in their mix of labels too, so a gap alone does not convict the background. Balanced "
            "accuracy counts every label alike: where it is well below accuracy, images whose label is rare for their "
            "background are the ones told wrong. The worst of several small strata is low by luck as well.",
            note=True,
        ),
    ]


def _line(stratum: Strata, row: Row, *, worst: bool) -> list[Value]:
    of_several = worst and len(stratum.rows) > 1
    apart = grey("intervals overlap" if stratum.overlap else "intervals apart")
    return [
        stratum.attribute if worst else "",
        Markup("{} {}").format(row["stratum_value"], grey("worst")) if of_several else row["stratum_value"],
        row["n"],
        Score(row["value"], row["ci_low"], row["ci_high"]),
        Score(row["balanced"], row["balanced_ci_low"], row["balanced_ci_high"]),
        Markup("{} {}").format(strong(format_number(stratum.gap)), apart) if of_several else "",
    ]


def label_strata(scores: pl.DataFrame) -> tuple[str, Row | None, list[Strata]]:
    """Return protocol, overall accuracy of the label, and its accuracy by attribute; widest gap first.

    Cross-validated, since a stratum of the test part is small; grouped where there is such a score.
    """
    if scores.is_empty():
        return "grouped", None, []
    summary = scores.filter(pl.col("fold").is_null(), pl.col("value").is_not_null(), target="label", split="cv")
    balanced = summary.filter(metric="balanced_accuracy").select(
        "protocol", "stratum", balanced="value", balanced_ci_low="ci_low", balanced_ci_high="ci_high"
    )
    rows = summary.filter(metric="accuracy").join(
        balanced, on=["protocol", "stratum"], how="left", maintain_order="left"
    )
    protocol = "grouped" if "grouped" in rows["protocol"] else "published"
    rows = rows.filter(protocol=protocol)
    overall = next(rows.filter(stratum="all").iter_rows(named=True), None)
    split = rows.filter(pl.col("stratum") != "all").with_columns(
        pl.col("stratum").str.splitn("=", 2).struct.rename_fields(["attribute", "stratum_value"])
    )
    strata = []
    for (attribute,), part in split.unnest("stratum").group_by("attribute", maintain_order=True):
        ordered = part.sort("value", "stratum_value")
        worst, best = ordered.row(0, named=True), ordered.row(-1, named=True)
        known = worst["ci_high"] is not None and best["ci_low"] is not None
        overlap = not known or worst["ci_high"] >= best["ci_low"]
        gap = best["value"] - worst["value"]
        strata.append(Strata(str(attribute), list(ordered.iter_rows(named=True)), gap, overlap))
    return protocol, overall, sorted(strata, key=lambda s: (-s.gap, s.attribute))


PART = Part(
    name="by-background",
    title="The label's score by background",
    place=30,
    make=_make,
    tables=("probe_scores",),
    asset="svm_probes",
    what="scores of the label",
)
