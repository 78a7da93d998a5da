"""UMAP layouts as panels: the grid of one encoder, and several encoders side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from analysis.figures.style import (
    GREY,
    INK,
    MARKERS,
    PALETTE,
    new_figure,
    plain_legend,
    require_columns,
    shorten,
    to_png,
    to_vector,
)
from analysis.layouts import turn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CATEGORIES = 12
ENCODERS_ACROSS = 4
# With more points than this a vector figure would be slow to open: they are drawn as pixels, all else as vectors.
POINTS_AS_VECTORS = 20_000

Form = Literal["png", "svg", "pdf"]


@dataclass(frozen=True)
class Category:
    """Values drawn alike, what the legend calls them, and how they are drawn."""

    values: tuple[str | None, ...]
    legend: str
    count: int
    colour: str
    marker: str


def layout_figure(frame: pl.DataFrame, *, colour_by: str, title: str, form: Form = "png") -> bytes:
    """Draw every layout in its own panel: `n_neighbors` down, `min_dist` across.

    Every panel is fitted to its own points, so none is clipped. Rare classes are drawn over common ones.

    Parameters
    ----------
    frame
        One row per image and layout, with columns ``x``, ``y``, ``n_neighbors``, ``min_dist`` and
        `colour_by`; ``trustworthiness`` is printed below the panel where there is such a column.
    colour_by
        Column to colour by, read as categories. Of more than 12 the 11 most frequent stay and the rest
        becomes "other"; nulls are grey and "unknown".
    title
        Heading, taken literally.
    form
        Of many points a vector figure holds a picture, and all else as vectors.

    Returns
    -------
    bytes
        The picture.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    require_columns(frame, "x", "y", "n_neighbors", "min_dist", colour_by)
    rows = frame["n_neighbors"].unique().sort().to_list()
    columns = frame["min_dist"].unique().sort().to_list()
    frame = frame.with_columns(frame[colour_by].cast(pl.String).alias("_name"))
    # Every image is in every panel: the legend counts images, not rows.
    categories = categorise(frame["_name"], frame.select("n_neighbors", "min_dist").n_unique())
    side = 3.4 if len(rows) * len(columns) <= 6 else 2.1
    figure = new_figure(side * len(columns) + 2.2, side * len(rows) + 0.7)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    pixels = frame.height > POINTS_AS_VECTORS
    for i, n_neighbors in enumerate(rows):
        for j, min_dist in enumerate(columns):
            cell = frame.filter(n_neighbors=n_neighbors, min_dist=min_dist)
            _panel(axes[i, j], cell, categories, pixels=pixels)
            if i == 0:
                axes[i, j].set_title(f"min_dist {min_dist:g}", fontsize=10, color=INK)
            if j == 0:
                axes[i, j].set_ylabel(f"n_neighbors {n_neighbors}", fontsize=10, color=INK)
    figure.suptitle(shorten(title, 40 * max(1, len(columns))), fontsize=13, color=INK, parse_math=False)
    _legend(figure, categories, colour_by)
    return to_png(figure) if form == "png" else to_vector(figure, form)


