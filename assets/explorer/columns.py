"""What is known of images as columns that a viewer can colour by and draw a chart of."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from analysis.metadata import MAX_VALUES, attribute_columns
from store.schema import BACKGROUND_COLUMNS, GROUP_COLUMNS

# The viewer keeps to itself whatever is named so.
HIDDEN = "__"
# A column with more values has no chart, nor has one of these: they are told in the table, and searched.
CHARTED_VALUES = 200
_UNCHARTED = ("caption", "image_id", "uri")

_FIRST = ("label", "overlay_text", *BACKGROUND_COLUMNS, "annotation_kinds", *GROUP_COLUMNS, "split", "modality")
_LAST = ("caption", "width_px", "height_px", "format", "image_id", "uri")


@dataclass(frozen=True)
class Column:
    """A column as the page needs it: a chart of categories, of numbers, or none."""

    name: str
    chart: Literal["categories", "numbers"] | None


def shown_columns(images: pl.DataFrame, further: Mapping[str, Sequence[str | None]]) -> pl.DataFrame:
    """Return rows of ``images`` as text and numbers; what is the same for every image, or unknown, is left out.

    The viewer colours by text and numbers only: flags read ``true`` and ``false``, lists are joined by ``; ``, and a
    free attribute with more values than a background has (`analysis.metadata.MAX_VALUES`) is a number if it reads so.

    Parameters
    ----------
    images
        ``n`` rows of ``images``.
    further
        What else is known of them, ``(n,)`` values by name; what the data set says under that name goes first.
    """
    texts = {name: images[name] for name in (*_FIRST, *_LAST) if name in images.columns}
    columns = {name: _plain(values) for name, values in texts.items()}
    for name, values in {**further, **attribute_columns(images)}.items():
        columns[name if name not in columns else f"attribute {name}"] = _number(pl.Series(values, dtype=pl.String))
    order = [name for name in columns if name not in _LAST] + [name for name in _LAST if name in columns]
    kept = [name for name in order if columns[name].n_unique() > 1 or name in ("image_id", "uri")]
    names = safe_names(kept)
    return pl.DataFrame({safe: columns[name] for safe, name in zip(names, kept, strict=True)})


def charts(columns: pl.DataFrame) -> list[Column]:
    """Say of every column what is drawn of it."""
    described = []
    for values in columns:
        if values.dtype.is_numeric() and values.n_unique() > MAX_VALUES:
            described.append(Column(values.name, "numbers"))
        elif (
            values.name not in _UNCHARTED
            and 2 <= values.drop_nulls().n_unique() + (values.null_count() > 0) <= CHARTED_VALUES
        ):
            described.append(Column(values.name, "categories"))
        else:
            described.append(Column(values.name, None))
    return described


def safe_names(names: Sequence[str]) -> list[str]:
    """Return names that the viewer's own SQL and DuckDB, which knows no upper case, tell apart and read whole."""
    taken: set[str] = set()
    safe = []
    for name in names:
        plain = re.sub(r"[^\w .:()%/+-]", "_", name).lstrip("_ ")[:60] or "column"
        unique, number = plain, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{plain} {number}"
        taken.add(unique.casefold())
        safe.append(unique)
    return safe


def _plain(values: pl.Series) -> pl.Series:
    if values.dtype == pl.List(pl.String):
        return values.list.join("; ").replace("", None)
    return values if values.dtype.is_numeric() else values.cast(pl.String)


def _number(values: pl.Series) -> pl.Series:
    numbers = values.cast(pl.Float64, strict=False)
    if values.n_unique() > MAX_VALUES and numbers.is_finite().sum() == values.len() - values.null_count():
        return numbers
    return values
