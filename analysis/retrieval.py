"""Retrieval between images and texts: which text belongs to an image, and which image to a text."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.bootstrap import Interval, bootstrap_sums, cluster_bootstrap
from analysis.zero_shot.logits import unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.arrays import FloatArray, IntArray

K = (1, 5, 10, 50, 200)
# Similarities held at once: 64 MB.
_BLOCK_ELEMENTS = 2**23


class Ranks(NamedTuple):
    """How each query's own candidates are ranked; every array is ``(q,)``.

    Attributes
    ----------
    query
        Rows of the queries that something belongs to.
    first
        Ranks from 1; one that does not belong and is just as near counts as nearer.
    average_precision
        In (0, 1].
    belonging
        How many candidates belong to the query.
    candidates
        How many there are.
    """

    query: IntArray
    first: IntArray
    average_precision: FloatArray
    belonging: IntArray
    candidates: int


class RetrievalScore(NamedTuple):
    """One number of a direction; `value` is None where undefined, with the reason in `note`."""

    metric: str
    k: int | None
    value: float | None
    interval: Interval
    expected: float | None
    n: int
    note: str | None


def rank(queries: FloatArray, candidates: FloatArray, belonging: Sequence[IntArray]) -> Ranks:
    """Rank all candidates for every query by cosine, exactly, a block of queries at a time.

    Parameters
    ----------
    queries, candidates
        ``(n, d)`` and ``(m, d)``, unnormalised.
    belonging
        For each query the rows of the candidates that belong to it; a query without any is left out.

    Returns
    -------
    Ranks
        Candidates that do not belong count as nearer where they are just as near, so that an encoder that says the same
        of everything finds nothing.

    References
    ----------
    ``clip_benchmark.metrics.zeroshot_retrieval``; `torchmetrics.retrieval.RetrievalMAP`.
    """
    asked = np.array([row for row, own in enumerate(belonging) if len(own)], dtype=np.int64)
    targets = unit(candidates).astype(np.float32)
    first = np.empty(len(asked), dtype=np.int64)
    precision = np.empty(len(asked))
    block = max(1, _BLOCK_ELEMENTS // max(1, len(targets)))
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        similar = unit(queries[rows]).astype(np.float32) @ targets.T
        for place, (row, nearness) in enumerate(zip(rows.tolist(), similar, strict=True), start):
            own = np.sort(nearness[belonging[row]])[::-1]
            at_least = len(nearness) - np.searchsorted(np.sort(nearness), own, side="left")
            own_at_least = len(own) - np.searchsorted(own[::-1], own, side="left")
            others = at_least - own_at_least
            order = np.arange(1, len(own) + 1)
            first[place] = 1 + others[0]
            precision[place] = (order / (order + others)).mean()
    counts = np.array([len(belonging[row]) for row in asked.tolist()], dtype=np.int64)
    return Ranks(asked, first, precision, counts, len(candidates))


def score_ranks(ranks: Ranks, groups: IntArray, *, seed: int) -> list[RetrievalScore]:
    """Recall at each of `K`, median rank and mean average precision.

    Parameters
    ----------
    ranks
        Of all queries.
    groups
        Group codes of all rows of queries, resampled for the intervals; candidates stay as they are.
    seed
        Seed of the resamples.

    Returns
    -------
    list of RetrievalScore
        ``recall`` at k: share of the queries with at least one of those that belong among the first k. `expected` is
        what a random order would give. Where all candidates are among the first k it is undefined.
    """
    n = len(ranks.query)
    own = groups[ranks.query]
    scores = []
    for k in K:
        if n == 0 or k >= ranks.candidates:
            reason = (
                "no query has anything that belongs to it" if n == 0 else f"there are {ranks.candidates} candidates"
            )
            scores.append(RetrievalScore("recall", k, None, Interval(None, None), None, n, f"undefined: {reason}"))
            continue
        hit = ranks.first <= k
        interval = cluster_bootstrap(hit.astype(np.float64), own, seed=seed)
        scores.append(RetrievalScore("recall", k, float(hit.mean()), interval, _by_chance(ranks, k), n, None))
    if n == 0:
        nothing = "undefined: no query has anything that belongs to it"
        scores += [
            RetrievalScore(metric, None, None, Interval(None, None), None, 0, nothing)
            for metric in ("median_rank", "mean_average_precision")
        ]
        return scores
    scores.append(
        RetrievalScore("median_rank", None, float(np.median(ranks.first)), _median_interval(ranks.first, own, seed),
                       _median_by_chance(ranks), n, None)
    )  # fmt: skip
    interval = cluster_bootstrap(ranks.average_precision, own, seed=seed)
    mean = float(ranks.average_precision.mean())
    scores.append(RetrievalScore("mean_average_precision", None, mean, interval, _precision_by_chance(ranks), n, None))
    return scores


def _by_chance(ranks: Ranks, k: int) -> float:
    """Return the recall of a random order: 1 less the chance that the first k hold none of a query's own."""
    from scipy.stats import hypergeom

    return float(1 - hypergeom.pmf(0, ranks.candidates, ranks.belonging, k).mean())


