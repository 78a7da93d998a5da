"""Colours, marks and text shared by all figures."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# Okabe & Ito's palette, told apart with any colour vision; its black and yellow are left out, the one for
# text, the other as it vanishes on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
GREY = "#9A9A9A"
INK = "#222222"
DPI = 110
# Of what is drawn as pixels inside a vector figure.
RASTER_DPI = 300


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure that belongs to no window manager and lays itself out."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), dpi=DPI, layout="constrained")


def to_png(figure: Figure) -> bytes:
    """Draw a figure."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes: no reason to lose the figure.
        warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def to_vector(figure: Figure, form: Literal["svg", "pdf"]) -> bytes:
    """Draw a figure as vectors, without the date, so that the same figure is the same bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "counterstain"}):
        warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
        figure.savefig(buffer, format=form, metadata=undated, dpi=RASTER_DPI)
    return buffer.getvalue()


def shorten(text: object, limit: int = 32) -> str:
    """One line of at most `limit` characters from any text."""
    line = " ".join(str(text).split())
    # Control characters have no glyph.
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def plain_legend(legend: Legend) -> None:
    """Keep dollar signs in a legend's labels from being read as formulas."""
    for text in [*legend.get_texts(), legend.get_title()]:
        text.set_parse_math(False)


def require_columns(frame: pl.DataFrame, *names: str) -> None:
    """Raise ValueError unless the frame has rows and these columns."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ValueError(f"the frame lacks the columns {missing}; it has {frame.columns}")
    if frame.is_empty():
        raise ValueError("the frame has no rows to draw")
