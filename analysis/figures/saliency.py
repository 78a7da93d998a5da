"""Saliency maps over the images they are of, and how much of them lies where, by encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures.contact_sheet import decode
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
    from collections.abc import Mapping, Sequence

    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TILE_INCHES = 1.5
# Where a map is weak the image shows through.
_STRONGEST = 0.75
_COLUMNS = ("answer", "label, if another", "attention rollout", "random weights")
_REGION_COLOURS = {"lesion": PALETTE[5], "text": PALETTE[3], "marks": PALETTE[4]}
_KIND_STYLES = {
    ("grad-cam", "trained", "answer"): (PALETTE[0], "o", "answer"),
    ("grad-cam", "trained", "label"): (PALETTE[2], "s", "label"),
    ("attention rollout", "trained", "vector"): (PALETTE[1], "D", "attention rollout"),
    ("grad-cam", "random", "answer"): (GREY, "o", "answer, random weights"),
}


@dataclass(frozen=True)
class MappedImage:
    """A model's input, its maps and what is known to be where.

    Attributes
    ----------
    image
        PNG or JPEG bytes of the input.
    caption
        One or two lines, taken literally.
    maps
        Greyscale PNG bytes by name; white is where a map is highest.
    boxes
        Region → boxes ``x0, y0, x1, y1`` as shares of the input's width and height.
    """

    image: bytes
    caption: str
    maps: Mapping[str, bytes]
    boxes: Mapping[str, Sequence[Sequence[float]]]


def mapped_images(maps: pl.DataFrame) -> list[MappedImage]:
    """Make the rows of `saliency_figure` out of rows of ``saliency_maps``: images with the most known about them first.

    The label's map is shown where the answer is another class.
    """
    shown = []
    for _, of_image in maps.group_by("image_id", maintain_order=True):
        by_kind = {(row["method"], row["weights"], row["asked"]): row for row in of_image.iter_rows(named=True)}
        answer = by_kind["grad-cam", "trained", "answer"]
        label = by_kind.get(("grad-cam", "trained", "label"))
        rollout = by_kind.get(("attention rollout", "trained", "vector"))
        drawn = {"answer": answer["map"]}
        caption = f"answer: {answer['class']}"
        if label is not None:
            caption += f"\nlabel: {label['class']}"
            if label["class"] != answer["class"]:
                drawn["label, if another"] = label["map"]
        if rollout is not None:
            drawn["attention rollout"] = rollout["map"]
        drawn["random weights"] = by_kind["grad-cam", "random", "answer"]["map"]
        shown.append(MappedImage(answer["picture"], caption, drawn, json.loads(answer["boxes"])))
    return sorted(shown, key=lambda image: (-len(image.boxes), -len(image.maps)))


def saliency_figure(images: Sequence[MappedImage], *, title: str) -> bytes:
    """Draw each image in a row: as it is, and under each of its maps.

    Parameters
    ----------
    images
        The rows; they may have different maps.
    title
        Heading, taken literally.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    ValueError
        If there is no image.
    """
    if not images:
        raise ValueError("no image to draw")
    named = {name for image in images for name in image.maps}
    names = sorted(named, key=lambda name: (_COLUMNS.index(name) if name in _COLUMNS else len(_COLUMNS), name))
    width = max(4.6, _TILE_INCHES * (1 + len(names)) + 1.4)
    figure = new_figure(width, (_TILE_INCHES + 0.08) * len(images) + 1.1)
    axes = figure.subplots(len(images), 1 + len(names), squeeze=False)
    for i, image in enumerate(images):
        pixels = decode(image.image)
        for panel, name in zip(axes[i], (None, *names), strict=True):
            panel.set_xticks([])
            panel.set_yticks([])
            for spine in panel.spines.values():
                spine.set_visible(False)
            if name is not None and name not in image.maps:
                continue
            panel.imshow(pixels)
            if name is not None:
                _lay_over(panel, decode(image.maps[name])[..., 0], pixels.shape[:2])
            _frame(panel, image.boxes, pixels.shape[:2], faint=name is not None)
            if i == 0:
                panel.set_title(shorten(name or "the model's input", 22), fontsize=9, color=INK, parse_math=False)
        caption = "\n".join(shorten(line, 24) for line in image.caption.split("\n")[:2])
        axes[i, 0].set_ylabel(
            caption, fontsize=8, color=INK, rotation=0, ha="right", va="center", labelpad=8, parse_math=False
        )
    figure.suptitle(shorten(title, int(width * 9)), fontsize=12, color=INK, parse_math=False)
    _regions_legend(figure, images)
    return to_png(figure)


def _lay_over(panel: Axes, salient: np.ndarray, shape: tuple[int, int]) -> None:
    height, width = shape
    strength = salient.astype(np.float64) / 255
    panel.imshow(
        strength,
        cmap="inferno",
        vmin=0,
        vmax=1,
        alpha=_STRONGEST * np.sqrt(strength),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear",
    )


def _frame(panel: Axes, boxes: Mapping[str, Sequence[Sequence[float]]], shape: tuple[int, int], *, faint: bool) -> None:
    from matplotlib.patches import Rectangle

    height, width = shape
    for region, found in boxes.items():
        for x0, y0, x1, y1 in found:
            panel.add_patch(
                Rectangle(
                    (x0 * width - 0.5, y0 * height - 0.5),
                    (x1 - x0) * width,
                    (y1 - y0) * height,
                    fill=False,
                    edgecolor=_REGION_COLOURS.get(region, INK),
                    linewidth=0.8 if faint else 1.4,
                )
            )


def _regions_legend(figure: Figure, images: Sequence[MappedImage]) -> None:
    from matplotlib.lines import Line2D

    regions = [name for name in _REGION_COLOURS if any(image.boxes.get(name) for image in images)]
    if not regions:
        return
    handles = [Line2D([], [], color=_REGION_COLOURS[name], linewidth=2) for name in regions]
    legend = figure.legend(
        handles, regions, loc="outside lower center", ncols=len(regions), fontsize=8.5, frameon=False
    )
    plain_legend(legend)


def saliency_scores_figure(frame: pl.DataFrame, *, title: str) -> bytes:
    """Draw how much of the evidence lies in each region per area, with intervals, one row per encoder and region.

    Parameters
    ----------
    frame
        Rows of ``saliency_scores`` of the metric ``energy / area`` that have a value, with a column ``encoder``.
    title
        Heading, taken literally.

    Returns
    -------
    bytes
        A PNG. A map without preference is at 1, on a logarithmic axis.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    require_columns(frame, "encoder", "method", "weights", "asked", "region", "value", "ci_low", "ci_high", "n")
    order = [*_REGION_COLOURS, *sorted(set(frame["region"]) - {*_REGION_COLOURS})]
    keys = sorted(frame.select("region", "encoder").unique().rows(), key=lambda key: (order.index(key[0]), key[1]))
    kinds = [kind for kind in _KIND_STYLES if _of_kind(frame, kind).height]
    gap = 0.8 / max(1, len(kinds))
    figure = new_figure(7.6, 0.24 * len(keys) * max(2, len(kinds)) + 1.5)
    axes = figure.subplots()
    ends = [1.0]
    for k, kind in enumerate(kinds):
        colour, marker, _ = _KIND_STYLES[kind]
        for row in _of_kind(frame, kind).iter_rows(named=True):
            y = keys.index((row["region"], row["encoder"])) + (k - (len(kinds) - 1) / 2) * gap
            low, high = (row["value"] if end is None else end for end in (row["ci_low"], row["ci_high"]))
            ends += [max(low, 0.02), high]
            axes.plot([max(low, 0.01), high], [y, y], color=colour, linewidth=1.6)
            axes.plot([max(row["value"], 0.01)], [y], color=colour, marker=marker, markersize=6)
    axes.axvline(1, color=INK, linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(min(ends) / 1.25, max(ends) * 1.25)
    _plain_ticks(axes)
    several = len({encoder for _, encoder in keys}) > 1
    names = [f"{region} · {shorten(encoder, 28)}" if several else str(region) for region, encoder in keys]
    axes.set_yticks(range(len(keys)), names, fontsize=9, parse_math=False)
    axes.set_ylim(len(keys) - 0.4, -0.6)
    axes.set_xlabel("share of the evidence / share of the area (1: no preference)", fontsize=9, color=INK)
    axes.grid(axis="x", color="#EEEEEE")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.suptitle(shorten(title, 70), fontsize=12, color=INK, parse_math=False)
    _kinds_legend(figure, kinds)
    return to_png(figure)


def _of_kind(frame: pl.DataFrame, kind: tuple[str, str, str]) -> pl.DataFrame:
    return frame.filter(method=kind[0], weights=kind[1], asked=kind[2])


def _plain_ticks(axes: Axes) -> None:
    """Label a logarithmic axis by numbers and not by powers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axes.xaxis.set_major_locator(FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _kinds_legend(figure: Figure, kinds: Sequence[tuple[str, str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=_KIND_STYLES[k][0], marker=_KIND_STYLES[k][1], linewidth=1.6) for k in kinds]
    names = [_KIND_STYLES[kind][2] for kind in kinds]
    legend = figure.legend(handles, names, loc="outside lower center", ncols=len(kinds), fontsize=8.5, frameon=False)
    plain_legend(legend)
