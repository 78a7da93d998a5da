"""Percentile intervals by resampling whole groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.arrays import FloatArray, IntArray

RESAMPLES = 1000
LEVEL = 0.95
# Resampled weights, or resampled sums, held in floating point at once: 64 MB.
_CHUNK_ELEMENTS = 2**23


class Interval(NamedTuple):
    """A percentile interval; both ends None where it cannot be had."""

    low: float | None
    high: float | None


def cluster_bootstrap(
    values: FloatArray,
    groups: IntArray,
    *,
    seed: int,
    denominators: FloatArray | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a mean, or of a ratio of sums, over resampled groups.

    Parameters
    ----------
    values
        ``(n,)`` one value per image, the numerators of a ratio.
    groups
        ``(n,)`` codes; whole groups are drawn with replacement, since images of one patient or slide
        are not independent.
    seed
        Seed of the draws.
    denominators
        ``(n,)``; ones (a mean) unless given.
    resamples
        Number of draws.
    level
        Coverage.

    Returns
    -------
    Interval
        Undefined for fewer than two groups.

    Raises
    ------
    ValueError
        If lengths differ.

    References
    ----------
    Field & Welsh, Bootstrapping clustered data, JRSS B 69 (2007): resampling clusters.
    """
    if denominators is None:
        denominators = np.ones_like(values, dtype=np.float64)
    if not values.shape == denominators.shape == groups.shape:
        raise ValueError(f"values {values.shape}, denominators {denominators.shape} and groups {groups.shape} differ")
    _, codes = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(codes, values), np.bincount(codes, denominators)], axis=1)
    [interval] = bootstrap_sums(
        sums, lambda drawn: ratio_of_sums(drawn)[:, None], seed=seed, resamples=resamples, level=level
    )
    return interval


def pair_bootstrap(
    numerators: FloatArray,
    denominators: FloatArray,
    query_groups: IntArray,
    neighbor_groups: IntArray,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a share among neighbour pairs, over resampled groups.

    A group enters by its own lists and as a neighbour in the lists of others; both vary with the draw. A
    pair is weighted by the draws of its two groups less one, ``w_q + w_n - 1``, the linear part of a
    resampled U-statistic. Resampling the queries alone covers 73 to 86 % at a nominal 95 % on synthetic
    groups of 2 and 6 images (lists are mutual, so the same chance is met twice); this covers 95 to 99 %.

    Parameters
    ----------
    numerators, denominators
        ``(pairs,)`` what each pair adds to the two sums, ``0 <= numerator <= denominator``.
    query_groups, neighbor_groups
        ``(pairs,)`` group codes of the image and of its neighbour.
    seed, resamples, level
        As in `cluster_bootstrap`.

    Returns
    -------
    Interval
        Within [0, 1]; undefined for fewer than two groups.
    """
    _, codes = np.unique(np.concatenate([query_groups, neighbor_groups]), return_inverse=True)
    parts = np.stack([numerators, denominators])
    totals = parts.sum(axis=1)
    sums = np.stack([np.bincount(codes, np.tile(part, 2)) for part in parts], axis=1)

    def share(drawn: FloatArray) -> FloatArray:
        weighted = drawn - totals
        weighted[weighted[:, 1] < 0] = 0
        return np.clip(ratio_of_sums(weighted), 0, 1)[:, None]

    [interval] = bootstrap_sums(sums, share, seed=seed, resamples=resamples, level=level)
    return interval


def ratio_of_sums(sums: FloatArray) -> FloatArray:
    """First column over second, ``(r, 2)`` to ``(r,)``; NaN where the second is 0."""
    ratio = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=ratio, where=sums[:, 1] != 0)
    return ratio


def bootstrap_sums(
    group_sums: Any,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[Interval]:
    """Percentile intervals of statistics that are functions of sums over images.

    Drawing G groups with replacement weights every group by how often it was drawn, so all resamples
    are one product of the weights with the groups' sums.

    Parameters
    ----------
    group_sums
        ``(G, m)`` array or SciPy sparse matrix: each group's contribution to every sum.
    statistic
        Maps ``(r, m)`` sums to ``(r, s)`` values, NaN where undefined.
    seed, resamples, level
        As in `cluster_bootstrap`.

    Returns
    -------
    list of Interval
        One for each of the `s` statistics; undefined for fewer than two groups, or where the statistic is
        undefined in most resamples.
    """
    n_groups = group_sums.shape[0]
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // max(group_sums.shape))
    draws = []
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = rng.integers(0, n_groups, size=(count, n_groups))
        drawn += np.arange(count)[:, None] * n_groups
        weights = np.bincount(drawn.ravel(), minlength=count * n_groups).reshape(count, n_groups)
        # Transposed, so that a sparse matrix may stand on the left.
        draws.append(statistic(np.asarray(group_sums.T @ weights.T.astype(np.float64)).T))
    intervals = []
    for values in np.concatenate(draws).T:
        defined = values[np.isfinite(values)]
        if n_groups < 2 or len(defined) < resamples / 2:
            intervals.append(Interval(None, None))
        else:
            low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
            intervals.append(Interval(float(low), float(high)))
    return intervals
