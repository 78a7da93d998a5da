"""Whether the ranking hangs on the weight of the probe's loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import c_path_figure
from analysis.probes import PENALTY
from analysis.report.blocks import Picture, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables

_METRIC = "balanced_accuracy"


def _make(tables: ReportTables) -> Sequence[Block]:
    path = c_path(tables["probe_scores"])
    if path.is_empty():
        return []
    return [
        Words(
            "The published C is one for encoders of any dimension, and so not one regularisation. Here the label is "
            "probed along a path of C, N counting the images a model is fitted on. Where lines cross, or Kendall's τ "
            "with the published C's ranking is low, the ranking is a choice of C as much as of encoders."
        ),
        Picture(
            data_uri(c_path_figure(path, published=PENALTY, metric="balanced accuracy")),
            "Balanced accuracy of the label by C, a line per encoder, a panel per data set",
        ),
    ]


def c_path(scores: pl.DataFrame) -> pl.DataFrame:
    """Return the summaries of ``probe_scores`` along the path, with the weight as ``penalty``."""
    if scores.is_empty():
        return scores
    path = scores.filter(
        pl.col("fold").is_null(), pl.col("value").is_not_null(), target="label", protocol="c_path", metric=_METRIC
    )
    penalty = pl.col("stratum").str.extract(r"^C=(.+)/N$").cast(pl.Float64).alias("penalty")
    return path.with_columns(penalty)


SECTION = Section(
    name="c-path",
    title="Does the ranking hang on C?",
    place=25,
    make=_make,
    tables=("probe_scores",),
    asset="svm_probes",
    what="scores along a path of C",
)
