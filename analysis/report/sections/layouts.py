"""A cell's layouts, coloured by label and by every background, and what their clusters go along with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.report.blocks import Picture, Pictures, Points, Words
from analysis.report.layouts import layout_sentences
from analysis.report.pictures import attribute_values, layout_picture
from analysis.report.section import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

# What keeps a report of many cells small: pictures in all; cells up to which these have several panels.
_PICTURES = 48
_SEVERAL_PANELS = 12


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    pictures = _pictures(tables, cell)
    if not pictures:
        return []
    blocks: list[Block] = [
        Words(
            "UMAP of the features, the same points in every picture of a row; only the colour changes. Trustworthiness "
            "is the share of near neighbours that the layout keeps near. Distances between clusters mean little.",
            note=True,
        ),
        Pictures(pictures[:2]),
    ]
    if pictures[2:]:
        blocks.append(Pictures(pictures[2:], across=3))
    sentences = layout_sentences(
        tables.of_cell("layout_associations", cell.dataset, cell.encoder),
        tables.of_cell("layout_clusters", cell.dataset, cell.encoder),
    )
    if sentences:
        blocks.append(Points(sentences))
    return blocks


def _pictures(tables: ReportTables, cell: CellPlace) -> list[Picture]:
    """Draw layouts by label and by every background: several panels of the first two, one of the others."""
    points = tables.of_cell("layouts", cell.dataset, cell.encoder)
    if points.is_empty():
        return []
    quality = tables.of_cell("layout_quality", cell.dataset, cell.encoder)
    images = tables.of_dataset("images", cell.dataset)
    if images.is_empty():
        images = points.select("image_id").unique().with_columns(label=pl.lit(None, dtype=pl.String))
    panels = 6 if cell.cells <= _SEVERAL_PANELS else 1
    pictures = []
    for place, name in enumerate(["label", *_attributes(tables, cell)][: max(2, _PICTURES // cell.cells)]):
        values = attribute_values(images, name)
        # Colours that are all unknown show nothing that the label's picture does not.
        if name != "label" and values[name].null_count() == values.height:
            continue
        uri = layout_picture(points, quality, values, panels=panels if place < 2 else 1)
        pictures.append(Picture(uri, f"{cell}: UMAP layouts coloured by {name}"))
    return pictures


def _attributes(tables: ReportTables, cell: CellPlace) -> list[str]:
    """Attributes of a cell, most severe first where there are verdicts."""
    for name in ("findings", "neighbor_audits"):
        frame = tables.of_cell(name, cell.dataset, cell.encoder)
        if not frame.is_empty():
            return list(dict.fromkeys(frame["confounder"].drop_nulls()))
    return []


PART = Part(
    name="layouts",
    title="Layouts",
    place=10,
    make=_make,
    tables=("layouts", "layout_quality", "layout_associations", "layout_clusters"),
    asset="umap_layouts",
    what="layouts",
)
