"""Reliability diagrams: how often zero-shot answers are right, against how sure they say they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.figures.style import GREY, INK, PALETTE, new_figure, require_columns, shorten, to_png

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

ACROSS = 3


def reliability_figure(bins: pl.DataFrame, *, title: str) -> bytes:
    """Draw a panel per prompt set and rule: a bar where a bin has predictions, the diagonal where they would say true.

    Parameters
    ----------
    bins
        Columns ``prompt_set``, ``rule``, ``bin_low``, ``bin_high``, ``n``, ``confidence``, ``accuracy``.
    title
        What they are of.

    Returns
    -------
    bytes
        A PNG; the darker a bar, the larger the share of predictions it stands for.

    Raises
    ------
    ValueError
        If a column is missing or there is no row.
    """
    require_columns(bins, "prompt_set", "rule", "bin_low", "bin_high", "n", "confidence", "accuracy")
    panels = bins.partition_by("prompt_set", "rule", maintain_order=True)
    # A row for each prompt set, where it is read by more than one rule.
    rules = bins["rule"].n_unique()
    across = rules if rules > 1 and len(panels) % rules == 0 else min(ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    figure = new_figure(max(3.1 * across, 4.6), 3.3 * down + 0.8)
    figure.suptitle(shorten(title, 32 * max(across, 2)), fontsize=12, color=INK, parse_math=False)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.axis("off")
            continue
        _panel(axes, panels[place])
        if place % across == 0:
            axes.set_ylabel("share that is so", fontsize=9, color=INK)
        if place + across >= len(panels):
            axes.set_xlabel("mean confidence", fontsize=9, color=INK)
            axes.tick_params(labelbottom=True)
    return to_png(figure)


def _panel(axes: Axes, bins: pl.DataFrame) -> None:
    total = bins["n"].sum()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1)
    for row in bins.iter_rows(named=True):
        share = row["n"] / total
        axes.bar(
            row["bin_low"], row["accuracy"], width=row["bin_high"] - row["bin_low"], align="edge", color=PALETTE[0],
            alpha=0.25 + 0.75 * math.sqrt(share), edgecolor="white", linewidth=0.5, zorder=2,
        )  # fmt: skip
        axes.plot(row["confidence"], row["accuracy"], "o", color=PALETTE[3], markersize=3.5, zorder=3, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in bins.iter_rows(named=True)) / total
    first = bins.row(0, named=True)
    said = (shorten(first["prompt_set"], 26), shorten(first["rule"], 34), f"ECE {error:.3f}, n = {total:,}")
    axes.set_title("\n".join(said), fontsize=9, color=INK, parse_math=False)
