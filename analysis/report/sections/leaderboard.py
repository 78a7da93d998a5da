"""Encoders ranked by what a probe reads of the label: published protocol beside the grouped one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from analysis.figures import leaderboard_figure
from analysis.report.blocks import Column, Interval, Picture, Score, Table, Words, grey
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.tables import ReportTables

Row = dict[str, Any]
_PROTOCOLS = ("grouped", "published")
_KEYS = ("dataset", "encoder")
# What of a data set an encoder's training touched, in words.
_SEEN = {"data set": "these images", "modality": "images of this kind", "unknown": "nobody says"}


def _make(tables: ReportTables) -> Sequence[Block]:
    ranked = tables["leaderboard"]
    if ranked.is_empty():
        return []
    boards = leaderboards(ranked)
    exposure = tables["exposure"]
    seen = {} if exposure.is_empty() else {(d, e): how for d, e, how in exposure.select(*_KEYS, "seen").iter_rows()}
    drawn = ranked.filter(
        pl.col("value").is_not_null(), pl.col("protocol").is_in(_PROTOCOLS), split="test", metric="macro_f1"
    )
    blocks: list[Block] = [
        Words(
            "How well a linear probe reads the label on held-out images: as published, images at random, beside "
            "grouped, no patient or slide on both sides. A higher score is not a better encoder where the verdict "
            "above says that the background may be what is read."
        )
    ]
    if drawn.height:
        drawn = drawn.join(_marks(seen), on=_KEYS, how="left")
        png = leaderboard_figure(drawn, metric="macro F1")
        blocks.append(Picture(data_uri(png), "Macro F1 of every encoder on every data set, published beside grouped"))
    rows: list[Sequence[Value]] = []
    first = []
    for dataset, board in boards.items():
        first.append(len(rows))
        for rank, row in enumerate(board, 1):
            shown = _SEEN.get(seen.get((dataset, row["encoder"])) or "", grey("none on record"))
            rows.append([dataset if rank == 1 else "", rank, row["encoder"], *_scores(row["scores"]), shown])
    columns: list[str | Column] = [
        "Data set",
        Column("", numeric=True),
        "Encoder",
        *(Column(f"Macro F1,\n{protocol}", scores=True) for protocol in _PROTOCOLS),
        *(Column(f"Accuracy,\n{protocol}", numeric=True) for protocol in _PROTOCOLS),
        Column("Images,\nheld out", numeric=True),
        "Seen in\npre-training",
    ]
    blocks.append(Table(columns, rows, first=frozenset(first)))
    if any(seen.values()):
        blocks.append(
            Words(
                "Seen in pre-training, as far as the makers say: a score on images that an encoder was trained on, or "
                "on images of their kind, says less of images to come. Hollow dots are such scores.",
                note=True,
            )
        )
    return blocks


def _marks(seen: dict[tuple[str, str], str | None]) -> pl.DataFrame:
    rows = [(*cell, how) for cell, how in seen.items()]
    return pl.DataFrame(rows, {"dataset": pl.String, "encoder": pl.String, "seen": pl.String}, orient="row")


def leaderboards(leaderboard: pl.DataFrame) -> dict[str, list[Row]]:
    """Return per data set a row per encoder with its held-out scores under both protocols, best grouped F1 first."""
    boards: dict[str, list[Row]] = {}
    held_out = leaderboard.filter(pl.col("protocol").is_in(_PROTOCOLS), split="test").sort("dataset", "encoder")
    for (dataset, encoder), rows in held_out.group_by("dataset", "encoder", maintain_order=True):
        scores = {(row["protocol"], row["metric"]): row for row in rows.iter_rows(named=True)}
        boards.setdefault(str(dataset), []).append({"encoder": encoder, "scores": scores})
    for board in boards.values():
        board.sort(key=_standing)
    return boards


def _standing(row: Row) -> tuple[float, float]:
    def value(protocol: str) -> float:
        score = row["scores"].get((protocol, "macro_f1"))
        return -score["value"] if score and score["value"] is not None else 1.0

    return value("grouped"), value("published")


def _scores(scores: dict[tuple[str, str], Row]) -> list[Value]:
    nothing: Row = {"value": None, "ci_low": None, "ci_high": None}
    bounds = ("value", "ci_low", "ci_high")
    f1, accuracy = (
        [[scores.get((protocol, metric), nothing)[bound] for bound in bounds] for protocol in _PROTOCOLS]
        for metric in ("macro_f1", "accuracy")
    )
    supports = [row["n"] for row in scores.values()]
    return [*(Score(*each) for each in f1), *(Interval(*each) for each in accuracy), max(supports)]


SECTION = Section(
    name="leaderboard",
    title="Leaderboard",
    place=10,
    make=_make,
    tables=("leaderboard", "exposure"),
    asset="leaderboard",
    what="leaderboard",
)
