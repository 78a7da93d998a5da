"""How to read the audits: how often tests err and see, what intervals cover, and how metrics move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures.style import GREY, INK, MARKERS, PALETTE, new_figure, plain_legend, require_columns, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the names of worlds of features begin with; their strengths are comparable.
FEATURES = "features"
_TESTS = {
    "confounder_agreement": "background agreement",
    "robustness_index": "robustness index",
    "label_agreement": "label agreement",
}
_TEST_COLOURS = (PALETTE[0], PALETTE[3], PALETTE[2])
# Metrics whose movement is drawn, and the end of their scale where the background rules.
_MOVING = {
    "confounder_agreement": ("background agreement", 1.0),
    "background_within_label": ("background within label", 1.0),
    "robustness_index": ("robustness index", 0.0),
    "robustness_index_balanced": ("robustness index, balanced", 0.0),
    "mari": ("MaRI", 0.0),
    "croma_median": ("CRoMa, median", -1.0),
    "bras": ("BRAS", 0.0),
    "ilisi": ("iLISI", 0.0),
    "kbet": ("kBET", 0.0),
    "pcr": ("PCR", 1.0),
    "clustering_score": ("clustering score", -1.0),
}


def calibration_figure(frame: pl.DataFrame, intervals: pl.DataFrame) -> bytes:
    """Draw false positives at strength 0, power by strength, interval coverage, and the metrics by strength.

    Parameters
    ----------
    frame
        Metrics of `analysis.calibration.calibrate`, of any worlds.
    intervals
        Its intervals; the panel is left out where there is none.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    require_columns(frame, "world", "metric", "strength", "association", "images", "rejected", "mean", "alpha")
    tested = frame.filter(pl.col("metric").is_in(list(_TESTS)), pl.col("rejected").is_not_null())
    null = tested.filter(strength=0).sort("world", "association", "images", "metric")
    settings = null.select("world", "association", "images").unique(maintain_order=True).rows()
    # Settings and metrics stand in lines, and have the height of the figure; the curves share a column.
    lines = max(len(settings), intervals["metric"].n_unique() if intervals.height else 0)
    figure = new_figure(15.5, max(8.0, 0.27 * lines + 1.8))
    columns = figure.add_gridspec(2, 3, width_ratios=(1.15, 1, 1))
    false, power, moves = (figure.add_subplot(place) for place in (columns[:, 0], columns[0, 2], columns[1, 2]))
    panels = [false, power, moves]
    _false_positives(false, null, settings)
    _power(power, tested)
    _movement(moves, frame)
    if intervals.height:
        panels.append(figure.add_subplot(columns[:, 1]))
        _coverage(panels[-1], intervals)
    for axes in panels:
        axes.tick_params(labelsize=8)
        axes.grid(color="#EEEEEE")
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle("How to read these numbers: the audits where the truth is known", fontsize=13, color=INK)
    return to_png(figure)


def _false_positives(axes: Axes, null: pl.DataFrame, settings: list[tuple[str, float, int]]) -> None:
    for row in null.iter_rows(named=True):
        place = settings.index((row["world"], row["association"], row["images"]))
        number = list(_TESTS).index(row["metric"])
        y, colour = place + 0.25 * (number - 1), _TEST_COLOURS[number]
        axes.plot([row["rejected_ci_low"], row["rejected_ci_high"]], [y, y], color=colour, linewidth=1.4)
        axes.plot([row["rejected"]], [y], MARKERS[number], color=colour, markersize=5)
    axes.axvline(float(null["alpha"][0]) if null.height else 0.05, color=INK, linewidth=1, linestyle="--")
    names = [f"{world}\n{images} images, association {association:g}" for world, association, images in settings]
    axes.set_yticks(range(len(settings)), names, parse_math=False)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlim(0, max(0.2, float(null["rejected_ci_high"].max() or 0) * 1.05))  # type: ignore[arg-type]  # a number
    axes.set_xlabel("share of sets in which the test rejects at 0.05", fontsize=9)
    axes.set_title("Nothing planted: false positives", fontsize=11, color=INK)
    _legend(axes, [(name, _TEST_COLOURS[i], MARKERS[i], "-") for i, name in enumerate(_TESTS.values())])


