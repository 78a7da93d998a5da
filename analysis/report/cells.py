"""What the report shows of one data set under one encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from analysis.figures import SHOWN_METRICS
from analysis.report.layouts import layout_sentences
from analysis.report.pictures import (
    attribute_values,
    audit_picture,
    layout_picture,
    neighbors_picture,
)
from analysis.report.tables import SEEN, seen_backgrounds, sheet_attributes, telling_neighbors
from analysis.verdicts import adjust_p_values

if TYPE_CHECKING:
    from analysis.report.tables import ReportTables

Row = dict[str, Any]

# What keeps a report of many cells small: pictures of layouts in all; cells up to which these have several
# panels; cells with a sheet of neighbours, those that backgrounds lead first.
LAYOUT_PICTURES = 48
SEVERAL_PANELS = 12
NEIGHBOR_SHEETS = 24
# Metrics in the first table of a cell; the others follow folded.
_FOREMOST = ("cramers_v", *SHOWN_METRICS)


@dataclass(frozen=True)
class Picture:
    """A figure and what it is called."""

    uri: str
    caption: str


@dataclass(frozen=True)
class Sheet:
    """Images with neighbours that share one attribute."""

    attribute: str
    uri: str


@dataclass(frozen=True)
class Strata:
    """The label's score on each value of one attribute."""

    attribute: str
    rows: list[Row]
    worst: str
    gap: float
    overlap: bool


@dataclass(frozen=True)
class CellView:
    """One cell's part of the report; what is None or empty has not been made yet."""

    dataset: str
    encoder: str
    findings: list[Row]
    layouts: list[Picture]
    layout_sentences: list[str]
    overall: Row | None
    strata: list[Strata]
    strata_protocol: str
    audits: list[Row]
    more_audits: list[Row]
    audit_picture: str | None
    sheets: list[Sheet]


def cell_views(tables: ReportTables) -> list[CellView]:
    """Prepare every cell, encoders of a data set together."""
    cells = tables.cells()
    audits = adjust_p_values(tables.neighbor_audits)
    sheets = sorted(cells, key=lambda cell: _severity(tables, *cell))[:NEIGHBOR_SHEETS]
    return [_cell_view(tables, audits, *cell, n_cells=len(cells), with_sheet=cell in sheets) for cell in cells]


def _severity(tables: ReportTables, dataset: str, encoder: str) -> tuple[int, int]:
    findings = tables.of_cell("findings", dataset, encoder)
    counts = [0 if findings.is_empty() else findings.filter(verdict=verdict).height for verdict in SEEN]
    return -counts[0], -counts[1]


