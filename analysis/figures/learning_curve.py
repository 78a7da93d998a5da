"""How a training went: losses by epoch, and the epoch whose weights were kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures.style import GREY, INK, PALETTE, new_figure, plain_legend, require_columns, shorten, to_png

if TYPE_CHECKING:
    import polars as pl


def learning_curve_figure(frame: pl.DataFrame, *, guessing: float, title: str) -> bytes:
    """Draw the loss on the training and on the validation part.

    Parameters
    ----------
    frame
        A row per epoch with columns ``epoch`` (from 1), ``train_loss``, ``validation_loss`` and ``kept``.
    guessing
        The validation loss that the labels' frequencies alone give.
    title
        Heading, taken literally.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    from matplotlib.ticker import MaxNLocator

    require_columns(frame, "epoch", "train_loss", "validation_loss", "kept")
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    axes.axhline(guessing, color=GREY, linestyle="--", linewidth=1.2, label="label frequencies alone, validation")
    series = (("train_loss", "training (while it learned)", "o"), ("validation_loss", "validation", "s"))
    for number, (column, name, marker) in enumerate(series):
        axes.plot(frame["epoch"], frame[column], color=PALETTE[3 * number], marker=marker, markersize=5, label=name)
    kept = frame.filter(frame["kept"])
    axes.plot(
        kept["epoch"], kept["validation_loss"], linestyle="none", marker="o", markersize=12, markerfacecolor="none",
        markeredgecolor=INK, label="kept",
    )  # fmt: skip
    axes.set_title(shorten(title, 72), fontsize=11, color=INK, parse_math=False)
    axes.set_xlabel("epoch", fontsize=9, color=INK)
    axes.set_ylabel("loss", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    axes.margins(y=0.12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    plain_legend(figure.legends[0])
    return to_png(figure)
