"""Exact nearest neighbours by cosine distance, computed once and read by every audit and layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, FloatArray, IntArray

# Distances held at once; with their argpartition about 400 MB.
_BLOCK_ELEMENTS = 2**25


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
    unit: npt.NDArray[np.float32] = (vectors / np.sqrt(squares)[:, None]).astype(np.float32)
    return unit


def cosine_neighbors(
    vectors: FloatArray, k: int, *, groups: IntArray | None = None, block_rows: int = 1024
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
        Rows compared at once, lowered for large `n` so that memory stays bounded.

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
    indices = np.full((n, k), -1, dtype=np.int64)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    if k == 0:
        return Neighbors(indices, distances)
    first_copy = _first_copies(unit)
    is_copy = first_copy != np.arange(n)
    block_rows = max(1, min(block_rows, _BLOCK_ELEMENTS // n))
    for start in range(0, n, block_rows):
        rows = np.arange(start, min(start + block_rows, n))
        block = unit[rows] @ unit.T
        np.subtract(1, block, out=block)
        np.maximum(block, 0, out=block)
        # BLAS rounds the same product differently at a block's edge: copies must tie exactly.
        block[:, is_copy] = block[:, first_copy[is_copy]]
        if is_copy.any():
            block[first_copy[rows][:, None] == first_copy[None, :]] = 0
        if groups is not None:
            block[groups[rows][:, None] == groups[None, :]] = np.inf
        block[np.arange(len(rows)), rows] = np.inf
        indices[rows], distances[rows] = _smallest(block, k)
    indices[np.isinf(distances)] = -1
    return Neighbors(indices, distances)


def _first_copies(rows: npt.NDArray[np.float32]) -> IntArray:
    """For each row the first row with the same bytes, ``(n,)``."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(row.tobytes(), i) for i, row in enumerate(rows)], dtype=np.int64)


def _smallest(distances: npt.NDArray[np.float32], k: int) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Columns and values of the `k` smallest per row, ascending, ties by column."""
    chosen = np.argpartition(distances, k - 1, axis=1)[:, :k].astype(np.int64)
    chosen.sort(axis=1)
    values = np.take_along_axis(distances, chosen, axis=1)
    # argpartition takes any of the columns that tie with the k-th: take the lowest instead.
    last = values.max(axis=1)
    tied = (distances <= last[:, None]).sum(axis=1) > k
    for row in np.flatnonzero(tied & np.isfinite(last)):
        candidates = np.flatnonzero(distances[row] <= last[row])
        order = np.argsort(distances[row, candidates], kind="stable")[:k]
        chosen[row] = np.sort(candidates[order])
        values[row] = distances[row, chosen[row]]
    order = np.argsort(values, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(values, order, axis=1)
