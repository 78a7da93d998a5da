"""What every analysis of a cell begins with: vectors, labels, groups and background attributes, row by row."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.metadata import background_attributes, group_values
from assets.backgrounds import image_groups, known_background
from assets.registry import get_dataset
from assets.step import Cell, log
from assets.training_sets import trained_on
from pipelines.encoders import why_no_texts
from store.images import read_metadata
from store.runs import data_version
from store.schema import (
    DUPLICATES,
    EMBEDDINGS_PREFIX,
    IMAGE_ATTRIBUTES,
    TEXT_EMBEDDINGS_PREFIX,
    CounterstainError,
)
from store.texts import TextMatrix

# Tables of what was detected that groups and strata are made of.
DETECTED_TABLES = (IMAGE_ATTRIBUTES.name, DUPLICATES.name)


@dataclass(frozen=True)
class Features:
    """One cell's vectors ``(n, d)`` and what is known of their images, aligned."""

    vectors: NDArray[np.float32]
    images: pl.DataFrame
    labels: list[str | None]
    groups: NDArray[np.int64]
    backgrounds: dict[str, list[str | None]]
    group_columns: dict[str, list[str | None]]


def read_features(cell: Cell, *, unlabelled: bool = False) -> Features:
    """Read a cell from the store; raises `CounterstainError` where it lacks vectors or, unless `unlabelled`, labels."""
    matrix = cell.warehouse.vectors(cell.encoder, cell.dataset)
    hashes = read_metadata(cell.warehouse, cell.dataset).select("image_id", "content_hash")
    images = matrix.images.join(hashes, on="image_id", how="left", maintain_order="left")
    labels = images["label"].to_list()
    if not unlabelled and not any(label is not None for label in labels):
        raise CounterstainError(
            f"data set {cell.dataset!r} has no labels: name the column with "
            "`counterstain datasets add … --label COLUMN`, or give them with `counterstain correct`."
        )
    if seen := trained_on(cell) & set(images["image_id"]):
        log.warning(
            "  %s was fine-tuned on %d of these %d images: what it shows of them is partly what it was told; "
            "finetuning_shift compares on held-out images", cell.encoder, len(seen), images.height,
        )  # fmt: skip
    group_columns = get_dataset(cell.warehouse, cell.dataset).groups
    with user_errors(cell):
        groups = image_groups(cell.warehouse, cell.dataset, images)
        images, found = known_background(cell, images)
        return Features(
            matrix.vectors,
            images,
            labels,
            groups,
            background_attributes(images, group_columns, found),
            group_values(images, group_columns),
        )


@contextmanager
def user_errors(cell: Cell) -> Iterator[None]:
    """Say of which cell it is where an analysis refuses what it is given."""
    try:
        yield
    except ValueError as error:
        raise CounterstainError(f"{cell}: {error}") from error


def group_parameters(cell: Cell) -> dict[str, object]:
    """Return the registered group columns: they decide splits, exclusions and intervals."""
    return {"groups": list(get_dataset(cell.warehouse, cell.dataset).groups)}


def embeddings_version(cell: Cell) -> dict[str, str]:
    """Return the versions of a cell's vectors and metadata, and of what groups and strata are made of, as inputs."""
    table = EMBEDDINGS_PREFIX + cell.encoder
    inputs = {"embeddings": data_version(cell.warehouse, table, dataset=cell.dataset)}
    return inputs | detected_versions(cell)


def detected_versions(cell: Cell) -> dict[str, str]:
    """Return the versions of what groups and strata are made of, as inputs."""
    return {name: data_version(cell.warehouse, name, dataset=cell.dataset) for name in DETECTED_TABLES}


def texts_version(cell: Cell) -> dict[str, str]:
    """Return the version of a data set's texts and of a cell's vectors of them, as inputs of an analysis."""
    return {
        "texts": data_version(cell.warehouse, "texts", dataset=cell.dataset),
        "text_embeddings": data_version(cell.warehouse, TEXT_EMBEDDINGS_PREFIX + cell.encoder, dataset=cell.dataset),
    }


def why_undefined(cell: Cell, texts: TextMatrix | None) -> str | None:
    """Return why a cell's images cannot be compared with texts; None where they can."""
    return why_no_texts(cell.encoder) or (
        "there are no vectors of texts: see text_embeddings" if texts is None else None
    )
