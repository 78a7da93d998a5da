"""Exact nearest neighbours by cosine distance, computed once and read by every audit and layout."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from analysis.selection import smallest
from analysis.tiled_neighbors import tiled_lists, tiles_fit

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, FloatArray, IntArray

# Distances held at once: 128 MB, and up to four times that to choose among them where all tie.
_BLOCK_ELEMENTS = 2**25
# Rows from which comparing each pair once outweighs the compilation it needs; and the largest share of them listed.
TILED_FROM = 4096
_TILED_SHARE = 0.1


@dataclass(frozen=True)
class Neighbors:
    """The nearest neighbours of every image.

    Attributes
    ----------
    indices
        ``(n, K)`` row of each neighbour, nearest first; -1 where fewer than K remain.
    distances
        ``(n, K)`` cosine distance in [0, 2], ascending; inf where the index is -1.

    Raises
    ------
    ValueError
        If the two arrays are not of one ``(n, K)`` shape.
    """

    indices: IntArray
    distances: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.indices.ndim != 2 or self.indices.shape != self.distances.shape:
            raise ValueError(
                "indices and distances must share one (n, K) shape, "
                f"not {self.indices.shape} and {self.distances.shape}"
            )

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.indices.shape[0])

    @property
    def k(self) -> int:
        """Neighbours listed per image, padding included."""
        return int(self.indices.shape[1])

    def first(self, k: int) -> Neighbors:
        """Return the `k` nearest of each list; ValueError unless ``1 <= k <= K``."""
        if not 1 <= k <= self.k:
            raise ValueError(f"{k} neighbours asked for, but lists hold 1 to {self.k}")
        return Neighbors(self.indices[:, :k], self.distances[:, :k])

    def padded(self, k: int) -> Neighbors:
        """Return lists of at least `k` places, -1 at infinity where there is no neighbour."""
        more = ((0, 0), (0, max(0, k - self.k)))
        return Neighbors(
            np.pad(self.indices, more, constant_values=-1), np.pad(self.distances, more, constant_values=np.inf)
        )

    def among(self, keep: BoolArray) -> Neighbors:
        """Return the lists of the kept images with only kept images in them.

        Parameters
        ----------
        keep
            ``(n,)`` mask of the images to keep.

        Returns
        -------
        Neighbors
            ``(keep.sum(), K)``; indices count the kept images only, order is unchanged, and the
            end of a list is padded where neighbours dropped out.

        Raises
        ------
        ValueError
            If the mask does not have one value per image.
        """
        if keep.shape != (self.n,):
            raise ValueError(f"keep must have shape ({self.n},), not {keep.shape}")
        position = np.full(self.n + 1, -1, dtype=np.int64)
        position[:-1][keep] = np.arange(int(keep.sum()))
        # The padding index -1 reads the extra last element, which is -1.
        indices = position[self.indices[keep]]
        dropped = indices < 0
        order = np.argsort(dropped, axis=1, kind="stable")
        distances = np.where(dropped, np.float32(np.inf), self.distances[keep])
        return Neighbors(np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1))


def unit_vectors(vectors: FloatArray) -> npt.NDArray[np.float32]:
    """Scale every row to length one.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite, non-zero rows.

    Returns
    -------
    ndarray
        ``(n, d)`` float32.

    Raises
    ------
    ValueError
        If the array is not two-dimensional, or a row is not finite or zero; the first such row is named.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors must have shape (n, d), not {vectors.shape}")
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    for wrong, what in ((~np.isfinite(squares), "not finite"), (squares == 0, "zero")):
        if wrong.any():
            raise ValueError(
                f"vector {int(np.argmax(wrong))} is {what} ({int(wrong.sum())} such rows): "
                "encode these images again or leave them out"
            )
    unit = np.empty(vectors.shape, dtype=np.float32)
    np.divide(vectors, np.sqrt(squares)[:, None], out=unit, casting="same_kind")
    return unit


