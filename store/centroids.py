"""The mean direction of some images: what a selection looks like to an encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.schema import CounterstainError
from store.search import conditions_of, vectors_table

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from store.warehouse import Warehouse


@dataclass(frozen=True)
class Centroid:
    """The mean direction of some images under one encoder.

    Attributes
    ----------
    vector
        Mean of their vectors ``(d,)``, each scaled to length one.
    images
        ``dataset, image_id`` of the images it is made of.
    """

    vector: "NDArray[np.float32]"
    images: "pl.DataFrame"

    @property
    def concentration(self) -> float:
        """Length of the mean of unit vectors, in [0, 1]: 1 where all images are one, near 0 where they point apart."""
        return float(np.linalg.norm(self.vector))


def centroid(
    warehouse: "Warehouse", encoder: str, where: str, *, dataset: str | Sequence[str] | None = None
) -> Centroid:
    """Return the mean direction of the images that a filter selects: what they look like to an encoder, as a query.

    Parameters
    ----------
    warehouse
        The warehouse.
    encoder
        Encoder whose vectors are averaged.
    where
        SQL filter over the metadata columns, such as ``"label = 'benign' AND NOT text_overlay"``.
    dataset
        Of this data set only, or these.

    Raises
    ------
    CounterstainError
        If the encoder has no vectors (of a data set), the filter is wrong or selects nothing, or the vectors cancel
        out.
    """
    import polars as pl

    table = vectors_table(warehouse, encoder)
    condition = " AND ".join(conditions_of(table, encoder, dataset, where))
    dimension = table.schema.field("vector").type.list_size
    total = np.zeros(dimension)
    images = []
    for batch in table.to_lance().to_batches(columns=["dataset", "image_id", "vector"], filter=condition):
        vectors = batch["vector"].flatten().to_numpy().reshape(-1, dimension).astype(np.float64)
        total += (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).sum(axis=0)
        images.append(pl.DataFrame(batch.select(["dataset", "image_id"])))
    members = pl.concat(images) if images else pl.DataFrame()
    if members.is_empty():
        raise CounterstainError(f"no image of {encoder} fits {where!r}: there is nothing to take the centroid of.")
    mean = (total / members.height).astype(np.float32)
    if not mean.any():
        raise CounterstainError(f"the vectors of {encoder} that fit {where!r} cancel out: they have no centroid.")
    return Centroid(mean, members.sort("dataset", "image_id"))
