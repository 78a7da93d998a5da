"""Intervals of statistics that are no sums: by leaving out a twentieth of the groups at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import LEVEL, Interval

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """Interval from recomputing a statistic with a block of groups left out, as images and as neighbours.

    ``value ± t · sqrt((g - 1) / g · Σ (value_b - mean)²)`` with t of g - 1 degrees of freedom. An image left out must
    vanish from the lists of others too: a group is met twice, by its own lists and in those of others, and intervals
    that resample the lists alone are too short.

    Parameters
    ----------
    statistic
        Maps the ``(n,)`` images to keep to the statistic among them; NaN where undefined.
    groups
        ``(n,)`` codes; whole groups are left out.
    seed
        Seed of the blocks.
    within
        Least and largest value possible.
    blocks
        How many, at most one per group.
    level
        Coverage.

    Returns
    -------
    Interval
        Undefined for fewer than two groups, or where the statistic is.

    References
    ----------
    Kott, The delete-a-group jackknife, J. Official Statistics 17 (2001).
    """
    from scipy.stats import t

    _, codes = np.unique(groups, return_inverse=True)
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    blocks = min(blocks, n_groups)
    if blocks < 2:
        return Interval(None, None)
    block = np.random.default_rng(seed).permutation(np.arange(n_groups) % blocks)[codes]
    value = statistic(np.ones(len(groups), dtype=np.bool_))
    values = np.array([statistic(block != left_out) for left_out in range(blocks)])
    if not (np.isfinite(value) and np.isfinite(values).all()):
        return Interval(None, None)
    error = float(np.sqrt((blocks - 1) / blocks * np.sum((values - values.mean()) ** 2)))
    reach = float(t.ppf((1 + level) / 2, blocks - 1)) * error
    return Interval(max(within[0], value - reach), min(within[1], value + reach))
