"""Which runs made the numbers: versions, seeds, hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from analysis.report.blocks import Column, Lines, Table, Words, grey
from analysis.report.provenance import latest_runs, seeds
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.tables import ReportTables

_DIGEST = 12


def _make(tables: ReportTables) -> Sequence[Block]:
    known = seeds(tables)
    blocks: list[Block] = []
    if known:
        blocks.append(Words(f"Seed{'' if len(known) == 1 else 's'}: {', '.join(map(str, known))}."))
    runs = latest_runs(tables["runs"])
    if not runs:
        return [*blocks, Words("No run is on record.", note=True)]
    columns: list[str | Column] = [
        "Made",
        "Of",
        Column("Rows", numeric=True),
        "Code",
        "Data version",
        "Encoder fingerprint",
        "Parameters",
        "Finished, run",
    ]
    rows: list[list[Value]] = [
        [
            run["asset"],
            Lines([run["dataset"], *([grey(run["encoder"])] if run["encoder"] else [])]),
            run["rows"],
            run["code_version"],
            _code((run["data_version"] or "")[:_DIGEST]),
            _code((run["fingerprint"] or "")[:_DIGEST]),
            Lines([run["parameters"] or ""], code=True),
            Lines(
                [
                    run["finished_at"].strftime("%Y-%m-%d %H:%M") if run["finished_at"] else "",
                    _code(run["run_id"]),
                ]
            ),
        ]
        for run in runs
    ]
    return [*blocks, Table(columns, rows)]


def _code(text: object) -> Markup:
    return Markup("<code>{}</code>").format(text)


SECTION = Section(name="provenance", title="Provenance", place=95, make=_make, tables=("runs",))
