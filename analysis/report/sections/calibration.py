"""How to read the numbers: the audits where the truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import calibration_figure
from analysis.report.blocks import Picture, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables


def _make(tables: ReportTables) -> Sequence[Block]:
    rows, intervals = tables["calibration"], tables["calibration_intervals"]
    if rows.is_empty():
        return []
    return [
        Words(
            "The audits were run on sets whose truth is known: features and phantoms with a background planted at a "
            f"chosen strength, going with the label as far as was chosen.{_false_positives(rows)} Left: those rates by "
            f"setting.{_covered(intervals)} Right: what a test sees, and how far each metric goes from nothing planted "
            "towards what the background alone would give."
        ),
        Picture(
            data_uri(calibration_figure(rows, intervals)),
            "False positives, coverage, power and movement of the audits where the truth is known",
        ),
    ]


def _false_positives(rows: pl.DataFrame) -> str:
    """Sum up the tests of sets in which nothing is planted."""
    null = rows.filter(pl.col("rejected").is_not_null(), strength=0)
    tests = int(null["repetitions"].sum())
    if not tests:
        return ""
    rejected = float(null.select(pl.col("rejected").dot("repetitions")).item())
    return f" Where nothing was planted, {100 * rejected / tests:.1f} % of {tests:,} tests rejected at 0.05."


def _covered(intervals: pl.DataFrame) -> str:
    """Sum up how many intervals hold what they are of."""
    number = int(intervals["intervals"].sum()) if intervals.height else 0
    if not number:
        return ""
    covered = float(intervals.select(pl.col("covered").dot("intervals")).item())
    return (
        f" Middle: of {number:,} intervals of 95 %, {100 * covered / number:.1f} % hold what their metric comes to on "
        "the average; more is cautious, less is too sure."
    )


SECTION = Section(
    name="calibration", title="How to read these numbers", place=80, make=_make,
    tables=("calibration", "calibration_intervals"),
    asset="calibration", what="calibration", requested=True,
)  # fmt: skip
