"""From tables to one HTML string."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import polars as pl

from analysis.evidence import format_interval, format_number, format_p
from analysis.report.cells import cell_views
from analysis.report.layouts import encoders_picture
from analysis.report.pictures import agreement_picture, calibration_picture, leaderboard_picture
from analysis.report.provenance import latest_runs, seeds, time_span
from analysis.report.summary import BADGES, encoder_verdicts, in_words, overview

if TYPE_CHECKING:
    from analysis.report.tables import ReportTables

_TABLES_OF = {
    "images": "images",
    "probe_scores": "svm_probes",
    "neighbor_audits": "neighbor_audits",
    "layouts": "umap_layouts",
    "leaderboard": "leaderboard",
    "findings": "bias_report",
}
METRIC_NAMES = {
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
COPIES_SHOWN = 20
REJECTS_SHOWN = 40


def render_report(tables: ReportTables) -> str:
    """Write the bias report.

    Parameters
    ----------
    tables
        What is in the store; an empty table leaves its part out, and the report says so.

    Returns
    -------
    str
        One HTML document. Pictures are inside it, nothing is fetched and no script runs; every text that comes from
        data is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "p": format_p, "count": _count, "in_words": in_words}
    environment.globals |= {"interval": format_interval}
    if "row" in tables.findings.columns:
        tables = replace(tables, findings=tables.findings.sort("dataset", "encoder", "row"))
    cells = cell_views(tables)
    return environment.get_template("report.html.jinja").render(
        badges=BADGES,
        metric_names=METRIC_NAMES,
        encoders=encoder_verdicts(tables),
        overview=overview(tables),
        cells=cells,
        cell_anchors={(cell.dataset, cell.encoder): f"cell-{i}" for i, cell in enumerate(cells)},
        boards=leaderboards(tables.leaderboard),
        board_picture=leaderboard_picture(_drawn(tables.leaderboard), metric="macro F1"),
        agreement_picture=agreement_picture(tables.encoder_agreement),
        calibration_picture=calibration_picture(tables.calibration),
        false_positives=_false_positives(tables.calibration),
        copies=exact_copies(tables.images),
        copies_shown=COPIES_SHOWN,
        rejects=list(tables.rejects.head(REJECTS_SHOWN).iter_rows(named=True)),
        n_rejects=tables.rejects.height,
        side_by_side={
            dataset: picture
            for dataset in dict.fromkeys(cell.dataset for cell in cells)
            if (picture := encoders_picture(tables, dataset)) is not None
        },
        n_images=tables.images.height,
        datasets=sorted({cell.dataset for cell in cells}),
        missing=[asset for name, asset in _TABLES_OF.items() if getattr(tables, name).is_empty()],
        runs=latest_runs(tables.runs),
        seeds=seeds(tables),
        time_span=time_span(tables.runs),
        version=_version(),
    )


def leaderboards(leaderboard: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Return per data set a row per encoder with its held-out scores under both protocols, best grouped F1 first."""
    if leaderboard.is_empty():
        return {}
    boards: dict[str, list[dict[str, Any]]] = {}
    held_out = leaderboard.filter(split="test").sort("dataset", "encoder")
    for (dataset, encoder), rows in held_out.group_by("dataset", "encoder", maintain_order=True):
        scores = {(row["protocol"], row["metric"]): row for row in rows.iter_rows(named=True)}
        boards.setdefault(str(dataset), []).append({"encoder": encoder, "scores": scores})
    for board in boards.values():
        board.sort(key=_standing)
    return boards


def _standing(row: dict[str, Any]) -> tuple[float, float]:
    def value(protocol: str) -> float:
        score = row["scores"].get((protocol, "macro_f1"))
        return -score["value"] if score and score["value"] is not None else 1.0

    return value("grouped"), value("published")


def exact_copies(images: pl.DataFrame) -> list[dict[str, Any]]:
    """Return pictures that a data set holds more than once: uris, labels, and whether the labels disagree."""
    if images.is_empty() or "content_hash" not in images.columns:
        return []
    copies = (
        images.filter(pl.col("content_hash").is_not_null())
        .sort("dataset", "uri")
        .group_by("dataset", "content_hash", maintain_order=True)
        .agg("uri", "label", disagree=pl.col("label").drop_nulls().n_unique() > 1)
        .filter(pl.col("uri").list.len() > 1)
    )
    return list(copies.sort("disagree", descending=True, maintain_order=True).iter_rows(named=True))


def _false_positives(calibration: pl.DataFrame) -> dict[str, Any] | None:
    """Sum up the tests of sets in which nothing is planted."""
    if calibration.is_empty():
        return None
    null = calibration.filter(pl.col("rejected").is_not_null(), strength=0)
    tests = int(null["repetitions"].sum())
    rejected = float(null.select(pl.col("rejected").dot("repetitions")).item()) if tests else 0.0
    return {"tests": tests, "rate": rejected / tests} if tests else None


def _drawn(leaderboard: pl.DataFrame) -> pl.DataFrame:
    if leaderboard.is_empty():
        return leaderboard
    return leaderboard.filter(pl.col("value").is_not_null(), split="test", metric="macro_f1")


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _version() -> str | None:
    try:
        return version("counterstain")
    except PackageNotFoundError:
        return None
