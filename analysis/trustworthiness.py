"""Trustworthiness of two-dimensional layouts, with the costly part shared by all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.neighbors import unit_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

NEIGHBORS = 15
# Above this many images a sample of them is ranked; every one of all images can still be their neighbour.
ALL_RANKED = 5_000
SAMPLE = 2_000
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class NeighborRanks:
    """How near every image is to some of them in feature space.

    Attributes
    ----------
    queries
        ``(q,)`` rows ranked for.
    ranks
        ``(q, n)`` rank of every row by cosine distance from the query; 1 is the nearest, the query itself
        has 0.
    k
        Neighbours read: 15, or fewer than half of the images where they are few.
    """

    queries: IntArray
    ranks: npt.NDArray[np.int32]
    k: int

    def trustworthiness(self, coordinates: FloatArray) -> float:
        """Share of layout neighbours that are neighbours in feature space, intruders weighted by rank.

        ``1 - 2 / (q k (2n - 3k - 1)) Σ max(0, rank(i, j) - k)`` over the `k` nearest j of each query i in
        the layout. With every row a query this is `sklearn.manifold.trustworthiness`; with a sample it
        estimates the same number.

        Parameters
        ----------
        coordinates
            ``(n, 2)`` layout.

        Returns
        -------
        float
            In [0, 1].

        References
        ----------
        Venna & Kaski, ICANN 2001.
        """
        from sklearn.neighbors import NearestNeighbors

        q, n = self.ranks.shape
        near = NearestNeighbors(n_neighbors=self.k + 1).fit(coordinates)
        listed = near.kneighbors(coordinates[self.queries], return_distance=False)
        own = listed == self.queries[:, None]
        # Where other images lie on the very same spot the query may be missing from its own list.
        own[~own.any(axis=1), -1] = True
        neighbors = listed[~own].reshape(q, self.k)
        excess = np.maximum(np.take_along_axis(self.ranks, neighbors, axis=1) - self.k, 0)
        return float(1 - 2 * excess.sum() / (q * self.k * (2 * n - 3 * self.k - 1)))


def rank_neighbors(vectors: FloatArray, *, seed: int) -> NeighborRanks:
    """Rank all images by cosine distance from each image, or from a sample of 2,000 above 5,000.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite, non-zero rows; ``n >= 4``.
    seed
        Seed of the sample.

    Returns
    -------
    NeighborRanks
        Ranks, with equal distances ranked by row.

    Raises
    ------
    ValueError
        As `unit_vectors`.
    """
    unit = unit_vectors(vectors)
    n = len(unit)
    queries = np.arange(n)
    if n > ALL_RANKED:
        queries = np.sort(np.random.default_rng(seed).choice(n, SAMPLE, replace=False))
    ranks = np.empty((len(queries), n), dtype=np.int32)
    for start in range(0, len(queries), _BLOCK_ROWS):
        rows = queries[start : start + _BLOCK_ROWS]
        distances = 1 - unit[rows] @ unit.T
        distances[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(distances, axis=1, kind="stable")
        block = ranks[start : start + len(rows)]
        np.put_along_axis(block, order, np.arange(n, dtype=np.int32)[None], axis=1)
    return NeighborRanks(queries, ranks, max(1, min(NEIGHBORS, (n - 1) // 2)))
