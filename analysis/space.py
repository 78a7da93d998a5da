"""The vectors behind neighbour lists, for audits that lists alone cannot answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from analysis.neighbors import cosine_neighbors, unit_vectors
from analysis.probed_neighbors import probed_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, FloatArray, IntArray
    from analysis.neighbors import Neighbors

# PathoROB tries every number up to 30.
CLUSTER_NUMBERS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30)
CLUSTER_DIRECTIONS = 50
_STARTS = 3


@dataclass(frozen=True)
class Space:
    """Vectors of length one.

    Attributes
    ----------
    unit
        ``(n, d)`` float32 rows of length one.
    centres
        ``(lists, d)`` of an index over such vectors, by which neighbours are searched; None for an exact search.
    """

    unit: npt.NDArray[np.float32]
    centres: FloatArray | None = None

    @classmethod
    def of(cls, vectors: FloatArray, centres: FloatArray | None = None) -> Space:
        """Scale vectors ``(n, d)`` to length one; ValueError as `unit_vectors`."""
        return cls(unit_vectors(vectors), centres)

    def among(self, keep: BoolArray) -> Space:
        """Return the space of some images."""
        return self if keep.all() else Space(self.unit[keep], self.centres)

    def search(self, k: int, groups: IntArray) -> Neighbors:
        """Search the neighbours of all images as those of the whole set were, own group left out."""
        if self.centres is None:
            return cosine_neighbors(self.unit, k, groups=groups)
        return probed_neighbors(self.unit, self.centres, k, groups=groups, seed=0).neighbors

    @cached_property
    def clusters(self) -> IntArray:
        """``(n,)`` codes of a k-means clustering that labels and backgrounds had no part in.

        On the 50 leading principal directions; as many clusters as give the best mean cosine silhouette among
        `CLUSTER_NUMBERS`; the best of 3 starts, seeded.

        References
        ----------
        PathoROB, arXiv:2507.17845, clustering score.
        """
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA

        n, d = self.unit.shape
        numbers = [number for number in CLUSTER_NUMBERS if number < n]
        if not numbers:
            return np.zeros(n, dtype=np.int64)
        directions = min(CLUSTER_DIRECTIONS, n, d)
        points = PCA(directions, svd_solver="randomized", random_state=0).fit_transform(self.unit)
        found = [
            KMeans(number, n_init=_STARTS, init="random", random_state=0).fit_predict(points).astype(np.int64)
            for number in numbers
        ]
        return max(found, key=lambda codes: float(np.mean(silhouette(self.unit, codes))))


def silhouette(unit: npt.NDArray[np.float32], codes: IntArray, *, others: str = "nearest") -> npt.NDArray[np.float64]:
    """Measure the cosine silhouette of every row: whether it is nearer to its own cluster than to another.

    ``s = (b - a) / max(a, b)`` with a the mean distance to the rest of its own cluster. The mean distance to a cluster
    is one less the product with the cluster's mean vector, so no pair of rows is ever compared.

    Parameters
    ----------
    unit
        ``(n, d)`` rows of length one.
    codes
        ``(n,)`` clusters, two or more.
    others
        ``nearest``: b is the least mean distance to another cluster (Rousseeuw); ``mean``: b is the mean distance to
        all rows of other clusters (BRAS).

    Returns
    -------
    ndarray
        ``(n,)`` in [-1, 1]; 0 for a row alone in its cluster.

    References
    ----------
    Rousseeuw, J. Comput. Appl. Math. 20 (1987); Rautenstrauch & Ohler, Nat. Biotechnol. (2025), BRAS.
    """
    _, codes, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    member = np.zeros((len(sizes), len(codes)), dtype=np.float32)
    member[codes, np.arange(len(codes))] = 1 / sizes[codes]
    # Mean distance to every cluster, the row itself (at distance 0) included in its own.
    distance = 1 - (unit @ (member @ unit).T).astype(np.float64)
    own = np.arange(len(codes)), codes
    size = sizes[codes]
    # Rounding may leave copies a hair below distance zero.
    within = np.maximum(distance[own], 0) * size / np.maximum(size - 1, 1)
    if others == "nearest":
        distance[own] = np.inf
        between = distance.min(axis=1)
    else:
        total = distance @ sizes - distance[own] * size
        between = total / (len(codes) - size)
    larger = np.maximum(within, between)
    width: npt.NDArray[np.float64] = np.divide(between - within, larger, out=np.zeros(len(codes)), where=larger > 0)
    width[size == 1] = 0
    return width
