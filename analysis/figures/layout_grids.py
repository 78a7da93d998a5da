"""Every layout of a grid at a glance, once per colouring: label beside background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures.layouts import Category, categorise
from analysis.figures.style import INK, new_figure, plain_legend, require_columns, shorten, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_PANEL_INCHES = 1.02
# Of a panel's side, taken up by the layout.
_FILLED = 0.92
_LEGEND_LINE_INCHES = 0.2
# What the numbers below the panels, and their heading, take up.
_AXIS_INCHES = 0.42
_LEGEND_COLUMNS = 3


def layout_grids_figure(frame: pl.DataFrame, *, colour_by: Sequence[str], title: str) -> bytes:
    """Draw all layouts small, ``n_neighbors`` down and ``min_dist`` across, in a block for every colouring.

    Parameters
    ----------
    frame
        One row per image and layout, with columns ``x``, ``y``, ``n_neighbors``, ``min_dist`` and those of `colour_by`.
    colour_by
        Columns to colour by, one block each, from left to right; read as by `layout_figure`.
    title
        Heading, taken literally.

    Returns
    -------
    bytes
        A PNG. Every layout is fitted to its own square, so sizes are not comparable; a layout that is not there leaves
        its square empty.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    require_columns(frame, "x", "y", "n_neighbors", "min_dist", *colour_by)
    sizes = frame["n_neighbors"].unique().sort().to_list()
    spreads = frame["min_dist"].unique().sort().to_list()
    points = _in_squares(frame, sizes, spreads)
    layouts = frame.select("n_neighbors", "min_dist").n_unique()
    blocks = [categorise(points[name].cast(pl.String).alias("_name"), layouts) for name in colour_by]
    lines = max(-(-len(block) // _LEGEND_COLUMNS) for block in blocks)
    side = _PANEL_INCHES
    figure = new_figure(
        (side * len(spreads) + 0.5) * len(blocks), side * len(sizes) + 1.45 + _LEGEND_LINE_INCHES * lines
    )
    panels = figure.subplots(1, len(blocks), squeeze=False, sharey=True)[0]
    for axes, name, categories in zip(panels, colour_by, blocks, strict=True):
        _block(axes, points.with_columns(pl.col(name).cast(pl.String).alias("_name")), categories)
        axes.set_title(f"by {shorten(name, 30)}", fontsize=11, color=INK, parse_math=False)
        axes.set_xticks([i + 0.5 for i in range(len(spreads))], [f"{spread:g}" for spread in spreads], fontsize=8.5)
        axes.set_xlabel("min_dist", fontsize=9, color=INK)
        axes.set_yticks([i + 0.5 for i in range(len(sizes))], [str(size) for size in sizes], fontsize=8.5)
        axes.set_xlim(0, len(spreads))
        axes.set_ylim(len(sizes), 0)
        _legend(axes, categories, below=_AXIS_INCHES / (side * len(sizes)))
    panels[0].set_ylabel("n_neighbors", fontsize=9, color=INK)
    figure.suptitle(shorten(title, 60 * len(blocks)), fontsize=12, color=INK, parse_math=False)
    return to_png(figure)


def _in_squares(frame: pl.DataFrame, sizes: list[int], spreads: list[float]) -> pl.DataFrame:
    """Move every layout into the unit square of its place, y downwards."""
    layout = ["n_neighbors", "min_dist"]

    def middle(axis: str) -> pl.Expr:
        return (pl.col(axis).max() + pl.col(axis).min()).over(layout) / 2

    extent = pl.max_horizontal(pl.col(axis).max() - pl.col(axis).min() for axis in "xy").over(layout)
    scale = pl.when(extent > 0).then(_FILLED / extent).otherwise(0.0)
    column = pl.col("min_dist").replace_strict(spreads, range(len(spreads)), return_dtype=pl.Float64)
    row = pl.col("n_neighbors").replace_strict(sizes, range(len(sizes)), return_dtype=pl.Float64)
    return frame.with_columns(
        x=column + 0.5 + (pl.col("x") - middle("x")) * scale,
        y=row + 0.5 - (pl.col("y") - middle("y")) * scale,
    )


def _block(axes: Axes, points: pl.DataFrame, categories: list[Category]) -> None:
    """Scatter all layouts of one colouring: one axes, as a hundred would be slow."""
    images = points["image_id"].n_unique() if "image_id" in points.columns else points.height
    size = min(3.0, max(0.4, 700 / images))
    for category in sorted(categories, key=lambda category: (category.values != (None,), -category.count)):
        drawn = points.filter(pl.col("_name").is_in(category.values, nulls_equal=True))
        axes.scatter(
            drawn["x"].to_numpy(), drawn["y"].to_numpy(), s=size, c=category.colour, marker="o", alpha=0.75,
            linewidths=0,
        )  # fmt: skip
    # At the top of its place, as the legend hangs below.
    axes.set_aspect("equal", anchor="N")
    axes.tick_params(length=0)
    columns, rows = int(points["min_dist"].n_unique()), int(points["n_neighbors"].n_unique())
    axes.hlines(range(rows + 1), 0, columns, color="#CCCCCC", linewidth=0.8)
    axes.vlines(range(columns + 1), 0, rows, color="#CCCCCC", linewidth=0.8)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(axes: Axes, categories: list[Category], *, below: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=category.colour, marker="o", linestyle="none", markersize=6) for category in categories
    ]
    labels = [f"{shorten(category.legend, 18)}  {category.count:,}" for category in categories]
    legend = axes.legend(
        handles, labels, loc="upper center", bbox_to_anchor=(0.5, -below), ncols=_LEGEND_COLUMNS, fontsize=8,
        frameon=False, columnspacing=1.0, handletextpad=0.2,
    )  # fmt: skip
    plain_legend(legend)
