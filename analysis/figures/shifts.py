"""How far changes of the overlay move images, in one panel per yardstick."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import polars as pl

from analysis.figures.style import GREY, INK, PALETTE, new_figure, require_columns, shorten, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Interventions that tell what doing anything at all does.
_PLACEBO = "placebo"


def shift_figure(frame: pl.DataFrame, *, title: str) -> bytes:
    """Draw one panel per metric: interventions down, a dot with its interval across.

    Parameters
    ----------
    frame
        Rows of one cell with columns ``intervention``, ``metric``, ``value``, ``ci_low`` and ``ci_high`` (null without
        an interval), interventions in their order.
    title
        Heading, taken literally.

    Returns
    -------
    bytes
        A PNG; placebos are hollow and grey. An intervention without a value is left out.

    Raises
    ------
    ValueError
        If a column is missing or there is no value.
    """
    require_columns(frame, "intervention", "metric", "value", "ci_low", "ci_high")
    frame = frame.filter(pl.col("value").is_not_null())
    require_columns(frame, "value")
    interventions = frame["intervention"].unique(maintain_order=True).to_list()
    metrics = frame["metric"].unique(maintain_order=True).to_list()
    width = 3.4 * len(metrics) + 2.6
    figure = new_figure(width, 0.32 * len(interventions) + 1.5)
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for row in frame.filter(metric=metric).iter_rows(named=True):
            _dot(axes, interventions.index(row["intervention"]), row)
        if "/" in metric:
            # As far as what it is relative to.
            axes.axvline(1, color=INK, linewidth=1, linestyle="--")
        axes.set_xlim(left=0)
        axes.set_title(shorten(metric, 44), fontsize=9.5, color=INK, parse_math=False)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(color="#EEEEEE")
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    names = [shorten(name, 34) for name in interventions]
    panels[0].set_yticks(range(len(names)), names, fontsize=9, parse_math=False)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    # About nine letters fit into an inch.
    figure.suptitle(textwrap.fill(shorten(title, 90), int(9 * width)), fontsize=12, color=INK, parse_math=False)
    return to_png(figure)


def _dot(axes: Axes, place: int, row: dict[str, float]) -> None:
    placebo = str(row["intervention"]).startswith((_PLACEBO, "unchanged"))
    colour = GREY if placebo else PALETTE[3]
    if row["ci_low"] is not None and row["ci_high"] is not None:
        axes.plot([row["ci_low"], row["ci_high"]], [place, place], color=colour, linewidth=1.6)
    axes.plot([row["value"]], [place], "o", color=colour, markerfacecolor="white" if placebo else colour, markersize=6)
