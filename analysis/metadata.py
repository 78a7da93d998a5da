"""Reading background attributes and groups off what is known of images."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.statistics import connected_groups
from store.schema import BACKGROUND_COLUMNS, GROUP_COLUMNS, LABEL_PREFIX, TEXT_PREFIX

# An attribute with more values than this is read as a measurement or an identifier, not as a background.
MAX_VALUES = 20
# A value seen on fewer images than this is too rare to be stratified by, and counts as unknown.
MIN_IMAGES_PER_VALUE = 10


def attribute_columns(images: pl.DataFrame) -> dict[str, list[str | None]]:
    """Return the free attributes of images by name, each ``(n,)``, unpacked from the JSON column ``attributes``."""
    rows = [json.loads(cell) if cell else {} for cell in images["attributes"]]
    names = sorted({name for row in rows for name in row})
    return {name: [row.get(name) for row in rows] for name in names}


def background_attributes(
    images: pl.DataFrame, group_columns: Sequence[str] = (), further: Mapping[str, list[str | None]] | None = None
) -> dict[str, list[str | None]]:
    """Return the attributes that analyses stratify by: those with two to `MAX_VALUES` values that are not too rare.

    Further labels (`store.schema.LABEL_PREFIX`) and texts (`TEXT_PREFIX`) are none: of course they go with the label.

    Parameters
    ----------
    images
        ``n`` rows with the metadata columns of the store.
    group_columns
        Columns that groups are made of; they are no backgrounds, as neighbours within a group are left out anyway.
    further
        What else is known of the images, ``(n,)`` values by name; what the data set says under that name goes first.

    Returns
    -------
    dict
        Attribute name → ``(n,)`` values; None is unknown, or a value on fewer than `MIN_IMAGES_PER_VALUE` images. Flags
        read ``true`` and ``false``.
    """
    columns = {name: images[name].cast(pl.String).to_list() for name in BACKGROUND_COLUMNS}
    columns |= {"overlay_text": images["overlay_text"].to_list()} | dict(further or {}) | attribute_columns(images)
    left_out = {*group_columns, *GROUP_COLUMNS}
    return {
        name: kept
        for name, values in columns.items()
        if name not in left_out
        and not name.startswith((LABEL_PREFIX, TEXT_PREFIX))
        and (kept := _without_rare(values)) is not None
    }


def group_codes(
    images: pl.DataFrame,
    content_hash: Sequence[str],
    group_columns: Sequence[str],
    duplicates: Sequence[str | None] | None = None,
) -> NDArray[np.int64]:
    """Return group codes ``(n,)``: a group is the images of a patient, slide or registered group, and look-alikes.

    Parameters
    ----------
    images
        ``n`` rows with the metadata columns of the store.
    content_hash
        ``(n,)``; copies of one content must not straddle a split either.
    group_columns
        Further columns or attributes, besides patient and slide, whose values tie images together.
    duplicates
        ``(n,)`` names of the groups of near-duplicates; None for an image without any.

    Raises
    ------
    ValueError
        If a group column is neither a column nor an attribute of the images.
    """
    columns: list[Sequence[str | None]] = [list(content_hash), *_group_columns(images, group_columns).values()]
    if duplicates is not None:
        columns.append(duplicates)
    codes: NDArray[np.int64] = connected_groups(columns)
    return codes


def group_values(images: pl.DataFrame, group_columns: Sequence[str]) -> dict[str, list[str | None]]:
    """Return the columns that groups are made of, patient and slide first, as far as two images share a value of them.

    Raises
    ------
    ValueError
        As `group_codes`.
    """
    columns = _group_columns(images, group_columns)
    return {
        name: values
        for name, values in columns.items()
        if pl.Series(values, dtype=pl.String).drop_nulls().is_duplicated().any()
    }


def _group_columns(images: pl.DataFrame, group_columns: Sequence[str]) -> dict[str, list[str | None]]:
    attributes = attribute_columns(images)
    columns: dict[str, list[str | None]] = {}
    for name in dict.fromkeys([*GROUP_COLUMNS, *group_columns]):
        if name in images.columns:
            columns[name] = images[name].cast(pl.String).to_list()
        elif name in attributes:
            columns[name] = attributes[name]
        else:
            raise ValueError(f"group column {name!r} is neither a column nor an attribute of the images")
    return columns


def _without_rare(values: Sequence[str | None]) -> list[str | None] | None:
    """Return the values with rare ones made unknown, or None where fewer than two or too many remain."""
    counts = pl.Series(values, dtype=pl.String).drop_nulls().value_counts()
    kept = set(counts.filter(pl.col("count") >= MIN_IMAGES_PER_VALUE)[counts.columns[0]])
    if not 2 <= len(kept) <= MAX_VALUES:
        return None
    return [value if value in kept else None for value in values]
