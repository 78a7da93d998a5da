"""Exact nearest neighbours by cosine distance, computed once and read by every audit and layout."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, FloatArray, IntArray

# Distances held at once; with their argpartition about 400 MB.
_BLOCK_ELEMENTS = 2**25
# Candidates sorted at once: 4 MB, which stay in cache.
_SORTED_ELEMENTS = 2**19
# Rows from which comparing each pair once outweighs the compilation it needs; and the largest share of them listed.
TILED_FROM = 4096
_TILED_SHARE = 0.1
# Rows and columns of a tile of products: 4 MB, which stays in cache until it is read.
_TILE = 1024
# Rows of the sample that thresholds are estimated from: so many, or a share of all, or room would grow with the rows.
_SAMPLE = 2048
_SAMPLED_SHARE = 1 / 16
# The largest share of all rows' room that is in use at once: rows are finished as others fill.
_KEPT_SHARE = 0.4
# What may be kept as it streams by; larger sets are compared row by row.
_KEPT_BYTES = 2**30
_NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)


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
    if block_rows is None and n >= TILED_FROM and k <= n * _TILED_SHARE:
        return _tiled(unit, k, own)
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


def _tiled(unit: npt.NDArray[np.float32], k: int, groups: IntArray) -> Neighbors:
    """Return the lists of all rows from the upper triangle of the product: a tile serves its rows and its columns.

    What is nearer than a threshold is kept as it streams by, and only that is sorted. The threshold of a row is the
    quantile of its distances to a sample of rows that a little more than k of all are expected to pass; the few rows of
    which fewer pass, or more than there is room for, are compared once more with everything. The sample stands first,
    so that its products serve twice: a pair of which one is in the sample is not compared again. A list is written as
    soon as its row has met all others, and its room serves the next.
    """
    from analysis.neighbor_kernels import CHUNK, Kept, expand, keep_near, release, split

    n = len(unit)
    first_copy = first_copies(unit)
    # Copies stand in for one another: one is compared, and all are listed, at one distance.
    representatives = np.flatnonzero(first_copy == np.arange(n))
    m = len(representatives)
    sample, quantile, room = _sampling(m, k)
    chunks = m + int(_KEPT_SHARE * m * room / CHUNK)
    if chunks * CHUNK * 8 > _KEPT_BYTES:
        return _by_rows(unit, k, groups, np.arange(n), 1024)
    sampled = len(sample)
    representatives = np.concatenate([representatives[sample], np.delete(representatives, sample)])
    position = np.empty(n, dtype=np.int64)
    position[representatives] = np.arange(m)
    original = position[first_copy]
    copies = np.argsort(original, kind="stable")
    sizes = np.bincount(original, minlength=m)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    distinct = unit[representatives]
    # What stands for copies of several groups is excluded from no list as a whole.
    group = np.where(sizes > 1, -1 - np.arange(m), np.unique(groups, return_inverse=True)[1][representatives])

    near = np.empty(m, dtype=np.float32)
    kept = Kept.of(m, room, chunks)
    # Copies fill a list beyond what was kept; a list they overfill is compared once more.
    spare = 4 * int(sizes.max())
    indices = np.empty((n, k), dtype=np.int64)
    distances = np.empty((n, k), dtype=np.float32)
    complete = np.ones(n, dtype=bool)
    rows_at_once = max(1, min(_TILE, _BLOCK_ELEMENTS // sampled))
    # Written over and over: fresh memory for every tile costs a tenth of its product.
    memory = np.empty(max(rows_at_once * sampled, _TILE * _TILE), dtype=np.float32)

    def multiply(top: int, end: int, left: int, right: int) -> npt.NDArray[np.float32]:
        out = memory[: (end - top) * (right - left)].reshape(end - top, right - left)
        return np.matmul(distinct[top:end], distinct[left:right].T, out=out)

    def finish(top: int, end: int) -> None:
        """Write the lists of rows that have been compared with all."""
        images = copies[ends[top] : ends[end]]
        # Lists of about one length together, as the longest decides how much is sorted.
        images = images[np.argsort(kept.counts[original[images]], kind="stable")]
        for begin, stop in _parts(0, len(images), max(1, _SORTED_ELEMENTS // (room + spare))):
            part = images[begin:stop]
            keys = np.full((len(part), max(k, int(kept.counts[original[part]].max())) + spare), _NO_KEY)
            expand(part, kept, original, copies, ends, groups, keys)
            keys.sort(axis=1)
            split(keys, part, indices, distances.view(np.uint32))
            complete[part] = keys[:, k - 1] != _NO_KEY
        release(kept, top, end)

    # Of the sample's rows first: a threshold must be known before what others have for its row is kept.
    for top, end in [*_parts(0, sampled, rows_at_once), *_parts(sampled, m, rows_at_once)]:
        block = multiply(top, end, 0, sampled)
        others = np.where(group[top:end, None] == group[None, :sampled], np.float32(-np.inf), block)
        others.partition(sampled - 1 - quantile, axis=1)
        near[top:end] = others[:, sampled - 1 - quantile]
        keep_near(block, block.view(np.uint32), top, 0, group, near, top >= sampled, kept)
    finish(0, sampled)
    for top, end in _parts(sampled, m, _TILE):
        for left, right in _parts(top, m, _TILE):
            tile = multiply(top, end, left, right)
            keep_near(tile, tile.view(np.uint32), top, left, group, near, True, kept)
        finish(top, end)

    short = np.flatnonzero(~complete)
    if len(short):
        redone = _by_rows(unit, k, groups, short, 1024)
        indices[short], distances[short] = redone.indices, redone.distances
    return Neighbors(indices, distances)


def _parts(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Return begin and end of the parts of a range."""
    return [(begin, min(begin + size, stop)) for begin in range(start, stop, size)]


