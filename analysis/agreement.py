"""How many neighbours share an image's code, against chance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import pair_bootstrap
from analysis.permutation import EXPECTATION, NOT_PERMUTED, permute_codes, permuted_agreement, upper_p_value
from analysis.results import AuditResult

if TYPE_CHECKING:
    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors

# Agreement is given at these sizes beside the one that is tested.
SIZES = (1, 5, 15, 50)


def neighbor_agreement(
    neighbors: Neighbors,
    codes: IntArray,
    groups: IntArray,
    *,
    metric: str,
    k: int,
    seed: int,
    within: IntArray | None = None,
    tested: bool = True,
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
    tested
        Whether to give a p-value, and read all permutations; else only the first few, for what chance gives.

    Returns
    -------
    AuditResult
        Value in [0, 1] with the mean over permutations as `expected`, and the share of permutations that
        agree as much (one-sided), None where there are too few arrangements. Undefined for a constant column, one
        that cannot be permuted, or where no image has a neighbour.

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

    permuted = permute_codes(codes, groups, seed=seed, within=within)
    if not permuted.varies:
        return AuditResult.undefined(metric, _why_fixed(codes, within), n=len(codes), k=k)
    same = (codes[listed] == codes[:, None]) & valid
    per_image = np.full(len(codes), np.nan)
    np.divide(same.sum(axis=1), held, out=per_image, where=held > 0)
    value = float(per_image[rows].mean())
    queries, _ = np.nonzero(valid)
    weights = 1 / (held[queries] * len(rows))
    low, high = pair_bootstrap(weights * same[valid], weights, groups[queries], groups[listed[valid]], seed=seed)
    chance = permuted_agreement(permuted, queries, listed[valid], weights, permutations=None if tested else EXPECTATION)
    return AuditResult(
        metric,
        value,
        low,
        high,
        upper_p_value(value, chance) if tested and permuted.testable else None,
        len(rows),
        f"mean over images; {permuted.describe()}" if tested else "mean over images",
        expected=float(chance.mean()),
        k=k,
        per_image=per_image,
    )


def _why_fixed(codes: IntArray, within: IntArray | None) -> str:
    pairs = np.stack([np.zeros_like(codes) if within is None else within, codes])
    if len(np.unique(pairs, axis=1).T) == len(np.unique(pairs[0])):
        return "every label has one background only, so that following one is following the other"
    return NOT_PERMUTED


def agreement_by_k(
    neighbors: Neighbors,
    codes: IntArray,
    groups: IntArray,
    *,
    metric: str,
    k: int,
    seed: int,
    within: IntArray | None = None,
) -> list[AuditResult]:
    """Return `neighbor_agreement` at other sizes than `k`, as far as lists reach, without a test of each."""
    found = [
        neighbor_agreement(neighbors, codes, groups, metric=metric, k=size, seed=seed, within=within, tested=False)
        for size in SIZES
        if size != k and size <= neighbors.k
    ]
    # Sizes share one name: the value of an image would be one of several.
    return [replace(result, per_image=None) for result in found]
