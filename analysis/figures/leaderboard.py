"""Scores of encoders, published protocol beside the grouped one."""

from __future__ import annotations

import math
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
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

PANELS_ACROSS = 3
# What an encoder's training may have touched of a data set: its images, or images of its kind.
SEEN = ("data set", "modality")


def leaderboard_figure(frame: pl.DataFrame, *, metric: str) -> bytes:
    """Draw one panel per data set: encoders down, a dot with its interval for every protocol.

    Parameters
    ----------
    frame
        One row per data set, encoder and protocol, with columns ``dataset``, ``encoder``, ``protocol``,
        ``value``, ``ci_low`` and ``ci_high`` (null without an interval); where there is a column
        ``chance``, its value is a dashed line; where there is a column ``seen``, dots are hollow where it says that
        the encoder's training touched such images (``data set`` or ``modality``).
    metric
        What the values are, for the axis.

    Returns
    -------
    bytes
        A PNG; encoders are ordered by their mean value, best on top.

    Raises
    ------
    ValueError
        If a column is missing or no value is left to draw.
    """
    require_columns(frame, "dataset", "encoder", "protocol", "value", "ci_low", "ci_high")
    frame = frame.filter(pl.col("value").is_not_null())
    require_columns(frame, "value")
    means = frame.group_by("encoder").agg(pl.col("value").mean()).sort("value", "encoder")
    encoders = means["encoder"].to_list()
    datasets = frame["dataset"].unique().sort().to_list()
    protocols = frame["protocol"].unique().sort(descending=True).to_list()
    across = min(PANELS_ACROSS, len(datasets))
    down = math.ceil(len(datasets) / across)
    height = 0.26 * len(encoders) * max(1, len(protocols)) * 0.7 + 1.0
    figure = new_figure(3.6 * across + 2.2, max(1.8, height) * down + 0.8)
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for panel, dataset in zip(axes.flat, datasets, strict=False):
        _panel(panel, frame.filter(dataset=dataset), encoders, protocols)
        panel.set_title(shorten(dataset, 28), fontsize=11, color=INK, parse_math=False)
        panel.set_xlabel(shorten(metric, 28), fontsize=9, color=INK, parse_math=False)
    for panel in axes.flat[len(datasets) :]:
        panel.set_axis_off()
    hollow = "seen" in frame.columns and frame["seen"].is_in(SEEN).any()
    figure.legend(*_handles(protocols, "chance" in frame.columns, hollow), loc="outside upper right", ncols=4)
    plain_legend(figure.legends[0])
    return to_png(figure)


def _panel(axes: Axes, frame: pl.DataFrame, encoders: list[str], protocols: list[str]) -> None:
    offsets = [0.32 * (i - (len(protocols) - 1) / 2) for i in range(len(protocols))]
    for i, protocol in enumerate(protocols):
        # Published on top of grouped, in the order of the legend.
        for row in frame.filter(protocol=protocol).iter_rows(named=True):
            y = encoders.index(row["encoder"]) - offsets[i]
            colour = PALETTE[i % len(PALETTE)]
            if row["ci_low"] is not None and row["ci_high"] is not None:
                axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, linewidth=1.6)
            inside = "white" if row.get("seen") in SEEN else colour
            shape = MARKERS[i % len(MARKERS)]
            axes.plot([row["value"]], [y], color=colour, marker=shape, markersize=6, markerfacecolor=inside)
    if "chance" in frame.columns and (chance := frame["chance"].drop_nulls()).len():
        axes.axvline(float(chance[0]), color=GREY, linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(encoders)), [shorten(name) for name in encoders], fontsize=9, parse_math=False)
    axes.set_ylim(-0.6, len(encoders) - 0.4)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _handles(protocols: list[str], chance: bool, hollow: bool) -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D

    handles: list[Artist] = [
        Line2D([], [], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)]) for i in range(len(protocols))
    ]
    labels = [shorten(protocol) for protocol in protocols]
    if chance:
        handles.append(Line2D([], [], color=GREY, linestyle="--"))
        labels.append("chance")
    if hollow:
        handles.append(Line2D([], [], color=INK, marker=MARKERS[0], markerfacecolor="white", linestyle=""))
        labels.append("such images seen in training")
    return handles, labels
