"""The verdict on each encoder, in a line, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.evidence import format_interval, format_number
from analysis.report.tables import SEEN, ReportTables
from analysis.verdicts import MEANINGS, NOTEWORTHY_DROP, is_entangled

Row = dict[str, Any]

_REMEDIES = {
    "text_overlay": "Crop or mask the burned-in words, encode again, and compare the scores.",
    "overlay_text": "Crop or mask the burned-in words, encode again, and compare the scores.",
    "annotation": "Take the unmarked originals where they exist, or paint the marks over, and encode again.",
}


@dataclass(frozen=True)
class EncoderVerdict:
    """What the report says first of one encoder: headline, evidence and remedies."""

    encoder: str
    badge: str
    headline: str
    evidence: list[Row]
    remedies: list[str]


@dataclass(frozen=True)
class Overview:
    """Verdicts as a grid: a row per cell, a column per background attribute."""

    backgrounds: list[str]
    rows: list[tuple[Row, list[Row | None]]]


def encoder_verdicts(tables: ReportTables) -> list[EncoderVerdict]:
    """Sum up the findings of every encoder, the one most led by backgrounds first."""
    if tables["findings"].is_empty():
        return []
    verdicts = [
        _encoder_verdict(str(name), rows, tables)
        for (name,), rows in tables["findings"]
        .sort("encoder", maintain_order=True)
        .group_by("encoder", maintain_order=True)
    ]
    order = ("bad", "warn", "unknown", "good")
    return sorted(verdicts, key=lambda verdict: (order.index(verdict.badge), verdict.encoder))


def headlines(findings: pl.DataFrame) -> pl.DataFrame:
    """Return ``encoder`` and ``verdict``, one sentence each, the encoder most led by backgrounds first."""
    told = [(verdict.encoder, verdict.headline) for verdict in encoder_verdicts(ReportTables({"findings": findings}))]
    return pl.DataFrame(told, {"encoder": pl.String, "verdict": pl.String}, orient="row")


def overview(tables: ReportTables) -> Overview:
    """Arrange all findings in a grid, encoders together."""
    if tables["findings"].is_empty():
        return Overview([], [])
    findings = tables["findings"]
    attributes = findings.filter(pl.col("confounder").is_not_null())
    # Those that lead most often first, so that a wide grid is read from the left.
    counts = [(pl.col("verdict") == verdict).sum().alias(verdict) for verdict in SEEN]
    ranked = attributes.group_by("confounder").agg(*counts, pl.len())
    ranked = ranked.sort([*SEEN, "len", "confounder"], descending=[True, True, True, False])
    backgrounds = ranked["confounder"].to_list()
    rows = []
    for (encoder, dataset), cell in findings.sort("encoder", "dataset", maintain_order=True).group_by(
        "encoder", "dataset", maintain_order=True
    ):
        by_name = {row["confounder"]: row for row in cell.iter_rows(named=True)}
        label = by_name.get(None) or {"encoder": encoder, "dataset": dataset, "verdict": None}
        rows.append((label, [by_name.get(name) for name in backgrounds]))
    return Overview(backgrounds, rows)


def in_words(name: str) -> str:
    """Name an attribute so that a reader who never saw the table understands it."""
    return MEANINGS.get(name, name.replace("_", " "))


def _encoder_verdict(encoder: str, rows: pl.DataFrame, tables: ReportTables) -> EncoderVerdict:
    badge, headline = _headline(rows)
    evidence = rows.sort("dataset", maintain_order=True).iter_rows(named=True)
    return EncoderVerdict(encoder, badge, headline, list(evidence), _remedies(encoder, rows, tables))


def _headline(rows: pl.DataFrame) -> tuple[str, str]:
    backgrounds = rows.filter(pl.col("confounder").is_not_null())
    leads, visible = (list(dict.fromkeys(backgrounds.filter(verdict=verdict)["confounder"])) for verdict in SEEN)
    only_visible = [name for name in visible if name not in leads]
    labels = set(rows.filter(pl.col("confounder").is_null())["verdict"])
    if leads:
        also = f"; it also sees {_and(only_visible)}" if only_visible else ""
        return "bad", f"Separates images by {_and(leads)} before the label{also}"
    if visible:
        # Of the data sets in which they are seen: elsewhere it may read the label.
        where = backgrounds.filter(pl.col("verdict").is_in(SEEN))["dataset"].unique().to_list()
        there = set(rows.filter(pl.col("confounder").is_null(), pl.col("dataset").is_in(where))["verdict"])
        if "reads the label" in there:
            return "warn", f"Sees {_and(visible)} beside the label"
        if there == {"no better than chance"}:
            return "warn", f"Sees {_and(visible)} and not the label"
        return "warn", f"Sees {_and(visible)}; whether it reads the label too cannot be told"
    reads = "Reads the label" if labels & {"reads the label", "reads label or background"} else ""
    if backgrounds.is_empty():
        return "unknown", f"{reads or 'No score above guessing'}; no background is on record to check it against"
    if set(backgrounds["verdict"]) == {"no sign of the background"}:
        if reads:
            return "good", "Reads the label, with no sign of the backgrounds that were checked"
        return "unknown", "Neither the label nor the backgrounds that were checked can be made out"
    return "unknown", "What it separates images by cannot be told from these data"


def _remedies(encoder: str, rows: pl.DataFrame, tables: ReportTables) -> list[str]:
    remedies: list[str] = []
    seen = rows.filter(pl.col("verdict").is_in(SEEN))
    for name in dict.fromkeys(seen["confounder"]):
        where = _and(seen.filter(confounder=name)["dataset"].to_list(), plain=True)
        remedy = _REMEDIES.get(
            name, f"Balance or stratify training and test by {name}, and quote the score of each value."
        )
        remedies.append(f"{in_words(name)[:1].upper()}{in_words(name)[1:]} ({where}): {remedy}")
    entangled = rows.filter(verdict="reads label or background")
    remedies += [_untangle(dataset, encoder, tables) for dataset in entangled["dataset"]]
    remedies += _grouped_scores(encoder, tables)
    for row in rows.filter(pl.col("confounder").is_null()).iter_rows(named=True):
        if rows.filter(pl.col("confounder").is_not_null(), dataset=row["dataset"]).is_empty():
            remedies.append(
                f"{row['dataset']}: record what the background holds (detect burned-in words, or give a column such as "
                "view or scanner); without it nothing can be checked."
            )
    untold = rows.filter(pl.col("confounder").is_not_null(), verdict="cannot be told")
    for row in untold.iter_rows(named=True):
        remedies.append(
            f"{row['dataset']}, {row['confounder']}: add images, above all of combinations of label and background "
            "that are rare, before trusting either answer."
        )
    return remedies


def _untangle(dataset: str, encoder: str, tables: ReportTables) -> str:
    audits = tables.of_cell("neighbor_audits", dataset, encoder)
    gaps = []
    if not audits.is_empty():
        tangled = (
            (row["confounder"], row["note"] or "")
            for row in audits.filter(metric="cramers_v").iter_rows(named=True)
            if is_entangled(row["value"], row["expected"])
        )
        gaps = [f"{name}: {note}" for name, note in tangled if note.startswith("no image of")]
    missing = f" By {'; by '.join(gaps)}." if gaps else ""
    return (
        f"{dataset}: collect counterexamples, images where the background goes with another label, and score the label "
        f"on those; until then its score says nothing of the lesion.{missing}"
    )


def _grouped_scores(encoder: str, tables: ReportTables) -> list[str]:
    """Say which figure to quote, where the published one is flattered."""
    if tables["probe_scores"].is_empty():
        return []
    summary = tables["probe_scores"].filter(
        pl.col("fold").is_null(), encoder=encoder, target="label", split="cv", stratum="all", metric="balanced_accuracy"
    )
    remedies = []
    for (dataset,), rows in summary.sort("dataset").group_by("dataset", maintain_order=True):
        by_protocol = {row["protocol"]: row for row in rows.iter_rows(named=True) if row["value"] is not None}
        if {"grouped", "published"} <= set(by_protocol):
            grouped, published = by_protocol["grouped"], by_protocol["published"]
            if published["value"] - grouped["value"] >= NOTEWORTHY_DROP:
                interval = format_interval(grouped["value"], grouped["ci_low"], grouped["ci_high"])
                remedies.append(
                    f"{dataset}: quote the grouped score, {interval}, and not the published "
                    f"{format_number(published['value'])}, which may recognise patients or slides."
                )
    return remedies


def _and(names: list[str], *, plain: bool = False) -> str:
    words = names if plain else [in_words(name) for name in names]
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} and {last}" if first else last