def _cell_view(
    tables: ReportTables, audits: pl.DataFrame, dataset: str, encoder: str, *, n_cells: int, with_sheet: bool
) -> CellView:
    findings = tables.of_cell("findings", dataset, encoder)
    own = audits if audits.is_empty() else audits.filter(dataset=dataset, encoder=encoder)
    rows = list(own.iter_rows(named=True))
    protocol, overall, strata = label_strata(tables.of_cell("probe_scores", dataset, encoder))
    return CellView(
        dataset=dataset,
        encoder=encoder,
        findings=list(findings.iter_rows(named=True)),
        layouts=_layouts(
            tables,
            dataset,
            encoder,
            limit=max(2, LAYOUT_PICTURES // n_cells),
            panels=6 if n_cells <= SEVERAL_PANELS else 1,
        ),
        layout_sentences=layout_sentences(
            tables.of_cell("layout_associations", dataset, encoder), tables.of_cell("layout_clusters", dataset, encoder)
        ),
        overall=overall,
        strata=strata,
        strata_protocol=protocol,
        audits=[row for row in rows if row["metric"] in _FOREMOST],
        more_audits=[row for row in rows if row["metric"] not in _FOREMOST],
        audit_picture=audit_picture(own, title=f"{dataset}, {encoder}"),
        sheets=_sheets(tables, dataset, encoder) if with_sheet else [],
    )


def _sheets(tables: ReportTables, dataset: str, encoder: str) -> list[Sheet]:
    """Draw the most telling neighbours by attribute: one sheet for each, or frames would mix what is shared."""
    lists = tables.of_cell("neighbors", dataset, encoder)
    if lists.is_empty():
        return []
    sheets = []
    for attribute in sheet_attributes(lists, seen_backgrounds(tables.findings, dataset, encoder)):
        shown = telling_neighbors(lists, attribute)
        uri = neighbors_picture(shown, tables, dataset, attribute) if shown.height else None
        if uri:
            sheets.append(Sheet(attribute, uri))
    return sheets


def label_strata(scores: pl.DataFrame) -> tuple[str, Row | None, list[Strata]]:
    """Return protocol, overall accuracy of the label, and its accuracy by attribute; widest gap first.

    Cross-validated, since a stratum of the test part is small; grouped where there is such a score.
    """
    if scores.is_empty():
        return "grouped", None, []
    summary = scores.filter(pl.col("fold").is_null(), pl.col("value").is_not_null(), target="label", split="cv")
    balanced = summary.filter(metric="balanced_accuracy").select(
        "protocol", "stratum", balanced="value", balanced_ci_low="ci_low", balanced_ci_high="ci_high"
    )
    rows = summary.filter(metric="accuracy").join(
        balanced, on=["protocol", "stratum"], how="left", maintain_order="left"
    )
    protocol = "grouped" if "grouped" in rows["protocol"] else "published"
    rows = rows.filter(protocol=protocol)
    overall = next(rows.filter(stratum="all").iter_rows(named=True), None)
    split = rows.filter(pl.col("stratum") != "all").with_columns(
        pl.col("stratum").str.splitn("=", 2).struct.rename_fields(["attribute", "stratum_value"])
    )
    strata = []
    for (attribute,), part in split.unnest("stratum").group_by("attribute", maintain_order=True):
        ordered = part.sort("value", "stratum_value")
        worst, best = ordered.row(0, named=True), ordered.row(-1, named=True)
        known = worst["ci_high"] is not None and best["ci_low"] is not None
        overlap = not known or worst["ci_high"] >= best["ci_low"]
        gap = best["value"] - worst["value"]
        strata.append(Strata(str(attribute), list(ordered.iter_rows(named=True)), worst["stratum_value"], gap, overlap))
    return protocol, overall, sorted(strata, key=lambda s: (-s.gap, s.attribute))


def _layouts(tables: ReportTables, dataset: str, encoder: str, *, limit: int, panels: int) -> list[Picture]:
    """Draw layouts by label and by every background: several panels of the first two, one of the others."""
    points = tables.of_cell("layouts", dataset, encoder)
    if points.is_empty():
        return []
    quality = tables.of_cell("layout_quality", dataset, encoder)
    images = tables.of_dataset("images", dataset)
    if images.is_empty():
        images = points.select("image_id").unique().with_columns(label=pl.lit(None, dtype=pl.String))
    names = ["label", *_attributes(tables, dataset, encoder)]
    pictures = []
    for place, name in enumerate(names[:limit]):
        values = attribute_values(images, name)
        # Colours that are all unknown show nothing that the label's picture does not.
        if name != "label" and values[name].null_count() == values.height:
            continue
        uri = layout_picture(points, quality, values, panels=panels if place < 2 else 1)
        pictures.append(Picture(uri, f"{dataset}, {encoder}: UMAP layouts coloured by {name}"))
    return pictures


def _attributes(tables: ReportTables, dataset: str, encoder: str) -> list[str]:
    """Attributes of a cell, most severe first where there are verdicts."""
    for name in ("findings", "neighbor_audits"):
        frame = tables.of_cell(name, dataset, encoder)
        if not frame.is_empty():
            return list(dict.fromkeys(frame["confounder"].drop_nulls()))
    return []
