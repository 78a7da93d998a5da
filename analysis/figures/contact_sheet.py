"""Images and their neighbours, framed by what they share."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from analysis.figures.style import GREY, INK, PALETTE, new_figure, plain_legend, shorten, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_TILE_INCHES = 1.25
_LEAST_ACROSS, _LEAST_INCHES = 5, 6.8
# Colour and dash say the same, for those who cannot tell the colours apart.
_FRAMES: dict[str, tuple[str, Literal["-", "--", ":"]]] = {
    "shares the label": (PALETTE[0], "-"),
    "shares the background only": (PALETTE[3], "--"),
    "shares neither, or unknown": (GREY, ":"),
}


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet.

    Attributes
    ----------
    image
        PNG or JPEG bytes.
    caption
        Label, flags or distance; taken literally.
    shares_label, shares_confounder
        Whether it has the query's label and background; None where unknown, and for the query itself.
    """

    image: bytes
    caption: str
    shares_label: bool | None = None
    shares_confounder: bool | None = None


@dataclass(frozen=True)
class SheetRow:
    """A query image and its neighbours, nearest first."""

    query: Tile
    neighbors: tuple[Tile, ...]


def neighbors_figure(
    rows: Sequence[SheetRow], *, title: str, background: str = "the background", query: str = "query"
) -> bytes:
    """Draw each query with its neighbours in a row.

    Parameters
    ----------
    rows
        Queries; lists may differ in length.
    title
        Heading, taken literally.
    background
        The attribute that `Tile.shares_confounder` is about, for the legend.
    query
        What stands above the first image of a row.

    Returns
    -------
    bytes
        A PNG. A neighbour that shares the label has a solid blue frame, one that shares the background
        only a dashed vermilion one. A picture that cannot be decoded is a grey tile.

    Raises
    ------
    ValueError
        If there is no row.
    """
    if not rows:
        raise ValueError("no query to draw")
    # At least as wide as the legend.
    across = max(_LEAST_ACROSS, 1 + max(len(row.neighbors) for row in rows))
    width = max(_LEAST_INCHES, _TILE_INCHES * across)
    figure = new_figure(width, (_TILE_INCHES + 0.42) * len(rows) + 0.9)
    axes = figure.subplots(len(rows), across, squeeze=False)
    for i, row in enumerate(rows):
        for panel, tile in zip(axes[i], (row.query, *row.neighbors), strict=False):
            _panel(panel, tile, heading=query if tile is row.query else None)
        for panel in axes[i, 1 + len(row.neighbors) :]:
            panel.set_axis_off()
    figure.suptitle(shorten(title, int(width * 10)), fontsize=12, color=INK, parse_math=False)
    figure.legend(*_handles(background), loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    plain_legend(figure.legends[0])
    return to_png(figure)


def _panel(axes: Axes, tile: Tile, *, heading: str | None) -> None:
    axes.imshow(decode(tile.image), cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    caption = "\n".join(shorten(line, 20) for line in tile.caption.split("\n")[:2])
    axes.set_xlabel(caption, fontsize=7.5, color=INK, parse_math=False)
    if heading is not None:
        colour, dash, weight = INK, "-", 1.0
        axes.set_title(heading, fontsize=8, color=INK, pad=2)
    else:
        colour, dash = _FRAMES[_shared(tile)]
        weight = 2.8
    for spine in axes.spines.values():
        spine.set(color=colour, linestyle=dash, linewidth=weight)


def _shared(tile: Tile) -> str:
    if tile.shares_label:
        return "shares the label"
    if tile.shares_confounder:
        return "shares the background only"
    return "shares neither, or unknown"


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode to ``(height, width, 3)``; a grey square where the bytes are no picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return np.full((8, 8, 3), 200, dtype=np.uint8)


def _handles(background: str) -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D

    handles: list[Artist] = [
        Line2D([], [], color=colour, linestyle=dash, linewidth=2.8) for colour, dash in _FRAMES.values()
    ]
    return handles, [text.replace("the background", shorten(background, 24)) for text in _FRAMES]