def cosine_neighbors(
    vectors: FloatArray, k: int, *, groups: IntArray | None = None, block_rows: int | None = None
) -> Neighbors:
    """Find the exact `k` nearest neighbours of every row by cosine distance.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite, non-zero rows; computed in float32.
    k
        Neighbours per row; more than ``n - 1`` is clipped to ``n - 1``.
    groups
        ``(n,)`` codes. Rows of the same group are never neighbours, as images of one patient or slide
        resemble each other for reasons under no study.
    block_rows
        Compare so many rows with all at once, fewer for large `n` so that memory stays bounded. Unless given, large
        sets are compared tile by tile, each pair once, which is faster and differs by rounding.

    Returns
    -------
    Neighbors
        Ascending by distance, equal distances by index; the row itself is left out. Exact duplicates
        are at distance 0.

    Raises
    ------
    ValueError
        If ``k < 1``, lengths differ, or a row is not finite or zero (the first is named).
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    unit = unit_vectors(vectors)
    n = len(unit)
    if groups is not None and groups.shape != (n,):
        raise ValueError(f"groups must have shape ({n},), not {groups.shape}")
    k = min(k, max(n - 1, 0))
    if k == 0:
        return Neighbors(np.empty((n, 0), dtype=np.int64), np.empty((n, 0), dtype=np.float32))
    own = np.arange(n) if groups is None else groups
    if block_rows is None and n >= TILED_FROM and k <= n * _TILED_SHARE and tiles_fit(n, k):
        indices, distances, short = tiled_lists(unit, k, own, first_copies(unit))
        if len(short):
            redone = _by_rows(unit, k, own, short, 1024)
            indices[short], distances[short] = redone.indices, redone.distances
        return Neighbors(indices, distances)
    return _by_rows(unit, k, own, np.arange(n), block_rows or 1024)


def nearest_among(
    unit: npt.NDArray[np.float32], strata: IntArray, k: int, *, groups: IntArray | None = None
) -> Neighbors:
    """Find the nearest neighbours of every row among the rows of its stratum.

    Parameters
    ----------
    unit
        ``(n, d)`` rows of length one.
    strata
        ``(n,)`` codes.
    k
        Neighbours per row; lists are padded where a stratum has fewer.
    groups
        ``(n,)`` codes; rows of the same group are never neighbours.

    Returns
    -------
    Neighbors
        ``(n, k)`` as `cosine_neighbors`; indices count all rows.
    """
    indices = np.full((len(unit), k), -1, dtype=np.int64)
    distances = np.full((len(unit), k), np.inf, dtype=np.float32)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        found = cosine_neighbors(unit[rows], k, groups=None if groups is None else groups[rows])
        # The padding index -1 reads the last row, whatever it is.
        indices[rows, : found.k] = np.where(found.indices >= 0, rows[found.indices], -1)
        distances[rows, : found.k] = found.distances
    return Neighbors(indices, distances)


def exact_lists(unit: npt.NDArray[np.float32], k: int, groups: IntArray, queries: IntArray) -> Neighbors:
    """Return the exact lists, ``(len(queries), k)``, of some rows among all; `unit` as `unit_vectors` gives them."""
    return _by_rows(unit, k, groups, queries, 1024)


def _by_rows(unit: npt.NDArray[np.float32], k: int, groups: IntArray, queries: IntArray, block_rows: int) -> Neighbors:
    """Return the lists of the rows `queries`, each compared with all rows at once."""
    n = len(unit)
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    distances = np.full((len(queries), k), np.inf, dtype=np.float32)
    first_copy = first_copies(unit)
    is_copy = first_copy != np.arange(n)
    block_rows = max(1, min(block_rows, _BLOCK_ELEMENTS // n))
    for start in range(0, len(queries), block_rows):
        part = slice(start, start + block_rows)
        rows = queries[part]
        block = unit[rows] @ unit.T
        np.subtract(1, block, out=block)
        np.maximum(block, 0, out=block)
        # BLAS rounds the same product differently at a block's edge: copies must tie exactly.
        block[:, is_copy] = block[:, first_copy[is_copy]]
        if is_copy.any():
            block[first_copy[rows][:, None] == first_copy[None, :]] = 0
        block[groups[rows][:, None] == groups[None, :]] = np.inf
        block[np.arange(len(rows)), rows] = np.inf
        indices[part], distances[part] = smallest(block, k)
    indices[np.isinf(distances)] = -1
    return Neighbors(indices, distances)


def first_copies(rows: npt.NDArray[np.float32]) -> IntArray:
    """For each row the first row with the same bytes, ``(n,)``."""
    first: dict[bytes, int] = {}
    # Digests, as the rows themselves would all be in memory once more.
    digests = (blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
    return np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)], dtype=np.int64)
