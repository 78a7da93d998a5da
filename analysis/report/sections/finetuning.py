"""Trainings by gradient: what they score on held-out images, and the background in an encoder before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import tuning_shift_figure
from analysis.report.blocks import Column, Heading, Interval, Note, Picture, Table, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.tables import ReportTables

_HELD_OUT = "test"
# Of single labels or of label sets; a training has some of them.
_SCORES = {
    "balanced_accuracy": "Balanced\naccuracy",
    "macro_f1": "Macro F1",
    "auroc": "AUROC",
    "exact_match": "Exact match",
    "lrap": "LRAP",
}
_MEASURES = {
    "decodability": "decodability",
    "label_agreement": "neighbours that share the label",
    "confounder_agreement": "neighbours that share the background",
    "robustness_index": "robustness index",
    "within_label_gap": "accuracy gap within a label",
}


def _make(tables: ReportTables) -> Sequence[Block]:
    blocks: list[Block] = []
    scores = tables["finetuning_scores"]
    if not scores.is_empty():
        blocks.append(_trainings(scores.filter(pl.col("label").is_null(), part=_HELD_OUT)))
    shift = tables["finetuning_shift"]
    if shift.is_empty():
        return blocks
    blocks.append(
        Words(
            "An encoder was fine-tuned to tell the labels. Did it learn the lesion, or lean on the background more? "
            "Both are measured on images whose groups training did not touch. An interval is of one value: of the "
            "same images, both may overlap and the difference be certain. What chance gives may change too, with what "
            "is near to what: it is in the picture."
        )
    )
    held_out = shift.filter(images=_HELD_OUT)
    for (dataset, encoder, base), rows in held_out.group_by("dataset", "encoder", "base", maintain_order=True):
        png = tuning_shift_figure(rows, title=f"{dataset}: {base}, and fine-tuned")
        named = f"{dataset}: {base} before and after it was fine-tuned, as {encoder}"
        blocks += [Heading(f"{dataset}, {encoder}"), Picture(data_uri(png), named), *_side_by_side(rows)]
    return blocks


def _trainings(scores: pl.DataFrame) -> Table:
    """Return a row for each training: its scores on the test part."""
    metrics = [metric for metric in _SCORES if metric in scores["metric"]]
    lines: list[list[Value]] = []
    keys = ("dataset", "encoder", "training", "mode")
    for key, rows in scores.sort(keys).group_by(*keys, maintain_order=True):
        found = {row["metric"]: row for row in rows.iter_rows(named=True)}
        lines.append([*map(str, key), *(_interval(found.get(metric)) for metric in metrics), int(rows["n"][0])])
    columns = [Column(_SCORES[metric], numeric=True) for metric in metrics]
    return Table(
        ["Data set", "Began with", "Training", "Mode", *columns, Column("Images", numeric=True)],
        lines,
        caption="Scores on the part held out. linear: a head on stored vectors; full: the encoder too.",
    )


def _side_by_side(rows: pl.DataFrame) -> list[Block]:
    """Return what was measured before and after, and folded, what the data cannot support."""
    lines: list[list[Value]] = []
    undefined: list[list[Value]] = []
    for (metric, confounder), both in rows.group_by("metric", "confounder", maintain_order=True):
        before, after = (next(both.filter(moment=each).iter_rows(named=True), None) for each in ("before", "after"))
        change = None
        if before and after and before["value"] is not None and after["value"] is not None:
            change = after["value"] - before["value"]
        reasons = dict.fromkeys(row["note"] for row in (before, after) if row and row["value"] is None and row["note"])
        (undefined if change is None else lines).append(
            [
                _MEASURES.get(str(metric), str(metric)),
                "label" if confounder is None else str(confounder),
                _interval(before),
                _interval(after),
                change,
                int(both["n"].max() or 0),  # type: ignore[arg-type]  # a count
                Note("; ".join(reasons)),
            ]
        )
    numbers = [Column(name, numeric=True) for name in ("Before", "After", "Change", "Images")]
    columns: list[str | Column] = ["Measure", "Of", *numbers, "Note"]
    tables: list[Block] = [Table(columns, lines)] if lines else []
    if undefined:
        tables.append(Table(columns, undefined, folded=f"{len(undefined)} measures that these images cannot support"))
    return tables


def _interval(row: dict[str, object] | None) -> Interval | None:
    return Interval(row["value"], row["ci_low"], row["ci_high"]) if row else None  # type: ignore[arg-type]


SECTION = Section(
    name="finetuning",
    title="Fine-tuning",
    place=65,
    make=_make,
    tables=("finetuning_scores", "finetuning_shift"),
    asset="finetuning_shift",
    what="fine-tuned encoders",
    requested=True,
)
