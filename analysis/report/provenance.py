"""Which runs made the numbers of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from analysis.report.tables import ReportTables

_ORDER = (
    "images", "overlays", "embeddings", "umap_layouts", "layout_clusters", "svm_probes", "neighbor_audits",
    "leaderboard",
)  # fmt: skip


def latest_runs(runs: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the last run of every partition, in the order of the pipeline."""
    if runs.is_empty():
        return []
    last = runs.sort("finished_at").unique(["asset", "dataset", "encoder"], keep="last")
    rows = last.sort("dataset", "encoder", nulls_last=True).iter_rows(named=True)
    return sorted(rows, key=lambda row: _ORDER.index(row["asset"]) if row["asset"] in _ORDER else len(_ORDER))


def seeds(tables: ReportTables) -> list[int]:
    """Return the seeds that any result was made with."""
    found: set[int] = set()
    for frame in (tables["probe_scores"], tables["neighbor_audits"], tables["layout_quality"]):
        if not frame.is_empty():
            found.update(frame["seed"].drop_nulls().unique())
    return sorted(found)


def time_span(runs: pl.DataFrame) -> tuple[str, str] | None:
    """Return the days on which the first and the last of the runs ended."""
    if runs.is_empty() or runs["finished_at"].drop_nulls().is_empty():
        return None
    ended = runs["finished_at"].drop_nulls()
    first, last = ended.sort().gather([0, len(ended) - 1]).dt.strftime("%-d %B %Y").to_list()
    return first, last