def _coverage(axes: Axes, intervals: pl.DataFrame) -> None:
    pooled = (
        intervals.group_by("metric")
        .agg((pl.col("covered").dot("intervals") / pl.col("intervals").sum()).alias("covered"))
        .sort("covered", "metric")
    )
    metrics = pooled["metric"].to_list()
    worlds = intervals["world"].unique(maintain_order=True).to_list()
    for row in intervals.iter_rows(named=True):
        number = worlds.index(row["world"])
        # Worlds beside one another, their sizes too.
        size = sorted(set(intervals["images"])).index(row["images"])
        y = metrics.index(row["metric"]) + 0.7 * ((number + 0.5 * size) / max(1, len(worlds)) - 0.5)
        colour = PALETTE[number % len(PALETTE)]
        axes.plot([row["covered_ci_low"], row["covered_ci_high"]], [y, y], color=colour, linewidth=1)
        axes.plot([row["covered"]], [y], MARKERS[number % len(MARKERS)], color=colour, markersize=3.5)
    axes.axvline(float(intervals["level"][0]), color=INK, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(metrics)), [name.replace("_", " ") for name in metrics], parse_math=False)
    axes.set_ylim(len(metrics) - 0.5, -0.5)
    axes.set_xlim(min(0.7, float(intervals["covered_ci_low"].min() or 0) - 0.02), 1.01)  # type: ignore[arg-type]  # a number
    axes.set_xlabel("share of 95 % intervals that hold the truth", fontsize=9)
    axes.set_title("Intervals: coverage", fontsize=11, color=INK)
    entries = [(name, PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)], "-") for i, name in enumerate(worlds)]
    _legend(axes, entries)


def _power(axes: Axes, tested: pl.DataFrame) -> None:
    # By the number of images and association, over worlds of features; one test, as both curves lie close. Phantoms
    # have a scale of strength of their own, and a curve.
    agreement = tested.filter(metric="confounder_agreement")
    curves = (
        agreement.filter(pl.col("world").str.starts_with(FEATURES))
        .group_by("images", "association", "strength")
        .agg(pl.col("rejected").mean())
        .sort("images", "association", "strength")
    )
    handles = []
    sizes, associations = curves["images"].unique().sort().to_list(), curves["association"].unique().sort().to_list()
    for (images, association), rows in curves.group_by("images", "association", maintain_order=True):
        colour, dash = PALETTE[associations.index(association) % len(PALETTE)], "-:"[sizes.index(images) % 2]
        marker = MARKERS[sizes.index(images) % len(MARKERS)]
        axes.plot(rows["strength"], rows["rejected"], marker + dash, color=colour, markersize=4.5)
        handles.append((f"{images} images, association {association:g}", colour, marker, dash))
    others = agreement.filter(~pl.col("world").str.starts_with(FEATURES)).group_by("world", "strength")
    for (world,), rows in others.agg(pl.col("rejected").mean()).sort("world", "strength").group_by("world"):
        axes.plot(rows["strength"], rows["rejected"], "*--", color=INK, markersize=7)
        handles.append((str(world), INK, "*", "--"))
    axes.axhline(0.05, color=INK, linewidth=1, linestyle="--")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("planted strength", fontsize=9)
    axes.set_ylabel("share of sets in which the test rejects", fontsize=9)
    axes.set_title("Power of background agreement", fontsize=11, color=INK)
    _legend(axes, handles)


def _movement(axes: Axes, frame: pl.DataFrame) -> None:
    means = (
        frame.filter(
            pl.col("metric").is_in(list(_MOVING)),
            pl.col("world").str.starts_with(FEATURES),
            pl.col("mean").is_not_null(),
        )
        .group_by("metric", "strength")
        .agg(pl.col("mean").mean())
        .drop_nulls()
        .sort("metric", "strength")
    )
    handles = []
    for i, (metric, (name, end)) in enumerate(_MOVING.items()):
        rows = means.filter(metric=metric)
        if rows.height < 2 or rows["strength"][0] != 0:
            continue
        start = rows["mean"][0]
        colour, marker, dash = (PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)], "-" if i < len(PALETTE) else "--")
        axes.plot(rows["strength"], (rows["mean"] - start) / (end - start), marker + dash, color=colour, markersize=4.5)
        handles.append((name, colour, marker, dash))
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set_xlabel("planted strength", fontsize=9)
    axes.set_ylabel("of the way to background alone", fontsize=9)
    axes.set_title("Metrics on features, from nothing planted", fontsize=11, color=INK)
    _legend(axes, handles)


def _legend(axes: Axes, entries: list[tuple[str, str, str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, marker=m, ls=d, markersize=4.5) for _, c, m, d in entries]
    legend = axes.legend(handles, [name for name, *_ in entries], fontsize=7.5, frameon=True, framealpha=0.9)
    plain_legend(legend)
