"""Confusion matrices of held-out predictions, one per protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures.style import INK, new_figure, require_columns, shorten, to_png

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

    from analysis.arrays import FloatArray

# More classes have no room for numbers, and fewer letters for names.
ANNOTATED_CLASSES = 12
NAME_LETTERS = 24


def confusion_figure(predictions: pl.DataFrame, *, title: str) -> bytes:
    """Draw a matrix per protocol: classes down, what was predicted across.

    Parameters
    ----------
    predictions
        Out-of-fold predictions of one target under one encoder, with columns ``protocol``, ``truth`` and ``predicted``.
    title
        What they are of.

    Returns
    -------
    bytes
        A PNG; colours and numbers are percent of the class's predictions, so that rows sum to 100.

    Raises
    ------
    ValueError
        If a column is missing or there is no row.
    """
    require_columns(predictions, "protocol", "truth", "predicted")
    names = sorted(set(predictions["truth"]) | set(predictions["predicted"]))
    protocols = predictions["protocol"].unique().sort(descending=True).to_list()
    side = 1.2 + max(1.8, 0.45 * min(len(names), ANNOTATED_CLASSES) + 0.16 * max(0, len(names) - ANNOTATED_CLASSES))
    figure = new_figure((side + 0.4) * len(protocols) + 1.0, side + 0.9)
    figure.suptitle(shorten(title, 80), fontsize=12, color=INK, parse_math=False)
    panels = figure.subplots(1, len(protocols), squeeze=False, sharey=True)[0]
    for axes, protocol in zip(panels, protocols, strict=True):
        part = predictions.filter(protocol=protocol)
        _panel(axes, _shares(part, names), names)
        axes.set_title(f"{shorten(protocol)}: {part.height} predictions", fontsize=10, color=INK, parse_math=False)
    panels[0].set_ylabel("class", fontsize=9, color=INK)
    return to_png(figure)


def _shares(predictions: pl.DataFrame, names: list[str]) -> FloatArray:
    """Percent of each class's predictions ``(classes, classes)``; NaN for a class that does not occur."""
    code = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, tuple([code[name] for name in predictions[column]] for column in ("truth", "predicted")), 1)
    total = counts.sum(axis=1, keepdims=True)
    shares: FloatArray = np.full(counts.shape, np.nan)
    np.divide(100 * counts, total, out=shares, where=total > 0)
    return shares


def _panel(axes: Axes, shares: FloatArray, names: list[str]) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    ticks = range(len(names))
    size = 9 if len(names) <= ANNOTATED_CLASSES else 6
    labels = [shorten(name, NAME_LETTERS) for name in names]
    axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=size, parse_math=False)
    axes.set_yticks(ticks, labels, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted", fontsize=9, color=INK)
    axes.tick_params(length=0)
    if len(names) > ANNOTATED_CLASSES:
        return
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share):
            colour = "white" if share > 55 else INK
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=9, color=colour)
