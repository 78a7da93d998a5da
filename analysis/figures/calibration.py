"""How to read the audits: how often their tests err, how much they see, and how their metrics move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures.style import GREY, INK, MARKERS, PALETTE, new_figure, plain_legend, require_columns, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the names of worlds of features begin with; their strengths are comparable.
FEATURES = "features"
_TESTS = {"confounder_agreement": "background agreement", "robustness_index": "robustness index"}
# Metrics whose movement is drawn, and the end of their scale where the background rules.
_MOVING = {
    "confounder_agreement": ("background agreement", 1.0),
    "background_within_label": ("background within label", 1.0),
    "robustness_index": ("robustness index", 0.0),
    "mari": ("MaRI", 0.0),
    "croma_median": ("CRoMa, median", -1.0),
    "bras": ("BRAS", 0.0),
    "ilisi": ("iLISI", 0.0),
    "kbet": ("kBET", 0.0),
    "pcr": ("PCR", 1.0),
    "clustering_score": ("clustering score", -1.0),
}


def calibration_figure(frame: pl.DataFrame, intervals: pl.DataFrame) -> bytes:
    """Draw false positives at strength 0, power by strength, and the metrics by strength.

    Parameters
    ----------
    frame
        Rows of `analysis.calibration.calibrate`, of any worlds.

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
    figure = new_figure(15.5, max(5.2, 0.27 * len(settings) + 1.8))
    false, power, moves = figure.subplots(1, 3, width_ratios=(1.15, 1, 1.2))
    _false_positives(false, null, settings)
    _power(power, tested)
    _movement(moves, frame)
    for axes in (false, power, moves):
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
        y, colour = place + 0.3 * (number - 0.5), PALETTE[3 * number]
        axes.plot([row["rejected_ci_low"], row["rejected_ci_high"]], [y, y], color=colour, linewidth=1.4)
        axes.plot([row["rejected"]], [y], MARKERS[number], color=colour, markersize=5)
    axes.axvline(float(null["alpha"][0]) if null.height else 0.05, color=INK, linewidth=1, linestyle="--")
    names = [f"{world}\n{images} images, association {association:g}" for world, association, images in settings]
    axes.set_yticks(range(len(settings)), names, parse_math=False)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlim(0, max(0.2, float(null["rejected_ci_high"].max() or 0) * 1.05))  # type: ignore[arg-type]  # a number
    axes.set_xlabel("share of sets in which the test rejects at 0.05", fontsize=9)
    axes.set_title("Nothing planted: false positives", fontsize=11, color=INK)
    _legend(axes, [(name, PALETTE[3 * i], MARKERS[i], "-") for i, name in enumerate(_TESTS.values())])


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
        frame.filter(pl.col("metric").is_in(list(_MOVING)), pl.col("world").str.starts_with(FEATURES))
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
    axes.set_ylabel("share of the way to where the background alone rules", fontsize=9)
    axes.set_title("The metrics on features, from nothing planted (0)", fontsize=11, color=INK)
    _legend(axes, handles)


def _legend(axes: Axes, entries: list[tuple[str, str, str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, marker=m, ls=d, markersize=4.5) for _, c, m, d in entries]
    legend = axes.legend(handles, [name for name, *_ in entries], fontsize=7.5, frameon=True, framealpha=0.9)
    plain_legend(legend)
