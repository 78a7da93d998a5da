"""Planned contrasts: the difference of two sets of encoders, by data set and over all."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OVERALL = "all data sets"


def contrast_figure(frame: pl.DataFrame, *, metric: str) -> bytes:
    """Draw one panel per contrast: data sets down, the difference with its interval across.

    Parameters
    ----------
    frame
        Rows of one target with columns ``contrast``, ``protocol``, ``dataset`` (null over all data sets), ``value``,
        ``ci_low`` and ``ci_high`` (null without an interval); panels stand in the order of rows.
    metric
        What the differences are of, for the axis.

    Returns
    -------
    bytes
        A PNG; positive is in favour of what the contrast is named after.

    Raises
    ------
    ValueError
        If a column is missing or there is no row.
    """
    from matplotlib.ticker import MaxNLocator

    require_columns(frame, "contrast", "protocol", "dataset", "value", "ci_low", "ci_high")
    contrasts = frame["contrast"].unique(maintain_order=True).to_list()
    protocols = frame["protocol"].unique().sort(descending=True).to_list()
    datasets = [OVERALL, *frame["dataset"].drop_nulls().unique().sort(descending=True)]
    named = frame.with_columns(pl.col("dataset").fill_null(OVERALL))
    figure = new_figure(2.7 * len(contrasts) + 1.8, 0.4 * len(datasets) + 1.6)
    panels = figure.subplots(1, len(contrasts), squeeze=False, sharey=True)[0]
    for axes, contrast in zip(panels, contrasts, strict=True):
        axes.axvline(0, color=GREY, linewidth=1)
        axes.axhline(0.5, color="#DDDDDD", linewidth=1)
        for number, protocol in enumerate(protocols):
            _points(axes, named.filter(contrast=contrast, protocol=protocol), datasets, number, len(protocols))
        axes.set_title(shorten(contrast, 24), fontsize=11, color=INK, parse_math=False)
        axes.set_xlabel(f"Δ {shorten(metric, 24)}", fontsize=9, color=INK, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(axis="x", labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_yticks(range(len(datasets)), [shorten(name) for name in datasets], fontsize=9, parse_math=False)
    panels[0].set_ylim(-0.6, len(datasets) - 0.4)
    handles = {line.get_label(): line for axes in panels for line in axes.lines if line.get_marker() in MARKERS}
    figure.legend(handles=[handles[name] for name in map(shorten, protocols)], loc="outside upper right", ncols=2)
    plain_legend(figure.legends[0])
    return to_png(figure)


def _points(axes: Axes, rows: pl.DataFrame, datasets: list[str], number: int, protocols: int) -> None:
    offset = 0.3 * (number - (protocols - 1) / 2)
    place = [datasets.index(name) - offset for name in rows["dataset"]]
    colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    low, high = (rows[bound].cast(pl.Float64).fill_null(rows["value"]) for bound in ("ci_low", "ci_high"))
    axes.hlines(place, low, high, color=colour, linewidth=1.6)
    protocol = shorten(rows["protocol"][0]) if rows.height else "_"
    axes.plot(rows["value"], place, color=colour, marker=marker, markersize=6, linestyle="none", label=protocol)
