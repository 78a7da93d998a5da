"""Search by a new image, and encoders from elsewhere: where the store needs what only pipelines knows."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from analysis.explaining import what_neighbors_share
from assets.features import Features, read_features
from assets.partitions import known_encoders
from assets.project import Project, finetuned_dir
from assets.step import Cell
from pipelines.decoding import content_hash, open_image, to_rgb
from pipelines.encoders import available_specs, load_encoder
from pipelines.sources import UnreadableImageError, read_file
from store import Warehouse
from store.embeddings import import_embeddings
from store.schema import CounterstainError


def search_image(
    project: Project, encoder: str, image: str, *, dataset: str | None = None, where: str | None = None, k: int = 10
) -> pl.DataFrame:
    """Return the stored images nearest to an image file, which is encoded first, or to a stored image by its id.

    Raises
    ------
    CounterstainError
        If the file cannot be read, or as `store.search.search` says.
    """
    warehouse = project.open()
    path = Path(image)
    if not path.is_file():
        return warehouse.search(encoder, image, dataset=dataset, where=where, k=k)
    vector = encode_image(project, encoder, path)
    return warehouse.search(encoder, vector, dataset=dataset, where=where, k=k)


def encode_image(project: Project, encoder: str, path: Path) -> NDArray[np.float32]:
    """Return the vector ``(d,)`` of an image file.

    Raises
    ------
    CounterstainError
        If the file cannot be read, or the encoder is unknown or imported.
    """
    warehouse = project.open()
    if encoder not in known_encoders(warehouse):
        raise CounterstainError(f"no encoder {encoder!r}; encoders: {', '.join(known_encoders(warehouse))}.")
    if encoder not in project.encoder_specs():
        raise CounterstainError(
            f"{encoder!r} was imported, so new images cannot be encoded: give the id of a stored one."
        )
    try:
        rgb = to_rgb(open_image(read_file(path)))
    except UnreadableImageError as error:
        raise CounterstainError(f"{path}: {error}") from error
    loaded = load_encoder(encoder, project.load_options())
    vector: NDArray[np.float32] = loaded.encode(torch.stack([loaded.preprocess(rgb)]))[0]
    return vector


def explain_image(
    project: Project, encoder: str, image: str, *, dataset: str, k: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what the neighbours of an image have in common, and the neighbours; the image need not be in the store.

    Neighbours of a stored image, given by its id or as a file of the same bytes, are of other groups.

    Raises
    ------
    CounterstainError
        As `search_image`, or if the data set has no labels.
    """
    warehouse = project.open()
    features = read_features(Cell(project, warehouse, dataset, encoder))
    row_of = {image_id: row for row, image_id in enumerate(features.images["image_id"])}
    stored = _stored_id(image, features)
    if stored is None:
        found = search_image(project, encoder, image, dataset=dataset, k=k)
    else:
        own = features.groups[row_of[stored]]
        mates = int((features.groups == own).sum())
        found = warehouse.search(encoder, stored, dataset=dataset, k=k + mates)
        others = [features.groups[row_of[each]] != own for each in found["image_id"]]
        found = found.filter(pl.Series(others, dtype=pl.Boolean)).head(k)
    rows = [row_of[image_id] for image_id in found["image_id"]]
    return what_neighbors_share(rows, features.labels, features.backgrounds), found


def _stored_id(image: str, features: Features) -> str | None:
    """Return the id of the stored image that this names or is a copy of; None where there is none."""
    path = Path(image)
    if not path.is_file():
        return image if image in features.images["image_id"] else None
    try:
        digest = content_hash(read_file(path))
    except UnreadableImageError as error:
        raise CounterstainError(f"{path}: {error}") from error
    copies = features.images.filter(content_hash=digest)
    return copies["image_id"][0] if copies.height else None


def import_as_encoder(warehouse: Warehouse, encoder: str, dataset: str, vectors: Path, manifest: pl.DataFrame) -> int:
    """Import vectors under a name that no registered encoder has; see `store.embeddings.import_embeddings`."""
    if encoder in available_specs(finetuned_dir(warehouse)):
        raise CounterstainError(f"{encoder!r} is a registered encoder: choose another name for imported vectors.")
    return import_embeddings(warehouse, encoder, dataset, vectors, manifest)
