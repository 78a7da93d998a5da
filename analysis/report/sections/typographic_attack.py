"""Typographic attack: how often the answer becomes the class whose name is written into the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.report.blocks import Column, Interval, Score, Table, Words
from analysis.report.section import Part
from analysis.typographic import ACCURACY, CONTROL, DIFFERENCE, FLIPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    rows = tables.of_cell("typographic_attack", cell.dataset, cell.encoder)
    if rows.is_empty():
        return []
    if rows["value"].null_count() == rows.height:
        return [Words(f"Not attacked: {str(rows['note'][0]).removeprefix('undefined: ')}.")]
    asked = {"texts": "texts that name the classes", "probe": "a linear probe fitted without the image's group"}
    lines: list[list[Value]] = []
    for (planted,), of_class in rows.group_by("planted", maintain_order=True):
        found = {row["metric"]: row for row in of_class.iter_rows(named=True)}
        before, after, _ = (found[name] for name in ACCURACY)
        lines.append(
            [
                "any" if planted is None else str(planted),
                _score(found[FLIPPED]),
                _score(found[CONTROL]),
                _interval(found[DIFFERENCE]),
                _interval(before),
                _interval(after),
                found[FLIPPED]["n"],
            ]
        )
    columns: list[str | Column] = [
        "Class written",
        Column("Answers that\nbecome it", scores=True),
        Column("With a neutral word\nin the same box", scores=True),
        Column("Difference,\npaired by image", numeric=True),
        Column("Accuracy\nbefore", numeric=True),
        Column("Accuracy\nunder attack", numeric=True),
        Column("Images", numeric=True),
    ]
    words = (
        "The name of a class is written into a corner, as scanners write words, and the encoder is asked again, by "
        f"{asked[rows['answered_by'][0]]}. Counted are images that were given another class before; accuracies are of "
        "images of other classes than the one written."
    )
    return [Words(words), Table(columns, lines)]


def _score(row: dict[str, object]) -> Score:
    return Score(row["value"], row["ci_low"], row["ci_high"])  # type: ignore[arg-type]  # numbers


def _interval(row: dict[str, object]) -> Interval:
    return Interval(row["value"], row["ci_low"], row["ci_high"])  # type: ignore[arg-type]  # numbers


PART = Part(
    name="typographic-attack",
    title="What a written class name does",
    place=85,
    make=_make,
    tables=("typographic_attack",),
    asset="typographic_attack",
    what="typographic attack",
    requested=True,
)
