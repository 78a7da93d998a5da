"""Approximate neighbours for sets too large for exact ones: searched in the lists of an index, with measured recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import Interval, cluster_bootstrap
from analysis.neighbors import Neighbors, exact_lists, first_copies, unit_vectors
from analysis.results import AuditResult
from analysis.selection import smallest

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

# The exact search takes five minutes of a core at 200,000 × 512. Probing 8 of the 48 lists that the store's index has
# of so many takes half of that.
APPROXIMATE_FROM = 200_000
# Share of the exact neighbours that lists must hold, and the images it is measured on.
LEAST_RECALL = 0.99
RECALL_SAMPLE = 500
FIRST_PROBES = 1
# Products held at once: 64 MB.
_BLOCK_ELEMENTS = 2**24
# Distances within rounding of one another are equal.
_ROUNDING = np.float32(2e-6)


@dataclass(frozen=True)
class Probed:
    """Approximate neighbours and how good they are.

    Attributes
    ----------
    neighbors
        ``(n, K)``.
    recall
        Share of the exact neighbours of the sampled images that are listed.
    interval
        Of the recall, over resampled groups.
    sample
        Images sampled.
    probes, lists
        Lists searched for each image, and lists there are.
    """

    neighbors: Neighbors
    recall: float
    interval: Interval
    sample: int
    probes: int
    lists: int

    def result(self) -> AuditResult:
        """Report the recall as a metric."""
        note = f"neighbours are approximate: {self.probes} of {self.lists} lists of the index searched for each image"
        return AuditResult("neighbor_recall", self.recall, *self.interval, None, self.sample, note, k=self.neighbors.k)


def probed_neighbors(
    vectors: FloatArray,
    centres: FloatArray,
    k: int,
    *,
    groups: IntArray,
    seed: int,
    probes: int = FIRST_PROBES,
    least_recall: float = LEAST_RECALL,
) -> Probed:
    """Find nearly all of the `k` nearest neighbours of every row by cosine distance.

    Rows belong to the list of their nearest centre, and rows of one list are compared with those of the lists whose
    centres are nearest to their own: one product, where a search query by query would read vectors one by one. What
    that misses is measured on a sample, and while it is too much the probes are doubled; all lists probed is exact.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite, non-zero rows.
    centres
        ``(lists, d)`` of an inverted-file index over such vectors.
    k
        Neighbours per row, at most ``n - 1``.
    groups
        ``(n,)`` codes; rows of the same group are never neighbours.
    seed
        Of the sample.
    probes
        Lists searched at first.
    least_recall
        The recall to be reached.

    Returns
    -------
    Probed
        Lists as `analysis.neighbors.cosine_neighbors` gives them, each distance exact, and their recall.

    Raises
    ------
    ValueError
        If there is no centre, dimensions differ, ``k < 1``, or as `unit_vectors`.

    References
    ----------
    Sivic & Zisserman, Video Google (2003): inverted files; Jégou et al., TPAMI 33 (2011): their use for neighbours.
    """
    unit = unit_vectors(vectors)
    n = len(unit)
    if centres.ndim != 2 or not len(centres) or centres.shape[1] != unit.shape[1]:
        raise ValueError(f"centres must have shape (lists, {unit.shape[1]}), not {centres.shape}")
    if n < 2:
        raise ValueError(f"{n} rows have no neighbours")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    k = min(k, n - 1)
    middle = unit_vectors(centres)
    lists = np.concatenate([np.argmax(unit[s : s + 65536] @ middle.T, axis=1) for s in range(0, n, 65536)])
    members = np.split(np.argsort(lists, kind="stable"), np.cumsum(np.bincount(lists, minlength=len(middle)))[:-1])
    # Every list's own comes first, whatever rounding says.
    nearness = middle @ middle.T
    np.fill_diagonal(nearness, np.inf)
    order = np.argsort(-nearness, axis=1, kind="stable")
    first_copy = first_copies(unit)
    sample = np.sort(np.random.default_rng(seed).permutation(n)[:RECALL_SAMPLE])
    truth = exact_lists(unit, k, groups, sample)
    while True:
        probes = min(probes, len(middle))
        near = Neighbors(*_of_lists(unit, first_copy, members, order[:, :probes], groups, sample, k))
        recall, interval = _recall(near, truth, groups[sample], seed)
        if recall >= least_recall or probes == len(middle):
            break
        probes *= 2
    found = Neighbors(*_of_lists(unit, first_copy, members, order[:, :probes], groups, np.arange(n), k))
    return Probed(found, recall, interval, len(sample), probes, len(middle))


def _of_lists(
    unit: npt.NDArray[np.float32],
    first_copy: IntArray,
    members: list[IntArray],
    probed: IntArray,
    groups: IntArray,
    queries: IntArray,
    k: int,
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Return indices and distances ``(len(queries), k)`` of the queries among the rows of the lists they probe."""
    place = np.full(len(unit), -1, dtype=np.int64)
    place[queries] = np.arange(len(queries))
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    distances = np.full((len(queries), k), np.inf, dtype=np.float32)
    for own, others in zip(members, probed, strict=True):
        asked = own[place[own] >= 0]
        if not len(asked):
            continue
        rows = np.sort(np.concatenate([members[other] for other in others]))
        theirs = unit[rows].T
        _, first, again = np.unique(first_copy[rows], return_index=True, return_inverse=True)
        copies = np.flatnonzero(first[again] != np.arange(len(rows)))
        step = max(1, _BLOCK_ELEMENTS // len(rows))
        for start in range(0, len(asked), step):
            part = asked[start : start + step]
            block = unit[part] @ theirs
            np.subtract(1, block, out=block)
            np.maximum(block, 0, out=block)
            # As in the exact search, which rounds them alike: copies tie, and are at distance 0.
            if len(copies):
                block[:, copies] = block[:, first[again[copies]]]
                block[first_copy[part][:, None] == first_copy[rows][None, :]] = 0
            block[groups[part][:, None] == groups[rows][None, :]] = np.inf
            block[np.arange(len(part)), np.searchsorted(rows, part)] = np.inf
            width = min(k, len(rows))
            columns, values = smallest(block, width)
            indices[place[part], :width] = np.where(np.isfinite(values), rows[columns], -1)
            distances[place[part], :width] = values
    return indices, distances


def _recall(found: Neighbors, truth: Neighbors, groups: IntArray, seed: int) -> tuple[float, Interval]:
    """Share of the true neighbours that are found; one as near as the last true one is as good."""
    held = (truth.indices >= 0).sum(axis=1)
    last = np.where(np.isfinite(truth.distances), truth.distances, -np.inf).max(axis=1, initial=-np.inf)
    hits = np.minimum((found.distances <= last[:, None] + _ROUNDING).sum(axis=1), held).astype(np.float64)
    interval = cluster_bootstrap(hits, groups, seed=seed, denominators=held.astype(np.float64))
    return float(hits.sum() / max(held.sum(), 1)), interval
