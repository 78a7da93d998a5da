"""Scores measured here beside those that were published."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from analysis.figures.style import GREY, INK, PALETTE, new_figure, require_columns, shorten, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_ACROSS = 4
_INCHES_PER_ENCODER = 0.21
_COLUMNS = (
    "dataset", "encoder", "value", "ci_low", "ci_high", "published", "published_std", "published_dataset", "doubtful",
)  # fmt: skip
_MEASURED_MARK: dict[str, Any] = {"color": PALETTE[0], "marker": "o", "markersize": 6.0}


def comparison_figure(frame: pl.DataFrame, *, metric: str) -> bytes:
    """Draw one panel per data set that was measured: encoders down, published beside measured.

    Parameters
    ----------
    frame
        Rows of one metric as `analysis.published.compare` returns them, with columns ``dataset``, ``encoder``,
        ``value``, ``ci_low``, ``ci_high``, ``published``, ``published_std``, ``published_dataset`` and ``doubtful``; a
        row has either score, or both.
    metric
        What the values are, for the axis.

    Returns
    -------
    bytes
        A PNG; encoders are ordered by their mean score, best on top, and doubtful published scores are hollow.

    Raises
    ------
    ValueError
        If a column is missing or nothing was measured.
    """
    require_columns(frame, *_COLUMNS)
    datasets = frame.filter(pl.col("value").is_not_null())["dataset"].unique().sort().to_list()
    if not datasets:
        raise ValueError("the frame has no measured score to draw")
    frame = frame.filter(pl.col("dataset").is_in(datasets))
    scores = frame.group_by("encoder").agg(pl.coalesce("published", "value").mean().alias("mean"))
    encoders = scores.sort("mean", "encoder")["encoder"].to_list()
    measured = set(frame.filter(pl.col("value").is_not_null())["encoder"])
    across = min(PANELS_ACROSS, len(datasets))
    down = math.ceil(len(datasets) / across)
    figure = new_figure(2.5 * across + 2.0, (_INCHES_PER_ENCODER * len(encoders) + 0.9) * down + 0.5)
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for panel, dataset in zip(axes.flat, datasets, strict=False):
        rows = frame.filter(dataset=dataset)
        _panel(panel, rows, encoders)
        panel.set_title(_title(dataset, rows), fontsize=9, color=INK, parse_math=False)
        panel.set_xlabel(shorten(metric, 32), fontsize=8, color=INK, parse_math=False)
    for row in axes:
        row[0].set_yticks(range(len(encoders)), [shorten(name) for name in encoders], fontsize=8, parse_math=False)
        for label, name in zip(row[0].get_yticklabels(), encoders, strict=True):
            label.set_fontweight("bold" if name in measured else "normal")
    for panel in axes.flat[len(datasets) :]:
        panel.set_axis_off()
    _legend(figure, doubtful=bool(frame["doubtful"].any()))
    return to_png(figure)


def _title(dataset: str, rows: pl.DataFrame) -> str:
    """Return the data set's name, with what it is compared with where that has another, or is doubtful."""
    published = str(rows["published_dataset"][0])
    other = [f"published: {shorten(published, 18)}"] if published != dataset else []
    doubt = ["published: doubtful"] if bool(rows["doubtful"].any()) else []
    return shorten(dataset, 22) + "".join(f"\n({words})" for words in [", ".join(other + doubt)] if words)


def _panel(axes: Axes, rows: pl.DataFrame, encoders: list[str]) -> None:
    for row in rows.iter_rows(named=True):
        y = encoders.index(row["encoder"])
        # Side by side where an encoder has both.
        offset = 0.18 if row["value"] is not None and row["published"] is not None else 0.0
        if row["published"] is not None:
            spread = row["published_std"] or 0.0
            low, high = row["published"] - spread, row["published"] + spread
            axes.plot([low, high], [y + offset, y + offset], color=GREY, linewidth=1.4)
            axes.plot([row["published"]], [y + offset], **_published_mark(row["doubtful"]))
        if row["value"] is not None:
            if row["ci_low"] is not None and row["ci_high"] is not None:
                axes.plot([row["ci_low"], row["ci_high"]], [y - offset, y - offset], color=PALETTE[0], linewidth=1.6)
            axes.plot([row["value"]], [y - offset], **_MEASURED_MARK)
    axes.set_ylim(-0.7, len(encoders) - 0.3)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="y", color="#EEEEEE")
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _published_mark(doubtful: bool) -> dict[str, Any]:
    fill = "white" if doubtful else GREY
    return {"color": GREY, "marker": "D", "markersize": 4.5, "markerfacecolor": fill}


def _legend(figure: Any, *, doubtful: bool) -> None:
    from matplotlib.lines import Line2D

    marks = {"measured here, 95 % interval": _MEASURED_MARK, "published, ± sd": _published_mark(False)}
    if doubtful:
        marks["published, doubtful"] = _published_mark(True)
    handles = [Line2D([], [], **mark) for mark in marks.values()]
    figure.legend(handles, list(marks), loc="outside upper right", ncols=len(marks), fontsize=8, frameon=False)