def _sampling(m: int, k: int) -> tuple[IntArray, int, int]:
    """Return the sample of `m` rows, the place among its distances that is the threshold, and the room per row."""
    step = max(1, min(m // _SAMPLE, round(1 / _SAMPLED_SHARE)))
    sample = np.arange(step // 2, m, step)
    share = k * len(sample) / m
    quantile = min(len(sample) - 1, int(np.ceil(share + 3 * np.sqrt(share) + 4)))
    return sample, quantile, min(m, int((quantile + 4 * np.sqrt(quantile)) * m / len(sample)) + 16)


def first_copies(rows: npt.NDArray[np.float32]) -> IntArray:
    """For each row the first row with the same bytes, ``(n,)``."""
    first: dict[bytes, int] = {}
    # Digests, as the rows themselves would all be in memory once more.
    digests = (blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
    return np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)], dtype=np.int64)


def smallest(distances: npt.NDArray[np.float32], k: int) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Columns and values of the `k` smallest per row, ascending, ties by column; distances are not negative."""
    n, width = distances.shape
    near = distances <= _bounds(distances, k)[:, None]
    # A few rows are unlike their sample.
    short = np.flatnonzero(np.count_nonzero(near, axis=1) < k)
    near[short] = distances[short] <= np.partition(distances[short], k - 1, axis=1)[:, k - 1, None]
    rows, columns = np.divmod(np.flatnonzero(near), width)
    counts = np.bincount(rows, minlength=n)
    # Numbers that sort by distance, then column: the bits of what is not negative order as it does.
    keys = np.full((n, int(counts.max(initial=k))), _NO_KEY)
    bits = distances[rows, columns].view(np.uint32).astype(np.uint64)
    keys[rows, np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]] = bits << np.uint64(32) | columns.astype(
        np.uint64
    )
    keys.sort(axis=1)
    nearest = keys[:, :k]
    values = (nearest >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return (nearest & np.uint64(0xFFFFFFFF)).astype(np.int64), values


def _bounds(distances: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    """For each row a distance, ``(n,)``, that `k` or a few more are expected to be within: a quantile of a sample."""
    step = max(1, min(16, distances.shape[1] // (4 * k)))
    sample = distances[:, ::step]
    share = k / step
    place = k - 1 if step == 1 else min(sample.shape[1] - 1, int(np.ceil(share + 3 * np.sqrt(share) + 4)))
    return np.partition(sample, place, axis=1)[:, place]
