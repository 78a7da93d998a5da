"""``leaderboard``: the probe scores of every cell side by side, ranked within data set, and again by weight of loss."""

import polars as pl

from analysis.figures import c_path_figure, leaderboard_figure
from analysis.probes import PENALTY
from assets import display
from assets.step import Cell, Made, Step
from store.results import write_results
from store.runs import data_version, latest_runs
from store.schema import EXPOSURE, LEADERBOARD, CounterstainError


def probe_versions(cell: Cell) -> dict[str, str]:
    """Return the version of every cell's probes, as inputs of what reads them all."""
    runs = latest_runs(cell.warehouse).filter(pl.col("asset") == "svm_probes")
    return {f"{d}/{e}": version for d, e, version in runs.select("dataset", "encoder", "data_version").iter_rows()}


def _make(cell: Cell) -> Made:
    scores = cell.warehouse.frame("probe_scores").filter(
        pl.col("target") == "label", pl.col("fold").is_null(), pl.col("value").is_not_null()
    )
    summary = scores.filter(pl.col("stratum") == "all", pl.col("protocol").is_in(["published", "grouped"])).collect()
    if summary.is_empty():
        raise CounterstainError("no probe scores yet: materialize svm_probes of at least one cell first.")
    # One C over encoders of many dimensions is not one regularisation: the ranking may hang on it.
    path = scores.filter(pl.col("protocol") == "c_path").collect()
    path = path.with_columns(protocol=pl.format("{} {}", "protocol", "stratum"))
    board = ["dataset", "protocol", "split", "metric"]
    ranked = (
        pl.concat([summary, path])
        .with_columns(pl.col("value").rank("min", descending=True).over(board).cast(pl.Int32).alias("rank"))
        .sort([*board, "rank", "encoder"])
    )
    columns = [name for name in LEADERBOARD.schema.names if name != "row"]
    write_results(cell.warehouse, LEADERBOARD, ranked.select(columns))
    shown = ranked.filter((pl.col("split") == "test") & (pl.col("metric") == "macro_f1"))
    exposure = _exposure(cell, ranked)
    write_results(cell.warehouse, EXPOSURE, exposure)
    shown = shown.join(exposure, on=["dataset", "encoder"], how="left")
    return Made(
        rows=ranked.height,
        data_version=data_version(cell.warehouse, "leaderboard"),
        tables=("leaderboard", "exposure"),
        summary={"cells": ranked.select("dataset", "encoder").n_unique()},
        metadata={
            "macro F1 on held-out images": display.picture(leaderboard_figure(shown, metric="macro F1"), "Leaderboard"),
            **_c_path(path),
            "table": display.table(
                shown.select("dataset", "protocol", "rank", "encoder", "value", "ci_low", "ci_high", "n", "seen")
            ),
        },
    )


def _exposure(cell: Cell, ranked: pl.DataFrame) -> pl.DataFrame:
    """Return, for each data set and encoder that is ranked, what of the one the other's training touched, or null."""
    readers = dict(cell.warehouse.frame("datasets").select("dataset", "reader").collect().rows())
    specs = cell.project.encoder_specs()
    rows = []
    for dataset, encoder in ranked.select("dataset", "encoder").unique(maintain_order=True).iter_rows():
        exposure = specs[encoder].exposure if encoder in specs else {}
        rows.append((dataset, encoder, exposure.get(readers.get(dataset, ""), exposure.get(dataset))))
    return pl.DataFrame(rows, {"dataset": pl.String, "encoder": pl.String, "seen": pl.String}, orient="row")


def _c_path(path: pl.DataFrame) -> dict[str, object]:
    """Draw the ranking by weight of loss, where some cell has scores along it."""
    if path.is_empty():
        return {}
    penalty = pl.col("stratum").str.extract(r"^C=(.+)/N$").cast(pl.Float64).alias("penalty")
    drawn = c_path_figure(path.with_columns(penalty), published=PENALTY, metric="balanced accuracy")
    return {"ranking by C": display.picture(drawn, "Ranking by weight of the loss")}


STEP = Step(
    name="leaderboard",
    description="Encoders ranked by what a linear probe reads of the label, as published beside grouped, and how "
    "the ranking depends on the weight of the probe's loss.",
    group="findings",
    kinds=frozenset({"polars", "lancedb"}),
    scope="all",
    upstream=("svm_probes",),
    code_version="4",
    inputs=probe_versions,
    parameters=lambda _: {},
    make=_make,
)
