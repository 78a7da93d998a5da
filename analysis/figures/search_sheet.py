"""The answer to a search as a contact sheet: each image with its distance, label and flags."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from analysis.figures.contact_sheet import decode
from analysis.figures.style import GREY, INK, PALETTE, new_figure, plain_legend, shorten, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS = 6
_TILE_INCHES = 1.55
_HEADING_INCHES = 0.62
_CAPTION_INCHES = 0.52
# Colour and dash say the same, for those who cannot tell the colours apart.
Frame: TypeAlias = tuple[str, Literal["-", "--"]]
_FRAMES: dict[bool, Frame] = {True: (PALETTE[0], "-"), False: (PALETTE[3], "--")}
_FRAME_NAMES = ("the query's label", "another label")
_NO_FRAME: Frame = (GREY, "-")


@dataclass(frozen=True)
class SearchQuery:
    """What was looked for.

    Attributes
    ----------
    words
        What it is and by whose idea of nearness, taken literally.
    image
        PNG or JPEG bytes; None for what is no single image.
    label
        Its label; None where it has none or that is unknown.
    flags
        What is known of its background.
    """

    words: str
    image: bytes | None = None
    label: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchHit:
    """One image of the answer; all text is taken literally.

    Attributes
    ----------
    image
        PNG or JPEG bytes.
    distance
        Cosine distance, 0 … 2.
    label
        None is unknown.
    flags
        What is known of its background, such as ``words: AXILLA`` or ``calliper``.
    dataset, name
        Data set and path.
    """

    image: bytes
    distance: float
    label: str | None
    flags: tuple[str, ...]
    dataset: str
    name: str


def shares_label(query: SearchQuery, hit: SearchHit) -> bool | None:
    """Return whether a hit has the query's label; None where either has none."""
    return None if query.label is None or hit.label is None else query.label == hit.label


def search_sheet(query: SearchQuery, hits: Sequence[SearchHit]) -> bytes:
    """Draw the answer to a search, nearest first, after the image that was looked for.

    Returns
    -------
    bytes
        A PNG. Where the query has a label, an image that shares it has a solid blue frame, one of another label a
        dashed vermilion one. A picture that cannot be decoded is a grey tile.

    Raises
    ------
    ValueError
        If there is no hit.
    """
    if not hits:
        raise ValueError("no image to draw")
    tiles = (query.image is not None) + len(hits)
    across = min(_ACROSS, max(3, tiles))
    down = math.ceil(tiles / across)
    width = _TILE_INCHES * across
    figure = new_figure(width, (_TILE_INCHES + _CAPTION_INCHES) * down + _HEADING_INCHES)
    grid = figure.subplots(down, across, squeeze=False, gridspec_kw={"wspace": 0.08})
    panels = list(grid.flat)
    if query.image is not None:
        _panel(panels.pop(0), query.image, "the query", [query.label or "", ", ".join(query.flags)], (INK, "-"))
    for hit in hits:
        shared = shares_label(query, hit)
        frame = _NO_FRAME if shared is None else _FRAMES[shared]
        caption = [hit.label or "label unknown", ", ".join(hit.flags)]
        _panel(panels.pop(0), hit.image, f"{hit.distance:.3f}", caption, frame)
    for panel in panels:
        panel.set_axis_off()
    heading = "\n".join(shorten(line, int(width * 11)) for line in query.words.split("\n")[:2])
    figure.suptitle(heading, fontsize=11, color=INK, parse_math=False)
    if query.label is not None:
        _legend(figure)
    return to_png(figure)


def _panel(axes: Axes, image: bytes, title: str, caption: Sequence[str], frame: tuple[str, Literal["-", "--"]]) -> None:
    axes.imshow(decode(image))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8, color=INK, pad=3)
    lines = "\n".join(shorten(line, 26) for line in caption if line)
    axes.set_xlabel(lines, fontsize=7.5, color=INK, labelpad=3, parse_math=False)
    colour, dash = frame
    for spine in axes.spines.values():
        spine.set(color=colour, linestyle=dash, linewidth=2.4)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linestyle=dash, linewidth=2.4) for colour, dash in _FRAMES.values()]
    figure.legend(handles, _FRAME_NAMES, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    plain_legend(figure.legends[0])
