"""Which images of a data set costly work is done on: as many as the project says, the same for every encoder."""

import hashlib

import polars as pl

from assets.features import Features
from assets.step import Cell
from store.images import read_metadata


def sampled(cell: Cell, features: Features, at_most: int) -> pl.DataFrame:
    """Return rows of ``images`` that have a vector, at most so many, 0 for all.

    They are chosen by their ids: images that are added move few others.
    """
    rows = read_metadata(cell.warehouse, cell.dataset)
    images = rows.join(features.images, on="image_id", how="semi", maintain_order="left")
    if not at_most or images.height <= at_most:
        return images
    seed = cell.project.seed
    places = [hashlib.sha256(f"{seed} {image_id}".encode()).digest() for image_id in images["image_id"]]
    chosen = sorted(range(images.height), key=places.__getitem__)[:at_most]
    return images[sorted(chosen)]
