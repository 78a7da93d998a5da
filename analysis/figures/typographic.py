"""Images before and after a class's name was written into them, with what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.figures.contact_sheet import decode
from analysis.figures.style import GREY, INK, PALETTE, new_figure, plain_legend, shorten, to_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

_TILE_INCHES = 1.9
_FLIPPED = PALETTE[3]


@dataclass(frozen=True)
class AttackedImage:
    """An image as it is, with a class's name, and with a neutral word.

    Attributes
    ----------
    pictures
        PNG or JPEG bytes of the three.
    words
        What was written into each; empty for the first.
    answers
        The class answered about each.
    planted
        The class whose name was written.
    label
        The image's own class, where it is known.
    """

    pictures: tuple[bytes, bytes, bytes]
    words: tuple[str, str, str]
    answers: tuple[str, str, str]
    planted: str
    label: str | None


def attack_figure(images: Sequence[AttackedImage], *, title: str) -> bytes:
    """Draw each image in a row of three; an answer that became the planted class is framed.

    Parameters
    ----------
    images
        The rows.
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
    # Two images side by side, so that the sheet is as wide as it is high.
    across = 2 if len(images) > 1 else 1
    down = -(-len(images) // across)
    width = (_TILE_INCHES * 3 + 0.3) * across
    figure = new_figure(width, (_TILE_INCHES + 0.5) * down + 0.9)
    axes = figure.subplots(down, 3 * across, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for number, image in enumerate(images):
        row, start = number // across, 3 * (number % across)
        for place in range(3):
            panel = axes[row, start + place]
            panel.set_axis_on()
            panel.set_xticks([])
            panel.set_yticks([])
            panel.imshow(decode(image.pictures[place]))
            flipped = place > 0 and image.answers[place] == image.planted
            for spine in panel.spines.values():
                spine.set(color=_FLIPPED if flipped else GREY, linewidth=3 if flipped else 0.8)
            over = f"“{shorten(image.words[place], 18)}”" if place else f"as it is ({shorten(image.label or '?', 14)})"
            panel.set_title(over, fontsize=8.5, color=INK, pad=3, parse_math=False)
            answer = f"→ {shorten(image.answers[place], 22)}"
            panel.set_xlabel(
                answer, fontsize=9.5, color=_FLIPPED if flipped else INK, labelpad=3, parse_math=False,
                fontweight="bold" if flipped else "normal",
            )  # fmt: skip
    figure.suptitle(shorten(title, int(width * 9)), fontsize=12, color=INK, parse_math=False)
    _legend(figure)
    return to_png(figure)


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor="white", edgecolor=_FLIPPED, linewidth=2.4)]
    legend = figure.legend(
        handles,
        ["the answer became the class that is written"],
        loc="outside lower center",
        fontsize=8.5,
        frameon=False,
    )
    plain_legend(legend)
