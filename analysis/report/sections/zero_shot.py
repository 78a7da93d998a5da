"""Zero-shot: what an encoder answers when it is asked for the classes in words, and whether a background moves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import over_prediction_figure, reliability_figure
from analysis.report.blocks import Column, Heading, Interval, Note, Picture, PValue, Score, Table, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Part
from analysis.report.summary import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

# Cells whose diagrams are drawn, those that backgrounds lead first.
_CELLS = 12
_SINGLE = "highest cosine"


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    rows = tables.of_cell("zero_shot_scores", cell.dataset, cell.encoder)
    if rows.is_empty():
        return []
    rows = rows.filter(split="all")
    whole = rows.filter(pl.col("label").is_null(), stratum="all")
    if whole["value"].null_count() == whole.height:
        reasons = dict.fromkeys(str(note).removeprefix("undefined: ") for note in whole["note"])
        return [Words(f"Not asked in words: {'; '.join(reasons)}.", note=True)]
    blocks: list[Block] = [
        Words(
            "The classes are asked for in words, by every set of prompts; nothing is fitted, but thresholds where a "
            "rule says so."
        )
    ]
    if (single := whole.filter(pl.col("value").is_not_null(), rule=_SINGLE)).height:
        blocks.append(_single(single, rows))
    if (sets := whole.filter(pl.col("value").is_not_null(), pl.col("rule") != _SINGLE)).height:
        blocks += [Heading("Any number of labels"), _sets(sets)]
    if (moved := rows.filter(metric="answer_shift")).height:
        blocks += [Heading("Does a background move the answer?"), *_moved(moved)]
    if cell.severity < _CELLS:
        blocks += _pictures(rows, tables.of_cell("zero_shot_reliability", cell.dataset, cell.encoder), cell)
    return blocks


def _single(whole: pl.DataFrame, rows: pl.DataFrame) -> Table:
    by_class = rows.filter(pl.col("label").is_not_null(), rule=_SINGLE, metric="recall")
    columns: list[str | Column] = [
        "Prompts",
        Column("Balanced accuracy\nvs guessing", scores=True),
        Column("Accuracy", numeric=True),
        Column("AUROC", numeric=True),
        Column("Calibration\nerror", numeric=True),
        Column("Images", numeric=True),
    ]
    lines: list[list[Value]] = []
    for (name,), of_set in whole.group_by("prompt_set", maintain_order=True):
        found = {row["metric"]: row for row in of_set.iter_rows(named=True)}
        # Of as many classes as occur, guessing tells one.
        classes = by_class.filter(pl.col("n") > 0, prompt_set=name).height
        balanced = found["balanced_accuracy"]
        lines.append(
            [
                str(name),
                Score(balanced["value"], balanced["ci_low"], balanced["ci_high"], 1 / classes if classes else None),
                *(_interval(found.get(metric)) for metric in ("accuracy", "auroc", "ece")),
                balanced["n"],
            ]
        )
    return Table(columns, lines)


def _sets(whole: pl.DataFrame) -> Table:
    columns: list[str | Column] = [
        "Prompts",
        "A label is said to be there where",
        Column("Macro F1", numeric=True),
        Column("Micro F1", numeric=True),
        Column("Exact match", numeric=True),
        Column("LRAP", numeric=True),
        Column("Images", numeric=True),
        "Note",
    ]
    lines: list[list[Value]] = []
    for (name, rule), of_rule in whole.group_by("prompt_set", "rule", maintain_order=True):
        found = {row["metric"]: row for row in of_rule.iter_rows(named=True)}
        exact = found["exact_match"]
        scores = (_interval(found.get(metric)) for metric in ("macro_f1", "micro_f1", "exact_match", "lrap"))
        lines.append([str(name), str(rule), *scores, exact["n"], Note(exact["note"])])
    return Table(columns, lines)


def _moved(rows: pl.DataFrame) -> list[Block]:
    told = rows.filter(pl.col("value").is_not_null())
    if told.is_empty():
        return [Words("No background has two values that are known.", note=True)]
    columns: list[str | Column] = [
        "Background",
        "Prompts",
        Column("Answers moved\nvs chance", scores=True),
        Column("p", numeric=True),
        Column("Images", numeric=True),
        "Note",
    ]
    lines: list[list[Value]] = [
        [
            in_words(row["stratum"]),
            row["prompt_set"],
            Score(row["value"], None, None, row["expected"]),
            PValue(row["p_value"]),
            row["n"],
            Note(row["note"]),
        ]
        for row in told.iter_rows(named=True)
    ]
    words = (
        "Share of answers that would have to change for images of one label to be answered alike in every background, "
        "against what permuting the background within labels gives; p-values are not adjusted."
    )
    return [Words(words), Table(columns, lines)]


def _pictures(rows: pl.DataFrame, bins: pl.DataFrame, cell: CellPlace) -> list[Block]:
    blocks: list[Block] = []
    if bins.height:
        uri = data_uri(reliability_figure(bins, title=f"{cell}: reliability"))
        blocks.append(Picture(uri, f"{cell}: how often zero-shot answers are right, by their confidence"))
    over = rows.filter(pl.col("value").is_not_null(), metric="over_prediction", stratum="all")
    for (name,), of_set in over.group_by("prompt_set", maintain_order=True):
        uri = data_uri(over_prediction_figure(of_set, title=f"{cell}, {name}: predicted over true"))
        blocks.append(Picture(uri, f"{cell}, {name}: images said to have a label over those that have it"))
    return blocks


def _interval(row: dict[str, object] | None) -> Interval:
    if row is None:
        return Interval(None)
    return Interval(row["value"], row["ci_low"], row["ci_high"])  # type: ignore[arg-type]  # numbers


PART = Part(
    name="zero-shot",
    title="Zero-shot",
    place=70,
    make=_make,
    tables=("zero_shot_scores", "zero_shot_reliability"),
    asset="zero_shot",
    what="zero-shot scores",
)
