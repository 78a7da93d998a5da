"""A look at a data set: some of its images, each with its label."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.figures.contact_sheet import decode
from analysis.figures.style import INK, new_figure, shorten, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACROSS = 8
_TILE_INCHES = 1.2
# Longer captions are written smaller, so that they do not run into each other.
_CAPTION_LETTERS = 18


def image_grid_figure(images: Sequence[tuple[bytes, str] | None], *, title: str, across: int = _ACROSS) -> bytes:
    """Draw images in a grid.

    Parameters
    ----------
    images
        PNG or JPEG bytes, and a caption of at most two lines that is taken literally; None leaves a place empty.
    title
        Heading, taken literally.
    across
        Images in a row.

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
    across = min(across, len(images))
    down = math.ceil(len(images) / across)
    extra = 0.12 if any("\n" in caption for _, caption in filter(None, images)) else 0.0
    figure = new_figure(max(4.6, _TILE_INCHES * across), (_TILE_INCHES + 0.25 + extra) * down + 0.5)
    axes = figure.subplots(down, across, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, image in zip(axes.flat, images, strict=False):
        if image is None:
            continue
        data, caption = image
        panel.imshow(decode(data))
        lines = [shorten(line, 24) for line in caption.split("\n")[:2]]
        size = 7.5 if max(map(len, lines)) <= _CAPTION_LETTERS else 6
        panel.set_title("\n".join(lines), fontsize=size, color=INK, pad=2, parse_math=False)
    figure.suptitle(shorten(title, 90), fontsize=12, color=INK, parse_math=False)
    return to_png(figure)
