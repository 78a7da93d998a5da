"""Figures as data URIs, small enough to travel inside the report."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import SheetRow, Tile, layout_figure, neighbors_figure
from analysis.figures.style import shorten
from analysis.layouts import COARSE_MIN_DIST, COARSE_N_NEIGHBORS

if TYPE_CHECKING:
    from analysis.report.tables import ReportTables

_COLOURS = 255
# Of a value in a caption, which has twenty a line.
_VALUE_CHARACTERS = 12


def data_uri(png: bytes, *, photographs: bool = False) -> str:
    """Return a picture as a ``data:`` URI, at about half its size.

    A chart's colours are reduced; coverage and not frequency chooses them, or a rare class would be drawn in the
    colour of a frequent one. Photographs become a JPEG.
    """
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        picture = image.convert("RGB")
    if photographs:
        picture.save(buffer, "JPEG", quality=88)
    else:
        reduced = picture.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        reduced.save(buffer, "PNG", optimize=True)
    kind = "jpeg" if photographs else "png"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def layout_picture(points: pl.DataFrame, quality: pl.DataFrame, values: pl.DataFrame, *, panels: int) -> str:
    """Draw a cell's layouts by one column.

    Parameters
    ----------
    points
        Rows of ``layouts`` of one cell.
    quality
        Rows of ``layout_quality`` of the cell; trustworthiness is printed in the panels where there are any.
    values
        ``image_id`` and one further column, which colours the points.
    panels
        At most so many: the coarse grid's layouts first, or what is nearest.
    """
    [name] = [column for column in values.columns if column != "image_id"]
    keys = _choose_panels(points.select("n_neighbors", "min_dist").unique(), panels)
    drawn = points.join(keys, on=["n_neighbors", "min_dist"]).join(values, on="image_id", how="left")
    if not quality.is_empty():
        trust = quality.filter(metric="trustworthiness").unique(["n_neighbors", "min_dist"])
        drawn = drawn.join(
            trust.select("n_neighbors", "min_dist", trustworthiness="value"), on=["n_neighbors", "min_dist"], how="left"
        )
    return data_uri(layout_figure(drawn, colour_by=name, title=f"by {name}"))


def _choose_panels(keys: pl.DataFrame, panels: int) -> pl.DataFrame:
    """Keep the layouts nearest to the coarse grid, its middle first."""
    sizes, spreads = keys["n_neighbors"].unique().to_list(), keys["min_dist"].unique().to_list()
    order = [COARSE_N_NEIGHBORS[1], COARSE_N_NEIGHBORS[0], COARSE_N_NEIGHBORS[2]]
    wanted = [(n, d) for d in COARSE_MIN_DIST for n in order][:panels]
    nearest = {
        (min(sizes, key=lambda size: (abs(size - n), size)), min(spreads, key=lambda spread: (abs(spread - d), spread)))
        for n, d in wanted
    }
    chosen = pl.DataFrame(sorted(nearest), schema=keys.schema, orient="row")
    found = chosen.join(keys, on=keys.columns)
    return found if found.height else keys.sort(keys.columns).head(1)


def attribute_values(images: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return ``image_id`` and one column or free attribute of images; unknown everywhere where there is no such."""
    if name in images.columns:
        column = images[name].cast(pl.String)
    else:
        cells = images["attributes"] if "attributes" in images.columns else [None] * images.height
        column = pl.Series([json.loads(cell).get(name) if cell else None for cell in cells], dtype=pl.String)
    return pl.DataFrame({"image_id": images["image_id"], name: column})


def neighbors_picture(shown: pl.DataFrame, tables: ReportTables, dataset: str, attribute: str) -> str | None:
    """Draw images with their neighbours, framed by label and attribute; None where there is no thumbnail of any."""
    known = _captions(tables.of_dataset("images", dataset), attribute)
    rows = []
    for (image_id,), neighbors in shown.group_by("image_id", maintain_order=True):
        if (dataset, str(image_id)) not in tables.thumbnails:
            continue
        tiles = [
            Tile(tables.thumbnails.get((dataset, n), b""), f"{known.get(n, 'unknown')} · {distance:.3f}", same, shared)
            for n, distance, same, shared in neighbors.select(
                "neighbor_id", "distance", "same_label", "shared"
            ).iter_rows()
        ]
        query = Tile(tables.thumbnails[dataset, str(image_id)], known.get(str(image_id), "unknown"))
        rows.append(SheetRow(query, tuple(tiles)))
    if not rows:
        return None
    figure = neighbors_figure(rows, title=f"Nearest neighbours, by label and {attribute}", background=attribute)
    return data_uri(figure, photographs=True)


def _captions(images: pl.DataFrame, attribute: str) -> dict[str, str]:
    """Return label and value of the attribute, a line each, by image id; room is left for a distance."""
    if images.is_empty():
        return {}
    values = attribute_values(images, attribute)[attribute]
    return {
        image_id: f"{label or 'unknown'}\n{shorten(value or 'unknown', _VALUE_CHARACTERS)}"
        for image_id, label, value in zip(images["image_id"], images["label"], values, strict=True)
    }
