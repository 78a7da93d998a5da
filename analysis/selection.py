"""The smallest of each row, by way of a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import IntArray

# One column of so many is sampled, at most.
_STEP = 16
# Sorts behind every distance and index.
NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)


def one_of_every(step: int, n: int) -> IntArray:
    """Return one index out of every `step` of `n`.

    Each is drawn from its stretch, from a fixed seed: where rows repeat with a period, a fixed place would sample one
    kind.
    """
    begins = np.arange(0, max(1, n - step + 1), step)
    return begins + np.random.default_rng(0).integers(0, min(step, n), len(begins))


def place_among_sample(k: int, step: int) -> int:
    """Return the rank, from 0, in a sample of one in `step` below which hardly ever fewer than `k` of all are.

    Three standard deviations above what is expected.
    """
    share = k / step
    return int(np.ceil(share + 3 * np.sqrt(share) + 4))


def smallest(distances: npt.NDArray[np.float32], k: int) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Find the `k` smallest of every row.

    Several times faster than argpartition: what is below a bound, taken from a sample of the columns, is sorted.

    Parameters
    ----------
    distances
        ``(n, m)`` not negative; inf where there is none.
    k
        From 1 to m.

    Returns
    -------
    columns, values
        ``(n, k)`` ascending, ties by column.
    """
    n, width = distances.shape
    step = max(1, min(_STEP, width // (4 * k)))
    sample = distances[:, one_of_every(step, width)] if step > 1 else distances
    place = min(sample.shape[1] - 1, place_among_sample(k, step)) if step > 1 else k - 1
    near = distances <= np.partition(sample, place, axis=1)[:, place, None]
    counts = np.count_nonzero(near, axis=1)
    # Rows unlike their sample, or with many ties: exactly k of each.
    unlike = np.flatnonzero((counts < k) | (counts > 2 * (place + 1) * step))
    if len(unlike):
        rows = distances[unlike]
        rows.partition(k - 1, axis=1)
        last = rows[:, k - 1, None].copy()
        rows = distances[unlike]
        tied, nearer = rows == last, rows < last
        wanted = k - np.count_nonzero(nearer, axis=1)
        near[unlike] = nearer | (tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= wanted[:, None]))
        counts[unlike] = k
    at_rows, columns = np.divmod(np.flatnonzero(near), width)
    # Numbers that sort by distance, then column: the bits of what is not negative order as it does.
    keys = np.full((n, int(counts.max(initial=k))), NO_KEY)
    bits = distances[at_rows, columns].view(np.uint32).astype(np.uint64)
    places = np.arange(len(at_rows)) - (np.cumsum(counts) - counts)[at_rows]
    keys[at_rows, places] = (bits << np.uint64(32)) | columns.astype(np.uint64)
    keys.sort(axis=1)
    nearest = keys[:, :k]
    values = (nearest >> np.uint64(32)).astype(np.uint32).view(np.float32)
    return (nearest & np.uint64(0xFFFFFFFF)).astype(np.int64), values
