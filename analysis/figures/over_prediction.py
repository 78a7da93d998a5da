"""How many images are said to have each label, over how many do."""

from __future__ import annotations

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

# More labels are not told apart; those said most too often are shown.
LABELS = 30
TICKS = tuple(step * 10.0**power for power in range(-4, 5) for step in (1, 2, 5))


def over_prediction_figure(scores: pl.DataFrame, *, title: str) -> bytes:
    """Draw a row per label and a mark per rule, on a logarithmic axis; a never predicted label is drawn at the edge.

    Parameters
    ----------
    scores
        Rows of ``over_prediction`` of one prompt set, with columns ``rule``, ``label``, ``value``, ``ci_low``,
        ``ci_high``, ``n``; undefined ones are left out.
    title
        What they are of.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    ValueError
        If a column is missing or no row has a value.
    """
    require_columns(scores, "rule", "label", "value", "ci_low", "ci_high", "n")
    scores = scores.drop_nulls("value")
    require_columns(scores, "value")
    order = scores.group_by("label").agg(pl.col("value").max()).sort("value", "label", descending=[True, False])
    names = order["label"].to_list()[:LABELS]
    rules = scores["rule"].unique(maintain_order=True).to_list()
    ends = [value for name in ("value", "ci_low", "ci_high") for value in scores[name].drop_nulls() if value > 0]
    never = bool((scores["value"] == 0).any())
    # A little beyond what is drawn, and as far as half and twice where all is near 1.
    least, most = min([*ends, 0.625]) * (0.4 if never else 0.8), max([*ends, 1.6]) * 1.25
    figure = new_figure(7.2, 1.5 + len(names) * (0.2 + 0.09 * len(rules)) + 0.18 * len(rules))
    axes = figure.subplots()
    figure.suptitle(shorten(title, 80), fontsize=12, color=INK, parse_math=False)
    for place, rule in enumerate(rules):
        of_rule = {row["label"]: row for row in scores.filter(rule=rule).iter_rows(named=True)}
        colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
        drawn = [(i, of_rule[name]) for i, name in enumerate(names) if name in of_rule]
        height = [i + (place - (len(rules) - 1) / 2) * 0.7 / len(rules) for i, _ in drawn]
        axes.plot(
            [max(row["value"], least) for _, row in drawn], height, marker, color=colour, markersize=5, linestyle="",
            label=shorten(rule, 48), zorder=3,
        )  # fmt: skip
        for y, (_, row) in zip(height, drawn, strict=True):
            if row["ci_low"] is not None:
                ends = [max(row["ci_low"], least), max(row["ci_high"], least)]
                axes.plot(ends, [y, y], color=colour, linewidth=1.2, zorder=2)
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1, zorder=1)
    axes.set_xscale("log")
    axes.set_xlim(least * 0.9, most)
    axes.set_xticks([tick for tick in TICKS if least <= tick <= most])
    axes.minorticks_off()
    support = dict(scores.select("label", "n").iter_rows())
    labels = [f"{shorten(name, 26)} ({support[name]:,})" for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=9, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("images said to have the label / images that have it", fontsize=9, color=INK)
    axes.grid(axis="x", color="#E5E5E5", zorder=0)
    plain_legend(figure.legend(loc="outside lower center", ncols=1 if len(rules) > 2 else 2, fontsize=8, frameon=False))
    return to_png(figure)
