"""The neighbours of a cell: exact, or by the store's index where a set is too large for that."""

import numpy as np
from numpy.typing import NDArray

from analysis.neighbors import Neighbors, cosine_neighbors
from analysis.probed_neighbors import APPROXIMATE_FROM, LEAST_RECALL, Probed, probed_neighbors
from assets.features import Features
from assets.step import Cell
from store.maintenance import build_indexes, list_centres
from store.schema import EMBEDDINGS_PREFIX, CounterstainError


def find_neighbors(
    cell: Cell,
    features: Features,
    k: int,
    *,
    approximate_from: int = APPROXIMATE_FROM,
    least_recall: float = LEAST_RECALL,
) -> tuple[Neighbors, NDArray[np.float32] | None, Probed | None]:
    """Return the lists, own group left out; and the index's centres and how good the search was, where not exact.

    From `approximate_from` images on, the search goes by the lists of the store's vector index, which is made where
    there is none yet, and takes as many of them as the recall asks for.

    Raises
    ------
    CounterstainError
        If the warehouse is read as it was, and had no index.
    """
    if len(features.vectors) < approximate_from:
        return cosine_neighbors(features.vectors, k, groups=features.groups), None, None
    centres = list_centres(cell.warehouse, cell.encoder)
    if centres is None:
        build_indexes(cell.warehouse, EMBEDDINGS_PREFIX + cell.encoder, vector_rows=approximate_from)
        centres = list_centres(cell.warehouse, cell.encoder)
    if centres is None:
        raise CounterstainError(f"{cell}: the vectors have no index: run `counterstain maintain`.")
    probed = probed_neighbors(
        features.vectors, centres, k, groups=features.groups, seed=cell.project.seed, least_recall=least_recall
    )
    return probed.neighbors, centres, probed
