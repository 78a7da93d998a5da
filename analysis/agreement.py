"""How many neighbours share an image's code, against chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import pair_bootstrap
from analysis.permutation import permute_codes, permuted_agreement, upper_p_value
from analysis.results import AuditResult

if TYPE_CHECKING:
    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors


def neighbor_agreement(
    neighbors: Neighbors,
    codes: IntArray,
    groups: IntArray,
    *,
    metric: str,
    k: int,
    seed: int,
    within: IntArray | None = None,
) -> AuditResult:
    """Mean over images of the share of their `k` neighbours that have the same code.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``.
    codes
        ``(n,)`` the column compared.
    groups
        ``(n,)`` group codes, resampled for the interval and permuted as blocks for the p-value.
    metric
        Name of the result.
    k
        Neighbours read per image; lists that are shorter count with what they hold.
    seed
        Seed of resamples and permutations.
    within
        ``(n,)`` strata inside which `codes` are permuted.

    Returns
    -------
    AuditResult
        Value in [0, 1] with the mean over permutations as `expected`, and the share of permutations that
        agree as much (one-sided). Undefined for a constant column, or where no image has a neighbour.

    Raises
    ------
    ValueError
        If ``k > K``.
    """
    listed = neighbors.first(k).indices
    valid = listed >= 0
    held = valid.sum(axis=1)
    rows = np.flatnonzero(held)
    if len(np.unique(codes)) < 2:
        return AuditResult.undefined(metric, "all images share one value", n=len(codes), k=k)
    if len(rows) == 0:
        return AuditResult.undefined(metric, "no image has a neighbour outside its own group", n=0, k=k)

    same = (codes[listed] == codes[:, None]) & valid
    value = float((same[rows].sum(axis=1) / held[rows]).mean())
    queries, _ = np.nonzero(valid)
    weights = 1 / (held[queries] * len(rows))
    low, high = pair_bootstrap(weights * same[valid], weights, groups[queries], groups[listed[valid]], seed=seed)
    permuted = permute_codes(codes, groups, seed=seed, within=within)
    chance = permuted_agreement(permuted, queries, listed[valid], weights)
    return AuditResult(
        metric,
        value,
        low,
        high,
        upper_p_value(value, chance),
        len(rows),
        f"mean over images; {permuted.describe()}",
        expected=float(chance.mean()),
        k=k,
    )
