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
# Of each image: the address of its picture; whether an encoder's label probe is right; whether a named view has it.
THUMBNAIL_COLUMN = "thumbnail"
PROBE_COLUMN = "{} probe"
VIEW_COLUMN = "view {}"
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


def shown_columns(
    images: pl.DataFrame, further: Mapping[str, Sequence[str | None]], taken: Sequence[str]
) -> pl.DataFrame:
    """Return rows of ``images`` as text and numbers; what is the same for every image, or unknown, is left out.

    The viewer colours by text and numbers only: flags read ``true`` and ``false``, lists are joined by ``; ``, and a
    free attribute with more values than a background has (`analysis.metadata.MAX_VALUES`) is a number if it reads so.

    Parameters
    ----------
    images
        ``n`` rows of ``images``.
    further
        What else is known of them, ``(n,)`` values by name; what the data set says under that name goes first.
    taken
        Names of columns that the explorer adds; an attribute so named gets another name, as `safe_names` says.
    """
    texts = {name: images[name] for name in (*_FIRST, *_LAST) if name in images.columns}
    columns = [(name, _plain(values)) for name, values in texts.items()]
    columns += [
        (f"attribute {name}" if name in texts else name, _number(pl.Series(values, dtype=pl.String)))
        for name, values in {**further, **attribute_columns(images)}.items()
    ]
    columns.sort(key=lambda column: _LAST.index(column[0]) + 1 if column[0] in _LAST else 0)
    kept = [(name, values) for name, values in columns if values.n_unique() > 1 or name in ("image_id", "uri")]
    names = safe_names([name for name, _ in kept], taken)
    return pl.DataFrame({name: values for name, (_, values) in zip(names, kept, strict=True)})


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


def safe_names(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return names that the viewer's own SQL and DuckDB, which knows no upper case, tell apart and read whole.

    They differ from those `taken`, and from those of named views (`VIEW_COLUMN`), which may come at any time.
    """
    known = {name.casefold() for name in taken}
    safe = []
    for name in names:
        plain = re.sub(r"[^\w .:()%/+-]", "_", name).lstrip("_ ")[:60] or "column"
        if plain.casefold().startswith(VIEW_COLUMN.format("")):
            plain = f"attribute {plain}"
        unique, number = plain, 1
        while unique.casefold() in known:
            number += 1
            unique = f"{plain} {number}"
        known.add(unique.casefold())
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
