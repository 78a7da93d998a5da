"""The verdicts of all cells as one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures.style import INK, new_figure, require_columns, shorten, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Verdict → fill, and the word in the square, which says the same without the colour.
_SQUARES = {
    "background leads": ("#F6C9B4", "leads"),
    "background is visible": ("#FBE3A6", "visible"),
    "no sign of the background": ("#C9E9DD", "no sign"),
    "cannot be told": ("#E6E9EC", "cannot tell"),
    "reads the label": ("#C9E9DD", "reads it"),
    "reads label or background": ("#FBE3A6", "entangled"),
    "no better than chance": ("#E6E9EC", "chance"),
}
_LABEL = "the label"
_WIDTH_INCHES, _HEIGHT_INCHES = 1.15, 0.34


def verdict_figure(findings: pl.DataFrame) -> bytes:
    """Draw a square per cell and attribute: cells down, the label and every background across.

    Parameters
    ----------
    findings
        Rows with columns ``dataset``, ``encoder``, ``confounder`` (null: the label) and ``verdict``.

    Returns
    -------
    bytes
        A PNG; what a cell has no record of stays empty.

    Raises
    ------
    ValueError
        If a column is missing or there is no row.
    """
    require_columns(findings, "dataset", "encoder", "confounder", "verdict")
    cells = findings.select("encoder", "dataset").unique().sort("encoder", "dataset").rows()
    counts = (
        findings.drop_nulls("confounder")
        .group_by("confounder")
        .agg((pl.col("verdict") == "background leads").sum().alias("leads"), pl.len())
    )
    names = counts.sort("leads", "len", "confounder", descending=[True, True, False])["confounder"].to_list()
    columns = [None, *names]
    figure = new_figure(_WIDTH_INCHES * len(columns) + 3.4, _HEIGHT_INCHES * len(cells) + 0.8)
    axes = figure.subplots()
    for row in findings.iter_rows(named=True):
        place = cells.index((row["encoder"], row["dataset"]))
        _square(axes, columns.index(row["confounder"]), place, row["verdict"])
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(cells), 0)
    axes.xaxis.tick_top()
    heads = [shorten(name or _LABEL, 18) for name in columns]
    axes.set_xticks([i + 0.5 for i in range(len(columns))], heads, fontsize=8.5, parse_math=False)
    rows = [f"{shorten(encoder, 24)} · {shorten(dataset, 18)}" for encoder, dataset in cells]
    axes.set_yticks([i + 0.5 for i in range(len(cells))], rows, fontsize=8.5, parse_math=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return to_png(figure)


def _square(axes: Axes, x: int, y: int, verdict: str) -> None:
    from matplotlib.patches import Rectangle

    fill, word = _SQUARES.get(verdict, ("#FFFFFF", shorten(verdict, 14)))
    axes.add_patch(Rectangle((x + 0.03, y + 0.08), 0.94, 0.84, facecolor=fill, edgecolor="none"))
    axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", fontsize=8, color=INK)
