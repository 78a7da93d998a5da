"""Which runs made the numbers: versions, seeds, hashes."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from markupsafe import Markup

from analysis.report.blocks import Column, Lines, Table, Words, grey
from analysis.report.provenance import latest_runs, seeds
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.tables import ReportTables

_DIGEST, _LETTERS = 12, 400
# Whose versions numbers and pictures may hang on.
_PACKAGES = ("counterstain", "numpy", "scikit-learn", "scipy", "umap-learn", "polars", "matplotlib", "torch", "lancedb")


def _make(tables: ReportTables) -> Sequence[Block]:
    known = seeds(tables)
    blocks: list[Block] = []
    if known:
        blocks.append(Words(f"Seed{'' if len(known) == 1 else 's'}: {', '.join(map(str, known))}."))
    blocks.append(Words(f"This report was written with {', '.join(_versions())}.", note=True))
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
        "Tables, version",
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
            Lines([f"{table} {number}" for table, number in json.loads(run.get("table_versions") or "{}").items()]),
            Lines([_shortened(run["parameters"] or "")], code=True),
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


def _shortened(parameters: str) -> str:
    """Parameters as far as there is room: all of them are in the table ``runs``."""
    return parameters if len(parameters) <= _LETTERS else parameters[: _LETTERS - 1] + "…"


def _versions() -> list[str]:
    installed = []
    for name in _PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue  # such as counterstain itself, run from a checkout
    return [f"Python {platform.python_version()}", *installed]


def _code(text: object) -> Markup:
    return Markup("<code>{}</code>").format(text)


SECTION = Section(name="provenance", title="Provenance", place=95, make=_make, tables=("runs",))
