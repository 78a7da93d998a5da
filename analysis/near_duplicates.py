"""Near duplicates: pairs of images far nearer to one another than images of the data set are to their nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors

# Of the median distance to the nearest neighbour; cleanlab's default.
SHARE_OF_MEDIAN = 0.13


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs nearer than a threshold.

    Attributes
    ----------
    left, right
        ``(pairs,)`` rows, ``left < right``, each pair once, nearest first.
    distances
        ``(pairs,)`` cosine distance.
    threshold
        Distance below which a pair counts.
    """

    left: IntArray
    right: IntArray
    distances: npt.NDArray[np.float32]
    threshold: float


def near_duplicates(neighbors: Neighbors, *, share_of_median: float = SHARE_OF_MEDIAN) -> NearDuplicates | None:
    """Find pairs of listed neighbours nearer than a share of the median nearest-neighbour distance.

    The threshold follows the encoder's own scale. A pair far down in lists full of nearer copies is not looked for.

    Parameters
    ----------
    neighbors
        ``(n, K)``; self and own group left out, so that pairs are of different groups.
    share_of_median
        The threshold as a share of the median.

    Returns
    -------
    NearDuplicates or None
        None where no image has a neighbour.

    References
    ----------
    cleanlab 2.7, near-duplicate issues: the same threshold.
    """
    nearest = neighbors.distances[:, 0] if neighbors.k else np.empty(0, dtype=np.float32)
    nearest = nearest[np.isfinite(nearest)]
    if not len(nearest):
        return None
    threshold = float(np.median(nearest)) * share_of_median
    # Copies are near duplicates even where half of all images are copies.
    query, place = np.nonzero((neighbors.distances < threshold) | (neighbors.distances == 0))
    found, distances = neighbors.indices[query, place], neighbors.distances[query, place]
    left, right = np.minimum(query, found), np.maximum(query, found)
    order = np.lexsort((right, left, distances))
    pairs = np.stack([left[order], right[order]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    kept = order[np.sort(first)]
    return NearDuplicates(left[kept], right[kept], distances[kept], threshold)
