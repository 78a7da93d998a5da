"""A cell's layouts, coloured by label beside every background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import layout_grids_figure
from analysis.report.blocks import Picture, Pictures, Words
from analysis.report.pictures import attribute_values, data_uri, layout_picture
from analysis.report.section import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

# What keeps a report of many cells small: pictures in all; cells up to which these have several panels, or which have
# a picture of their whole grid.
_PICTURES = 48
_SEVERAL_PANELS = 12
# A grid of more settings is drawn small, as a whole.
_LARGE = 6


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    points = tables.of_cell("layouts", cell.dataset, cell.encoder)
    if points.is_empty():
        return []
    settings = points.select("n_neighbors", "min_dist").n_unique()
    quality = tables.of_cell("layout_quality", cell.dataset, cell.encoder)
    known = _colours(tables, cell, points)
    blocks: list[Block] = [Words(_introduction(settings, quality), note=True)]
    whole = settings > _LARGE and cell.severity < _SEVERAL_PANELS
    if whole:
        blocks.append(_grids(points, known[:2], cell))
    several = 6 if cell.cells <= _SEVERAL_PANELS and not whole else 1
    pictures = [
        Picture(
            layout_picture(points, quality, values, panels=several if place < 2 else 1),
            f"{cell}: UMAP layouts coloured by {_name(values)}",
        )
        for place, values in enumerate(known[: max(2, _PICTURES // cell.cells)])
    ]
    if whole:
        return [*blocks, Pictures(pictures, across=3)]
    blocks.append(Pictures(pictures[:2]))
    return [*blocks, Pictures(pictures[2:], across=3)] if pictures[2:] else blocks


def _introduction(settings: int, quality: pl.DataFrame) -> str:
    trusted = pl.Series(dtype=pl.Float64) if quality.is_empty() else quality.filter(metric="trustworthiness")["value"]
    trusted = trusted.drop_nulls()
    span = ""
    if len(trusted):
        least, most = trusted.to_numpy().min(), trusted.to_numpy().max()
        span = f", here {least:.2f} to {most:.2f} over {settings} layouts"
    return (
        "UMAP of the features: the same images in every picture, only the colour changes. Trustworthiness is the share "
        f"of near neighbours that a layout keeps near{span}. Distances between clusters mean little."
    )


def _grids(points: pl.DataFrame, known: list[pl.DataFrame], cell: CellPlace) -> Picture:
    drawn = points
    for values in known:
        drawn = drawn.join(values, on="image_id", how="left")
    names = [_name(values) for values in known]
    png = layout_grids_figure(drawn, colour_by=names, title=f"{cell}: every layout")
    return Picture(data_uri(png), f"{cell}: every UMAP layout, coloured by {' beside '.join(names)}")


def _colours(tables: ReportTables, cell: CellPlace, points: pl.DataFrame) -> list[pl.DataFrame]:
    """Return image id and value of the label, then of every background, the most severe first."""
    images = tables.of_dataset("images", cell.dataset)
    if images.is_empty():
        images = points.select("image_id").unique().with_columns(label=pl.lit(None, dtype=pl.String))
    values = [attribute_values(images, name) for name in ["label", *_attributes(tables, cell)]]
    # Colours that are all unknown show nothing that the label's picture does not.
    return values[:1] + [each for each in values[1:] if each[_name(each)].null_count() < each.height]


def _name(values: pl.DataFrame) -> str:
    return next(column for column in values.columns if column != "image_id")


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
    tables=("layouts", "layout_quality", "images", "findings"),
    asset="umap_layouts",
    what="layouts",
)
