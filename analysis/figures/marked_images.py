"""Images with what was found on them: a box around each thing, another colour for each kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.figures.contact_sheet import decode
from analysis.figures.style import GREY, INK, PALETTE, new_figure, plain_legend, shorten, to_png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS = 6
_TILE_INCHES = 1.7


@dataclass(frozen=True)
class Found:
    """One thing found: its kind, its box as shares of the image's width and height, and whether it is covered."""

    kind: str
    box: tuple[float, float, float, float]
    covered: bool = False


@dataclass(frozen=True)
class MarkedImage:
    """A picture, PNG or JPEG bytes, a caption that is taken literally, and what was found on it."""

    image: bytes
    caption: str
    found: tuple[Found, ...]


def marked_images_figure(images: Sequence[MarkedImage], *, title: str) -> bytes:
    """Draw images in a grid with a box around each thing found.

    Parameters
    ----------
    images
        The pictures; what is `Found.covered` is painted over.
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
    kinds = sorted({found.kind for image in images for found in image.found})
    colours = {kind: PALETTE[i % len(PALETTE)] for i, kind in enumerate(kinds)}
    across = min(_ACROSS, len(images))
    down = math.ceil(len(images) / across)
    figure = new_figure(max(4.6, _TILE_INCHES * across), (_TILE_INCHES + 0.3) * down + 0.9)
    axes = figure.subplots(down, across, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, image in zip(axes.flat, images, strict=False):
        _panel(panel, image, colours)
    figure.suptitle(shorten(title, 90), fontsize=12, color=INK, parse_math=False)
    if kinds:
        _legend(figure, colours)
    return to_png(figure)


def _panel(axes: Axes, image: MarkedImage, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Rectangle

    pixels = decode(image.image)
    height, width = pixels.shape[:2]
    axes.imshow(pixels)
    axes.set_title(shorten(image.caption, 26), fontsize=7.5, color=INK, pad=2, parse_math=False)
    for found in image.found:
        x0, y0, x1, y1 = (
            share * side - 0.5 for share, side in zip(found.box, (width, height, width, height), strict=True)
        )
        place = Rectangle(
            (x0, y0), x1 - x0, y1 - y0, edgecolor=colours[found.kind], facecolor=GREY, fill=found.covered, linewidth=1.3
        )
        axes.add_patch(place)


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linewidth=2.2) for colour in colours.values()]
    legend = figure.legend(
        handles, list(colours), loc="outside lower center", ncols=len(handles), fontsize=8.5, frameon=False
    )
    plain_legend(legend)
