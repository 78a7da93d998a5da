"""From tables to one HTML string."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from analysis.evidence import format_number, format_p
from analysis.report.blocks import BADGES, Absent, Interval, PValue, Score, badge
from analysis.report.provenance import time_span
from analysis.report.section import CELLS_PLACE, CellPlace, Part, Section
from analysis.report.sections import report_parts, report_sections
from analysis.report.summary import encoder_verdicts, in_words, overview
from analysis.report.tables import SEEN
from analysis.verdicts import adjust_p_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables

# What the report reads for its head, beside what its sections name; what makes these.
_OWN_TABLES = {
    "images": "images",
    "probe_scores": "svm_probes",
    "neighbor_audits": "neighbor_audits",
    "findings": "bias_report",
    "runs": "",
}


@dataclass(frozen=True)
class _Chapter:
    """A section as the template wants it."""

    name: str
    title: str
    blocks: Sequence[Block]
    level: int = 2


def report_tables() -> list[str]:
    """Return the names of all tables that the report reads."""
    declared: list[Section | Part] = [*report_sections(), *report_parts()]
    return list(dict.fromkeys([*_OWN_TABLES, *(name for each in declared for name in each.tables)]))


def report_assets(*, requested: bool) -> list[str]:
    """Return the assets that the report shows, without itself; those made only on request where `requested`."""
    declared: list[Section | Part] = [*report_sections(), *report_parts()]
    named = [*_OWN_TABLES.values(), *(each.asset for each in declared if requested or not each.requested)]
    return [name for name in dict.fromkeys(named) if name not in ("", "bias_report")]


def wanted_images(tables: ReportTables) -> list[tuple[str, str]]:
    """Name the images that the report shows, so that a caller fetches no other thumbnail.

    Parameters
    ----------
    tables
        All but `ReportTables.thumbnails`.

    Returns
    -------
    list
        Data set and image id, each pair once, sorted.
    """
    prepared = _prepared(tables)
    declared: list[Section | Part] = [*report_sections(), *report_parts()]
    return sorted({key for each in declared for key in each.images(prepared)})


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
    environment.globals |= {"badge": badge, "score": _score, "interval": Interval, "p_value": PValue}
    tables = _prepared(tables)
    places = cell_places(tables)
    cells = [_Cell(place, f"cell-{i}", tables) for i, place in enumerate(places)]
    chapters = [(section, _chapter(section, tables)) for section in report_sections()]
    images = tables["images"]
    return environment.get_template("report.html.jinja").render(
        encoders=encoder_verdicts(tables),
        overview=overview(tables),
        tones={verdict: tone for verdict, (tone, _, _) in BADGES.items()},
        before=[chapter for section, chapter in chapters if chapter and section.place < CELLS_PLACE],
        cells=cells,
        after=[chapter for section, chapter in chapters if chapter and section.place >= CELLS_PLACE],
        anchors={(cell.place.dataset, cell.place.encoder): cell.anchor for cell in cells},
        n_images=images.height,
        datasets=sorted({place.dataset for place in places} | set(images["dataset"] if images.height else [])),
        missing=_missing(tables, chapters, cells),
        time_span=time_span(tables["runs"]),
        version=_version(),
    )


class _Cell:
    """One data set × encoder: its findings, and its parts."""

    def __init__(self, place: CellPlace, anchor: str, tables: ReportTables) -> None:
        self.place, self.anchor = place, anchor
        findings = tables.of_cell("findings", place.dataset, place.encoder)
        self.findings: list[dict[str, Any]] = list(findings.iter_rows(named=True))
        made = [(part, part.make(tables, place)) for part in report_parts()]
        self.missing = [part for part, blocks in made if not blocks and not part.requested]
        self.parts = [
            _Chapter(f"{anchor}-{part.name}", part.title, blocks or [Absent(part.what, part.asset)], level=3)
            for part, blocks in made
            if blocks or not part.requested
        ]


def cell_places(tables: ReportTables) -> list[CellPlace]:
    """Return all cells by name, each with its standing among them."""
    cells = tables.cells()
    severest = sorted(cells, key=lambda cell: _severity(tables, *cell))
    return [CellPlace(*cell, severity=severest.index(cell), cells=len(cells)) for cell in cells]


def _severity(tables: ReportTables, dataset: str, encoder: str) -> tuple[int, int]:
    findings = tables.of_cell("findings", dataset, encoder)
    counts = [0 if findings.is_empty() else findings.filter(verdict=verdict).height for verdict in SEEN]
    return -counts[0], -counts[1]


def _prepared(tables: ReportTables) -> ReportTables:
    """Put findings in their order, and adjust the audits' p-values over all cells of the report."""
    frames = dict(tables.frames)
    if "row" in tables["findings"].columns:
        frames["findings"] = tables["findings"].sort("dataset", "encoder", "row")
    frames["neighbor_audits"] = adjust_p_values(tables["neighbor_audits"])
    return replace(tables, frames=frames)


def _chapter(section: Section, tables: ReportTables) -> _Chapter | None:
    blocks = section.make(tables)
    if not blocks and (section.requested or not section.asset):
        return None
    return _Chapter(section.name, section.title, blocks or [Absent(section.what, section.asset)])


def _missing(
    tables: ReportTables, chapters: Iterable[tuple[Section, _Chapter | None]], cells: Sequence[_Cell]
) -> list[str]:
    """Return the assets of which there is nothing at all, and of which some cell has nothing."""
    own = [asset for name, asset in _OWN_TABLES.items() if asset and tables[name].is_empty()]
    sections = [s.asset for s, chapter in chapters if chapter and isinstance(chapter.blocks[0], Absent)]
    parts = [part.asset for part in report_parts() if not cells and not part.requested]
    parts += [part.asset for cell in cells for part in cell.missing]
    return list(dict.fromkeys([*own, *sections, *parts]))


def _score(row: dict[str, Any], name: str, tone: str) -> Score:
    value, expected = row[name], row[f"{name}_expected"]
    return Score(value, row[f"{name}_ci_low"], row[f"{name}_ci_high"], expected, tone)


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _version() -> str | None:
    try:
        return version("counterstain")
    except PackageNotFoundError:
        return None
