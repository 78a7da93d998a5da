"""Retrieval: which text an encoder finds for an image, and which image for a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.report.blocks import Column, Score, Table, Words
from analysis.report.section import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

_K = (1, 10)


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    rows = tables.of_cell("retrieval_scores", cell.dataset, cell.encoder)
    if rows.is_empty():
        return []
    if rows["value"].null_count() == rows.height:
        reasons = dict.fromkeys(str(note).removeprefix("undefined: ") for note in rows["note"])
        return [Words(f"Nothing retrieved: {'; '.join(reasons)}.", note=True)]
    columns: list[str | Column] = [
        "Texts",
        "Direction",
        *(
            Column(f"Found among\nthe first {k}", scores=True) if k > 1 else Column("Found first", scores=True)
            for k in _K
        ),
        Column("Median rank\n[by chance]", numeric=True),
        Column("Average\nprecision", scores=True),
        Column("Queries", numeric=True),
        Column("Candidates", numeric=True),
    ]
    lines: list[list[Value]] = []
    for (kind, direction), of_one in rows.group_by("kind", "direction", maintain_order=True):
        found = {(row["metric"], row["k"]): row for row in of_one.iter_rows(named=True)}
        median = found["median_rank", None]
        lines.append(
            [
                str(kind),
                str(direction),
                *(_score(found["recall", k]) for k in _K),
                "–" if median["value"] is None else f"{median['value']:g} [{median['expected']:g}]",
                _score(found["mean_average_precision", None]),
                median["n"],
                median["candidates"],
            ]
        )
    words = (
        "Every image is asked for its texts, and every text for its images, among all that there are. Ticks are what a "
        "random order would give."
    )
    return [Words(words), Table(columns, lines)]


def _score(row: dict[str, object]) -> Score:
    return Score(row["value"], row["ci_low"], row["ci_high"], row["expected"])  # type: ignore[arg-type]  # numbers


PART = Part(
    name="retrieval",
    title="Retrieval",
    place=72,
    make=_make,
    tables=("retrieval_scores",),
    asset="retrieval",
    what="retrieval scores",
)
