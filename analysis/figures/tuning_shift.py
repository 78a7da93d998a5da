"""The background before and after fine-tuning, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures.style import GREY, INK, PALETTE, new_figure, plain_legend, require_columns, shorten, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From left to right, with what a higher value means.
_PANELS = {
    "decodability": "decodability\n(balanced accuracy)",
    "label_agreement": "neighbours that\nshare the label",
    "confounder_agreement": "neighbours that\nshare the background",
    "robustness_index": "robustness index\n(below ½: background)",
    "within_label_gap": "accuracy gap\nwithin a label",
}
_MOMENTS = ("before", "after")


def tuning_shift_figure(frame: pl.DataFrame, *, title: str) -> bytes:
    """Draw one panel per metric: attributes down, each before above after.

    Parameters
    ----------
    frame
        Rows of `analysis.tuning_shift.tuning_shift`.
    title
        Heading, taken literally.

    Returns
    -------
    bytes
        A PNG; the label itself comes first, and what is undefined is said to be so.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    require_columns(frame, "moment", "confounder", "metric", "value", "ci_low", "ci_high", "expected")
    frame = frame.with_columns(pl.col("confounder").fill_null("label"))
    names = ["label", *frame.filter(pl.col("confounder") != "label")["confounder"].unique(maintain_order=True)]
    panels = [metric for metric in _PANELS if metric in frame["metric"]]
    figure = new_figure(2.35 * len(panels) + 1.4, 0.5 * len(names) + 1.9)
    for axes, metric in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True):
        _panel(axes, frame.filter(metric=metric), names)
        axes.set_title(_PANELS[metric], fontsize=9, color=INK)
    figure.axes[0].set_yticks(range(len(names)), [shorten(name) for name in names], fontsize=9, parse_math=False)
    figure.axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    shown = [name for name in (*_MOMENTS, "by chance") if name in handles]
    figure.legend([handles[name] for name in shown], shown, loc="outside lower center", ncols=3, frameon=False)
    plain_legend(figure.legends[0])
    figure.suptitle(shorten(title, 110), fontsize=11, color=INK, parse_math=False)
    return to_png(figure)


def _panel(axes: Axes, rows: pl.DataFrame, names: list[str]) -> None:
    for row in rows.iter_rows(named=True):
        number = _MOMENTS.index(row["moment"])
        y, colour = names.index(row["confounder"]) + 0.3 * (number - 0.5), PALETTE[3 * number]
        if row["value"] is None:
            axes.annotate(
                "undefined", (0.5, y), xycoords=("axes fraction", "data"), ha="center", va="center", fontsize=7,
                color=GREY,
            )  # fmt: skip
            continue
        if row["ci_low"] is not None:
            axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, linewidth=1.5)
        inside = "white" if row["moment"] == "before" else colour
        axes.plot(
            [row["value"]], [y], "os"[number], color=colour, markersize=6, markerfacecolor=inside, label=row["moment"]
        )
        if row["expected"] is not None:
            axes.plot([row["expected"]] * 2, [y - 0.13, y + 0.13], color=GREY, linewidth=1.6, label="by chance")
    # Only a gap can be below 0: its worst and best value are chosen on other images than it is measured on.
    lowest = pl.concat([rows["value"], rows["ci_low"]]).min()
    axes.set_xlim(min(-0.03, float(lowest or 0) - 0.03), 1.03)  # type: ignore[arg-type]  # a number
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.tick_params(labelsize=8)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