def encoders_figure(frame: pl.DataFrame, *, colour_by: str, title: str, form: Form = "png") -> bytes:
    """Draw one layout of each encoder beside the others, turned towards the first one's.

    Parameters
    ----------
    frame
        One row per image and encoder, with columns ``image_id``, ``encoder``, ``x``, ``y`` and `colour_by`;
        ``trustworthiness`` as for `layout_figure`.
    colour_by, title, form
        As for `layout_figure`.

    Returns
    -------
    bytes
        The picture.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    require_columns(frame, "image_id", "encoder", "x", "y", colour_by)
    encoders = frame["encoder"].unique().sort().to_list()
    frame = frame.with_columns(frame[colour_by].cast(pl.String).alias("_name"))
    categories = categorise(frame["_name"], len(encoders))
    down = math.ceil(len(encoders) / ENCODERS_ACROSS)
    across = math.ceil(len(encoders) / down)
    figure = new_figure(3.2 * across + 2.2, 3.4 * down + 0.7)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    target = frame.filter(encoder=encoders[0])
    for panel, encoder in zip(axes, encoders, strict=False):
        drawn = _turned(frame.filter(encoder=encoder), target)
        _panel(panel, drawn, categories, pixels=frame.height > POINTS_AS_VECTORS)
        panel.set_title(shorten(encoder, 28), fontsize=10, color=INK, parse_math=False)
    for unused in axes[len(encoders) :]:
        unused.set_axis_off()
    figure.suptitle(shorten(title, 40 * across), fontsize=13, color=INK, parse_math=False)
    _legend(figure, categories, colour_by)
    return to_png(figure) if form == "png" else to_vector(figure, form)


def _turned(layout: pl.DataFrame, target: pl.DataFrame) -> pl.DataFrame:
    """Turn a layout to where the images it shares with the target lie nearest to theirs."""
    shared = layout.select("image_id", "x", "y").join(
        target.select("image_id", tx="x", ty="y"), on="image_id", maintain_order="left"
    )
    if shared.height < 2:
        return layout
    x, y = turn(
        layout.select("x", "y").to_numpy(),
        shared.select("tx", "ty").to_numpy(),
        by=shared.select("x", "y").to_numpy(),
    ).T
    return layout.with_columns(x=pl.Series(x), y=pl.Series(y))


def categorise(names: pl.Series, panels: int) -> list[Category]:
    """Choose how every value is drawn; counts are per panel."""
    counted = names.drop_nulls().value_counts(name="count").with_columns(pl.col("count") // panels)
    counted = counted.sort("count", "_name", descending=[True, False])
    kept = len(counted) if len(counted) <= MAX_CATEGORIES else MAX_CATEGORIES - 1
    # By name, so that a class keeps its colour from one encoder's figure to the next.
    categories = [
        Category((name,), shorten(name, 24), count, PALETTE[i % len(PALETTE)], MARKERS[i])
        for i, (name, count) in enumerate(counted.head(kept).sort("_name").iter_rows())
    ]
    rest = counted.slice(kept)
    if len(rest):
        values = tuple(rest["_name"].to_list())
        categories.append(Category(values, f"other ({len(values)} classes)", int(rest["count"].sum()), INK, "."))
    if unknown := names.null_count():
        categories.append(Category((None,), "unknown", unknown // panels, GREY, "x"))
    return categories


def _panel(axes: Axes, cell: pl.DataFrame, categories: list[Category], *, pixels: bool) -> None:
    """Scatter one layout, equal scales on both axes, with a margin so that no point is cut."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#CCCCCC")
    if cell.is_empty():
        axes.text(0.5, 0.5, "no layout", transform=axes.transAxes, ha="center", color=GREY)
        return
    size = min(22.0, max(1.5, 6000 / len(cell)))
    alpha = min(0.85, max(0.35, 1200 / len(cell)))
    # Unknown below all, then common below rare.
    for category in sorted(categories, key=lambda category: (category.values != (None,), -category.count)):
        points = cell.filter(pl.col("_name").is_in(category.values, nulls_equal=True))
        axes.scatter(
            points["x"].to_numpy(),
            points["y"].to_numpy(),
            s=size,
            c=category.colour,
            marker=category.marker,
            alpha=alpha,
            linewidths=0.5 if category.marker == "x" else 0,
            rasterized=pixels,
        )
    axes.margins(0.06)
    axes.set_aspect("equal", adjustable="datalim")
    if "trustworthiness" in cell.columns and cell["trustworthiness"][0] is not None:
        # Below the panel, where it covers no point.
        axes.set_xlabel(
            f"trustworthiness {cell['trustworthiness'][0]:.3f}", fontsize=8, color=INK, labelpad=2, loc="left"
        )


def _legend(figure: Figure, categories: list[Category], heading: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=category.colour, marker=category.marker, linestyle="none", markersize=7)
        for category in categories
    ]
    labels = [f"{category.legend}  {category.count:,}" for category in categories]
    legend = figure.legend(
        handles, labels, loc="outside right upper", title=shorten(heading, 24), fontsize=9, frameon=False
    )
    plain_legend(legend)