def _median_by_chance(ranks: Ranks) -> float:
    """Return the median, over queries and random orders, of the rank of the first of a query's own."""
    from scipy.stats import hypergeom

    kinds, queries = np.unique(ranks.belonging, return_counts=True)

    def within(k: int) -> float:
        """Chance that the first is at `k` or before."""
        return float(1 - hypergeom.pmf(0, ranks.candidates, kinds, k) @ (queries / queries.sum()))

    every = range(1, ranks.candidates + 1)
    # With a margin for the last digits: half is half.
    low, high = (1 + bisect_left(every, 0.5 + margin, key=within) for margin in (-1e-9, 1e-9))
    return (low + high) / 2


def _precision_by_chance(ranks: Ranks) -> float:
    """Mean over queries of the expected average precision of a random order.

    With m own among N: the place k is one of them with chance m/N, and then each place before it with (m-1)/(N-1).
    """
    n = ranks.candidates
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    before = (ranks.belonging - 1) / max(1, n - 1)
    return float(((harmonic + (n - harmonic) * before) / n).mean())


def _median_interval(first: IntArray, groups: IntArray, seed: int) -> Interval:
    """Interval of the median over resampled groups."""
    from scipy.sparse import coo_matrix

    values, place = np.unique(first, return_inverse=True)
    _, code = np.unique(groups, return_inverse=True)
    shape = (int(code.max()) + 1, len(values))
    counts = coo_matrix((np.ones(len(first)), (code, place)), shape=shape).tocsr()

    def medians(drawn: FloatArray) -> FloatArray:
        running = np.cumsum(drawn, axis=1)
        total = running[:, -1:]
        # The mean of the two middle ones, which are the same where the number is odd.
        low = (running < (total + 1) // 2).sum(axis=1)
        high = (running < total // 2 + 1).sum(axis=1)
        return ((values[low] + values[high]) / 2)[:, None]  # type: ignore[no-any-return]

    [interval] = bootstrap_sums(counts, medians, seed=seed)
    return interval


def belonging(image_rows: Sequence[Sequence[int]], n_images: int) -> tuple[list[IntArray], list[IntArray]]:
    """Return for each image the rows of its texts, and for each text the rows of its images, given the latter."""
    of_text = [np.array(sorted(set(rows)), dtype=np.int64) for rows in image_rows]
    of_image: list[list[int]] = [[] for _ in range(n_images)]
    for text, rows in enumerate(of_text):
        for row in rows.tolist():
            of_image[row].append(text)
    return [np.array(texts, dtype=np.int64) for texts in of_image], of_text


def text_groups(of_text: Sequence[IntArray], groups: IntArray) -> IntArray:
    """Return a group code for each text: that of its images, or one of its own where they are of several groups."""
    own = int(groups.max(initial=-1)) + 1
    codes = [np.unique(groups[rows]) for rows in of_text]
    return np.array([int(c[0]) if len(c) == 1 else own + i for i, c in enumerate(codes)], dtype=np.int64)
