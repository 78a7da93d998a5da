"""How encoders rank by label score as the weight of the probe's loss changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
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
    from matplotlib.lines import Line2D

PANELS_ACROSS = 3
# Share of a step of the path by which the encoders' intervals stand apart.
SPREAD = 0.3


def c_path_figure(frame: pl.DataFrame, *, published: float, metric: str) -> bytes:
    """Draw one panel per data set: the weight across, a line with intervals for every encoder.

    Parameters
    ----------
    frame
        One row per data set, encoder and weight, with columns ``dataset``, ``encoder``, ``penalty`` (C times the number
        of images fitted on), ``value``, ``ci_low`` and ``ci_high`` (null without an interval).
    published
        The weight of the published protocol, marked by a line; every other weight is labelled with Kendall's τ of its
        ranking with that one's, where there are three encoders or more.
    metric
        What the values are, for the axis.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    ValueError
        If a column is missing or no value is left to draw.
    """
    require_columns(frame, "dataset", "encoder", "penalty", "value", "ci_low", "ci_high")
    frame = frame.filter(pl.col("value").is_not_null())
    require_columns(frame, "value")
    encoders = frame["encoder"].unique().sort().to_list()
    datasets = frame["dataset"].unique().sort().to_list()
    across = min(PANELS_ACROSS, len(datasets))
    down = math.ceil(len(datasets) / across)
    figure = new_figure(3.6 * across + 2.6, max(3.2 * down, 0.8 + 0.24 * len(encoders)))
    axes = figure.subplots(down, across, squeeze=False)
    for panel, dataset in zip(axes.flat, datasets, strict=False):
        _panel(panel, frame.filter(dataset=dataset), encoders, published)
        panel.set_title(shorten(dataset, 28), fontsize=11, color=INK, parse_math=False)
    for panel in axes.flat[len(datasets) :]:
        panel.set_axis_off()
    for row in axes:
        row[0].set_ylabel(shorten(metric, 28), fontsize=9, color=INK, parse_math=False)
    from matplotlib.lines import Line2D

    lines = [_line(number, encoder) for number, encoder in enumerate(encoders)]
    lines.append(Line2D([], [], color=GREY, linestyle="--", label="as published"))
    figure.legend(handles=lines, loc="outside right upper", fontsize=9)
    plain_legend(figure.legends[0])
    return to_png(figure)


def _panel(axes: Axes, frame: pl.DataFrame, encoders: list[str], published: float) -> None:
    penalties = frame["penalty"].unique().sort().to_list()
    if published in penalties:
        axes.axvline(penalties.index(published), color=GREY, linestyle="--", linewidth=1.2, zorder=0)
    for number, encoder in enumerate(encoders):
        rows = frame.filter(encoder=encoder).sort("penalty")
        if rows.is_empty():
            continue
        offset = SPREAD * (number / (len(encoders) - 1) - 0.5) if len(encoders) > 1 else 0.0
        place = np.array([penalties.index(penalty) for penalty in rows["penalty"]]) + offset
        line = _line(number, encoder)
        line.set_data(place, rows["value"].to_numpy())
        axes.add_line(line)
        low, high = (rows[bound].cast(pl.Float64).fill_null(rows["value"]) for bound in ("ci_low", "ci_high"))
        axes.vlines(place, low, high, color=line.get_color(), alpha=0.5)
    names = [f"{penalty:g}/N{_agreement(frame, penalty, published)}" for penalty in penalties]
    axes.set_xticks(range(len(penalties)), names, fontsize=8)
    axes.set_xlim(-0.5, len(penalties) - 0.5)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("C", fontsize=9, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _line(number: int, encoder: str) -> Line2D:
    from matplotlib.lines import Line2D

    colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    return Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1.4, label=shorten(encoder))


def _agreement(frame: pl.DataFrame, penalty: float, published: float) -> str:
    """Kendall's τ-b of the encoders' scores at two weights, as a label's second line; empty where it says nothing."""
    from scipy.stats import kendalltau

    both = frame.filter(penalty=penalty).join(frame.filter(penalty=published), on="encoder", suffix="_published")
    if penalty == published or both.height < 3:
        return ""
    tau = kendalltau(both["value"], both["value_published"]).statistic
    return f"\nτ {tau:.2f}" if math.isfinite(tau) else ""
