"""Exact nearest neighbours of many rows, each pair compared once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.selection import NO_KEY, one_of_every, place_among_sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import IntArray

# Rows and columns of a tile of products: 4 MB, which stays in cache until it is read.
_TILE = 1024
# Products of the sample held at once: 128 MB.
_BLOCK_ELEMENTS = 2**25
# Candidates sorted at once: 4 MB, which stay in cache.
_SORTED_ELEMENTS = 2**19
# Rows of the sample that thresholds are estimated from: so many, or a share of all, or room would grow with the rows.
_SAMPLE = 2048
_SAMPLED_SHARE = 1 / 16
# Products this far apart may be at one distance, as 1 less them is rounded.
_ROUNDING = np.float32(2**-22)
# Candidates kept in one piece: 1 kB, as smaller pieces are read slower than their sorting takes.
CHUNK = 128
# Share of the room of all rows that is in use at once, at least; see `_chunks`.
_KEPT_SHARE = 0.3
# What may be kept as it streams by; larger sets are compared row by row.
_KEPT_BYTES = 2**30


def tiles_fit(n: int, k: int) -> bool:
    """Whether what is kept of the lists of `n` rows as tiles stream by is within 1 GiB."""
    sample, _, room = _sampling(n, k)
    return _chunks(n, len(sample), room) * CHUNK * 8 <= _KEPT_BYTES


def tiled_lists(
    unit: npt.NDArray[np.float32], k: int, groups: IntArray, first_copy: IntArray
) -> tuple[IntArray, npt.NDArray[np.float32], IntArray]:
    """Find the lists of all rows from the upper triangle of the product: a tile serves its rows and its columns.

    What is nearer than a threshold is kept as it streams by, and only that is sorted. The threshold of a row is a
    quantile of its distances to a sample of rows, chosen so that hardly any row has fewer than k neighbours within it.
    The sample stands first, so that its products serve twice: a pair of which one is in the sample is not compared
    again. A list is written as soon as its row has met all others, and its room serves the next.

    Parameters
    ----------
    unit
        ``(n, d)`` rows of length one.
    k
        Neighbours per row.
    groups
        ``(n,)`` codes; rows of the same group are never neighbours.
    first_copy
        ``(n,)`` the first row with the same bytes.

    Returns
    -------
    indices, distances
        ``(n, k)`` as `analysis.neighbors.cosine_neighbors` gives them.
    short
        Rows of which fewer than k, or more than there was room for, were within the threshold: their lists are not
        filled in.
    """
    # Compiles, which definitions of assets need not wait for.
    from analysis.neighbor_kernels import Kept, expand, keep_near, release, split

    n = len(unit)
    # Copies stand in for one another: one is compared, and all are listed, at one distance.
    representatives = np.flatnonzero(first_copy == np.arange(n))
    m = len(representatives)
    sample, quantile, room = _sampling(m, k)
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
    kept = Kept.of(m, room, _chunks(m, sampled, room))
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
            keys = np.full((len(part), max(k, int(kept.counts[original[part]].max())) + spare), NO_KEY)
            expand(part, kept, original, copies, ends, groups, keys)
            keys.sort(axis=1)
            split(keys, part, indices, distances.view(np.uint32))
            complete[part] = keys[:, k - 1] != NO_KEY
        release(kept, top, end)

    # Of the sample's rows first: a threshold must be known before what others have for its row is kept.
    for top, end in [*_parts(0, sampled, rows_at_once), *_parts(sampled, m, rows_at_once)]:
        block = multiply(top, end, 0, sampled)
        others = np.where(group[top:end, None] == group[None, :sampled], np.float32(-np.inf), block)
        others.partition(sampled - 1 - quantile, axis=1)
        near[top:end] = others[:, sampled - 1 - quantile] - _ROUNDING
        keep_near(block, block.view(np.uint32), top, 0, group, near, top >= sampled, kept)
    finish(0, sampled)
    for top, end in _parts(sampled, m, _TILE):
        for left, right in _parts(top, m, _TILE):
            tile = multiply(top, end, left, right)
            keep_near(tile, tile.view(np.uint32), top, left, group, near, True, kept)
        finish(top, end)

    return indices, distances, np.flatnonzero(~complete)


def _parts(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Return begin and end of the parts of a range."""
    return [(begin, min(begin + size, stop)) for begin in range(start, stop, size)]


def _sampling(m: int, k: int) -> tuple[IntArray, int, int]:
    """Return the sample of `m` rows, the place among its distances that is the threshold, and the room per row."""
    step = max(1, min(m // _SAMPLE, round(1 / _SAMPLED_SHARE)))
    sample = one_of_every(step, m)
    quantile = min(len(sample) - 1, place_among_sample(k, step))
    return sample, quantile, min(m, int((quantile + 4 * np.sqrt(quantile)) * m / len(sample)) + 16)


def _chunks(m: int, sampled: int, room: int) -> int:
    """Return the chunks of the store.

    Rows are finished as others fill, so that about a quarter of all candidates is kept at once; before that, the
    sample's rows have met all others, and those the sample. Every row has a chunk that is not full.
    """
    share = sampled / m
    return m + int(max(_KEPT_SHARE, share * (2 - share)) * m * room / CHUNK)
