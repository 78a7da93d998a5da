"""Audits against chance, by encoder and confounder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures.style import (
    GREY,
    INK,
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

SIGNIFICANT = 0.05
# One panel each; what else the audits measure is in the tables.
SHOWN_METRICS = ("label_agreement", "confounder_agreement", "robustness_index", "background_within_label", "bras")
_TITLES = {"confounder_agreement": "background agreement", "bras": "BRAS (1: mixed)"}
_LABEL_COLOUR, _CONFOUNDER_COLOUR = PALETTE[0], PALETTE[3]


def audit_figure(frame: pl.DataFrame, *, title: str) -> bytes:
    """Draw one panel per metric: a dot with its interval beside the value expected by chance.

    Parameters
    ----------
    frame
        Rows of `analysis.audits.run_audits` with a further column ``encoder``.
    title
        Heading, taken literally.

    Returns
    -------
    bytes
        A PNG. A filled dot has an adjusted p-value below 0.05; an undefined value is said to be so.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    columns = ("encoder", "confounder", "metric", "value", "expected", "ci_low", "ci_high", "p_adjusted")
    require_columns(frame, *columns)
    metrics = frame["metric"].unique(maintain_order=True).to_list()
    keys = [_keys(frame, metric) for metric in metrics]
    most = max(len(rows) for rows in keys)
    figure = new_figure(2.6 * len(metrics) + 2.4 * len(set(keys)), 0.3 * most + 1.7)
    axes = figure.subplots(1, len(metrics), squeeze=False)
    for i, (panel, metric) in enumerate(zip(axes.flat, metrics, strict=True)):
        _panel(panel, frame.filter(metric=metric), keys[i])
        panel.set_title(
            shorten(_TITLES.get(metric, metric.replace("_", " "))), fontsize=11, color=INK, parse_math=False
        )
        # Rows are as far apart in every panel; the first is on top.
        panel.set_ylim(most - 0.4, -0.6)
        if i and keys[i] == keys[i - 1]:
            panel.tick_params(labelleft=False)
    figure.suptitle(shorten(title, 30 * len(metrics)), fontsize=13, color=INK, parse_math=False)
    figure.legend(*_handles(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    plain_legend(figure.legends[0])
    return to_png(figure)


def _keys(frame: pl.DataFrame, metric: str) -> tuple[tuple[str | None, str], ...]:
    """Confounder and encoder of a panel's rows: the same for all metrics of the same kind."""
    of_label = frame.filter(metric=metric)["confounder"].is_null().all()
    rows = frame.filter(pl.col("confounder").is_null() == of_label)
    return tuple(rows.select("confounder", "encoder").unique().sort("confounder", "encoder").iter_rows())


def _panel(axes: Axes, frame: pl.DataFrame, keys: tuple[tuple[str | None, str], ...]) -> None:
    for row in frame.iter_rows(named=True):
        y = keys.index((row["confounder"], row["encoder"]))
        if row["value"] is None:
            axes.text(0.5, y, "undefined", ha="center", va="center", fontsize=8, color=GREY)
            continue
        colour = _LABEL_COLOUR if row["confounder"] is None else _CONFOUNDER_COLOUR
        if row["ci_low"] is not None and row["ci_high"] is not None:
            axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, linewidth=1.6)
        significant = row["p_adjusted"] is not None and row["p_adjusted"] < SIGNIFICANT
        face = colour if significant else "white"
        axes.plot([row["value"]], [y], marker="o", color=colour, markerfacecolor=face, markersize=6.5)
        if row["expected"] is not None:
            axes.plot([row["expected"]], [y], marker="|", color=INK, markersize=13, markeredgewidth=1.6)
    axes.set_yticks(range(len(keys)), [_name(*key) for key in keys], fontsize=8.5, parse_math=False)
    axes.set_xlim(-0.03, 1.03)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#EEEEEE")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name(confounder: str | None, encoder: str) -> str:
    if confounder is None:
        return shorten(encoder, 30)
    return f"{shorten(encoder, 30)} · {shorten(confounder, 16)}"


def _handles() -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D

    def dot(colour: str, face: str) -> Line2D:
        return Line2D([], [], color=colour, marker="o", markerfacecolor=face)

    return [
        dot(_LABEL_COLOUR, _LABEL_COLOUR),
        dot(_CONFOUNDER_COLOUR, _CONFOUNDER_COLOUR),
        dot(GREY, "white"),
        Line2D([], [], color=INK, marker="|", markersize=13, markeredgewidth=1.6, linestyle="none"),
    ], ["label", "background", f"hollow: adjusted p ≥ {SIGNIFICANT:g}, or not tested", "expected by chance"]
