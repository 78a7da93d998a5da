"""``leaderboard``: the probe scores of every cell side by side, ranked within data set."""

import polars as pl

from analysis.figures import leaderboard_figure
from assets import display
from assets.step import Cell, Made, Step
from store.results import write_results
from store.runs import data_version, latest_runs
from store.schema import LEADERBOARD, CounterstainError


def _inputs(cell: Cell) -> dict[str, str]:
    runs = latest_runs(cell.warehouse).filter(pl.col("asset") == "svm_probes")
    return {f"{d}/{e}": version for d, e, version in runs.select("dataset", "encoder", "data_version").iter_rows()}


def _make(cell: Cell) -> Made:
    scores = cell.warehouse.frame("probe_scores").collect()
    summary = scores.filter(
        (pl.col("target") == "label")
        & (pl.col("stratum") == "all")
        & pl.col("fold").is_null()
        & pl.col("value").is_not_null()
        & pl.col("protocol").is_in(["published", "grouped"])
    )
    if summary.is_empty():
        raise CounterstainError("no probe scores yet: materialize svm_probes of at least one cell first.")
    board = ["dataset", "protocol", "split", "metric"]
    ranked = summary.with_columns(
        pl.col("value").rank("min", descending=True).over(board).cast(pl.Int32).alias("rank")
    ).sort([*board, "rank", "encoder"])
    columns = [name for name in LEADERBOARD.schema.names if name != "row"]
    write_results(cell.warehouse, LEADERBOARD, ranked.select(columns))
    shown = ranked.filter((pl.col("split") == "test") & (pl.col("metric") == "macro_f1"))
    return Made(
        rows=ranked.height,
        data_version=data_version(cell.warehouse, "leaderboard"),
        tables=("leaderboard",),
        summary={"cells": ranked.select("dataset", "encoder").n_unique()},
        metadata={
            "macro F1 on held-out images": display.picture(leaderboard_figure(shown, metric="macro F1"), "Leaderboard"),
            "table": display.table(
                shown.select("dataset", "protocol", "rank", "encoder", "value", "ci_low", "ci_high", "n")
            ),
        },
    )


STEP = Step(
    name="leaderboard",
    description="Encoders ranked by what a linear probe reads of the label, as published beside grouped.",
    group="findings",
    kinds=frozenset({"polars", "lancedb"}),
    scope="all",
    upstream=("svm_probes",),
    code_version="1",
    inputs=_inputs,
    parameters=lambda _: {},
    make=_make,
)
