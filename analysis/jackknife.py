"""Intervals of statistics that are no sums: by leaving out a twentieth of the groups at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import LEVEL, Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.arrays import BoolArray, IntArray

BLOCKS = 20


def jackknife(
    statistic: Callable[[BoolArray], float],
    groups: IntArray,
    *,
    seed: int,
    within: tuple[float, float],
    blocks: int = BLOCKS,
    level: float = LEVEL,
) -> Interval:
    """Interval of one statistic; see `jackknife_all`."""
    [interval] = jackknife_all(
        lambda keep: (statistic(keep),), groups, seed=seed, within=(within,), blocks=blocks, level=level
    )
    return interval


def jackknife_all(
    statistics: Callable[[BoolArray], Sequence[float]],
    groups: IntArray,
    *,
    seed: int,
    within: Sequence[tuple[float, float]],
    blocks: int = BLOCKS,
    level: float = LEVEL,
) -> list[Interval]:
    """Intervals from recomputing statistics with a block of groups left out, as images and as neighbours.

    ``value ± t · sqrt((g - 1) / g · Σ (value_b - mean)²)`` with t of g - 1 degrees of freedom. An image left out must
    vanish from the lists of others too: a group is met twice, by its own lists and in those of others, and intervals
    that resample the lists alone are too short.

    Parameters
    ----------
    statistics
        Maps the ``(n,)`` images to keep to the statistics among them; NaN where undefined.
    groups
        ``(n,)`` codes; whole groups are left out.
    seed
        Seed of the blocks.
    within
        Least and largest value possible, of each statistic.
    blocks
        How many, at most one per group.
    level
        Coverage.

    Returns
    -------
    list of Interval
        One for each statistic; undefined for fewer than two groups, or where the statistic is.

    References
    ----------
    Kott, The delete-a-group jackknife, J. Official Statistics 17 (2001).
    """
    from scipy.stats import t

    _, codes = np.unique(groups, return_inverse=True)
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    blocks = min(blocks, n_groups)
    if blocks < 2:
        return [Interval(None, None)] * len(within)
    block = np.random.default_rng(seed).permutation(np.arange(n_groups) % blocks)[codes]
    of_all = statistics(np.ones(len(groups), dtype=np.bool_))
    left_out = np.array([statistics(block != each) for each in range(blocks)])
    quantile = float(t.ppf((1 + level) / 2, blocks - 1))
    intervals = []
    for value, values, (least, largest) in zip(of_all, left_out.T, within, strict=True):
        if not (np.isfinite(value) and np.isfinite(values).all()):
            intervals.append(Interval(None, None))
            continue
        reach = quantile * float(np.sqrt((blocks - 1) / blocks * np.sum((values - values.mean()) ** 2)))
        intervals.append(Interval(max(least, value - reach), min(largest, value + reach)))
    return intervals
