"""Strata and groups out of what was detected: terms of the burned-in words, artefacts, groups of near-duplicates."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.metadata import group_codes
from assets.project import Project
from assets.registry import get_dataset
from assets.step import Cell
from pipelines.overlays.identifying import may_identify
from pipelines.overlays.terms import DEFAULT_TABLE, Terms, read_terms
from store.warehouse import Warehouse

# Kinds of terms that images are stratified by: what the words say of the place.
TERM_KINDS = ("side", "site")
MIN_FRAME_SHARE = 0.02
MIN_DARK_CORNERS = 2

Column = list[str | None]


def terms_of(project: Project) -> Terms:
    """Return the terms of the field that the project uses."""
    return read_terms(Path(project.terms).expanduser() if project.terms else DEFAULT_TABLE)


def without_names(images: pl.DataFrame, terms: Terms) -> pl.DataFrame:
    """Return the images without words that may identify someone, nor words on those that are said to have none."""
    texts = [
        text if text and flag is not False and not may_identify(text, terms) else None
        for text, flag in images.select("overlay_text", "text_overlay").iter_rows()
    ]
    return images.with_columns(pl.Series("overlay_text", texts, dtype=pl.String))


def known_background(cell: Cell, images: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Column]]:
    """Return the images without words that may identify someone, and what their words and pixels say, by name.

    Words are read where an image is said to have some, whoever said it, so that a corrected flag or text counts.
    """
    terms = terms_of(cell.project)
    safe = without_names(images, terms)
    return safe, _by_term(safe["overlay_text"].to_list(), terms) | _artefacts(cell, images)


def image_groups(warehouse: Warehouse, dataset: str, images: pl.DataFrame) -> NDArray[np.int64]:
    """Return the group code of each image, ``(n,)``: of a patient, a slide, a registered group, or look-alikes.

    Raises
    ------
    ValueError
        If a group column that the data set is registered with is no column nor attribute of the images.
    """
    duplicates = _duplicate_groups(warehouse, dataset, images)
    columns = get_dataset(warehouse, dataset).groups
    return group_codes(images, images["content_hash"].to_list(), columns, duplicates)


def _duplicate_groups(warehouse: Warehouse, dataset: str, images: pl.DataFrame) -> Column:
    """Return the name of each image's group of duplicates, ``(n,)``; None for one without any."""
    pairs = warehouse.frame("duplicates").filter(pl.col("dataset") == dataset).collect()
    both = pl.concat([pairs["image_id"], pairs["other_id"]])
    groups = dict(zip(both, pl.concat([pairs["duplicate_group"]] * 2), strict=True))
    return [groups.get(image_id) for image_id in images["image_id"]]


def _by_term(texts: Column, terms: Terms) -> dict[str, Column]:
    """Return for each kind of term what the words of each image say of it."""
    columns: dict[str, Column] = {}
    for kind in TERM_KINDS:
        said = ([t.name for t in terms.of_line(text) if t.kind == kind] if text else [] for text in texts)
        columns[f"overlay_{kind}"] = [" ".join(dict.fromkeys(names)) or None for names in said]
    return columns


def _artefacts(cell: Cell, images: pl.DataFrame) -> dict[str, Column]:
    found = cell.warehouse.frame("image_attributes").filter(pl.col("dataset") == cell.dataset).collect()
    aligned = images.select("image_id").join(found, on="image_id", how="left", maintain_order="left")
    columns = aligned.select(
        (pl.col("dark_corners") >= MIN_DARK_CORNERS).alias("dark_corners"),
        (pl.col("frame_share") >= MIN_FRAME_SHARE).alias("frame"),
        "ruler",
        "coloured",
        pl.col("aspect").round(1),
        (pl.col("jpeg_quality") // 5 * 5).alias("jpeg_quality"),
    ).cast(pl.String)
    return {name: columns[name].to_list() for name in columns.columns}
