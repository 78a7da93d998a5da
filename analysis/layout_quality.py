"""How far a two-dimensional layout can be trusted, with the costly part shared by all layouts of the same vectors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
class LayoutQuality:
    """What a layout keeps of the feature space, for neighbourhoods of `k` images.

    Attributes
    ----------
    trustworthiness
        In [0, 1]: near in the layout is near in feature space, intruders weighted by rank.
    continuity
        In [0, 1]: near in feature space is near in the layout, the missing weighted by rank.
    knn_preservation
        In [0, 1]: share of the `k` nearest in feature space that are among the `k` nearest in the layout.
    density_preservation
        In [-1, 1]: correlation of the logarithms of an image's mean distance to its `k` nearest, in feature
        space and in the layout; None where either does not vary.
    k
        Neighbours read.
    n
        Images whose neighbourhoods were read.
    """

    trustworthiness: float
    continuity: float
    knn_preservation: float
    density_preservation: float | None
    k: int
    n: int


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
    nearest
        ``(q, k)`` the rows with ranks 1 to k, in that order.
    radii
        ``(q,)`` mean cosine distance of those.
    """

    queries: IntArray
    ranks: npt.NDArray[np.int32]
    nearest: IntArray
    radii: npt.NDArray[np.float64]

    @property
    def k(self) -> int:
        """Neighbours read: 15, or fewer than half of the images where they are few."""
        return int(self.nearest.shape[1])

    def judge(self, coordinates: FloatArray) -> LayoutQuality:
        """Compare neighbourhoods in a layout with those in feature space.

        Trustworthiness is ``1 - 2 / (q k (2n - 3k - 1)) Σ max(0, rank(i, j) - k)`` over the `k` nearest j of each
        query i in the layout, with ranks in feature space; continuity is the same with the two spaces exchanged, images
        at one distance sharing the mean of their ranks. With every row a query trustworthiness is
        `sklearn.manifold.trustworthiness`; with a sample it estimates it.

        Parameters
        ----------
        coordinates
            ``(n, 2)`` layout.

        Returns
        -------
        LayoutQuality
            The four measures.

        References
        ----------
        Venna & Kaski, ICANN 2001, for the first two; Narayan, Berger & Cho, Nature Biotechnology 39 (2021), for the
        correlation of local radii.
        """
        from sklearn.neighbors import NearestNeighbors

        coordinates = np.ascontiguousarray(coordinates, dtype=np.float64)
        q, n = self.ranks.shape
        near = NearestNeighbors(n_neighbors=self.k + 1).fit(coordinates)
        distances, listed = near.kneighbors(coordinates[self.queries])
        own = listed == self.queries[:, None]
        # Where other images lie on the very same spot the query may be missing from its own list.
        own[~own.any(axis=1), -1] = True
        neighbors = listed[~own].reshape(q, self.k)
        radii = distances[~own].reshape(q, self.k).mean(axis=1)
        ranks = np.take_along_axis(self.ranks, neighbors, axis=1)
        ranks_in_layout = _ranks_in_layout()(coordinates, self.queries, self.nearest)
        scale = 2 / (q * self.k * (2 * n - 3 * self.k - 1))
        return LayoutQuality(
            trustworthiness=float(1 - scale * np.maximum(ranks - self.k, 0).sum()),
            continuity=float(1 - scale * np.maximum(ranks_in_layout - self.k, 0).sum()),
            knn_preservation=float((ranks <= self.k).mean()),
            density_preservation=_log_correlation(self.radii, radii),
            k=self.k,
            n=q,
        )


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
    k = max(1, min(NEIGHBORS, (n - 1) // 2))
    ranks = np.empty((len(queries), n), dtype=np.int32)
    nearest = np.empty((len(queries), k), dtype=np.int64)
    radii = np.empty(len(queries))
    for start in range(0, len(queries), _BLOCK_ROWS):
        rows = queries[start : start + _BLOCK_ROWS]
        part = slice(start, start + len(rows))
        distances = 1 - unit[rows] @ unit.T
        distances[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(distances, axis=1, kind="stable")
        np.put_along_axis(ranks[part], order, np.arange(n, dtype=np.int32)[None], axis=1)
        nearest[part] = order[:, 1 : k + 1]
        radii[part] = np.maximum(np.take_along_axis(distances, nearest[part], axis=1), 0).mean(axis=1)
    return NeighborRanks(queries, ranks, nearest, radii)


def _log_correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float | None:
    """Pearson's correlation of logarithms, images on one spot with all their neighbours left out."""
    apart = (first > 0) & (second > 0)
    if apart.sum() < 3:
        return None
    logs = np.log(np.stack([first[apart], second[apart]]))
    if (np.ptp(logs, axis=1) == 0).any():
        return None
    return float(np.corrcoef(logs)[0, 1])


def _count_nearer(coordinates: FloatArray, queries: IntArray, targets: IntArray) -> npt.NDArray[np.float64]:
    """Rank ``(q, k)`` of each target by distance from its query in a layout; 1 is the nearest.

    Rows at one distance share the mean of their ranks: were they all to have the best, a layout that puts every image
    on one spot would keep every neighbour.
    """
    ranks = np.empty(targets.shape, dtype=np.float64)
    squared = np.empty(len(coordinates))
    for row in range(len(queries)):
        query = queries[row]
        for other in range(len(coordinates)):
            x = coordinates[other, 0] - coordinates[query, 0]
            y = coordinates[other, 1] - coordinates[query, 1]
            squared[other] = x * x + y * y
        # The query is never nearer than a neighbour of its own.
        squared[query] = np.inf
        for column in range(targets.shape[1]):
            limit = squared[targets[row, column]]
            nearer = 0
            as_near = 0
            for other in range(len(coordinates)):
                nearer += squared[other] < limit
                as_near += squared[other] == limit
            # The target is as near as itself.
            ranks[row, column] = nearer + (as_near + 1) / 2
    return ranks


@functools.cache
def _ranks_in_layout() -> Any:
    import numba

    return numba.njit(nogil=True)(_count_nearer)
