"""Robustness index: which one neighbours follow where label and background disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import pair_bootstrap, ratio_of_sums
from analysis.permutation import permute_codes, permuted_agreement, upper_p_value
from analysis.results import Audit, AuditResult
from analysis.typed_neighbors import share_of_so, type_neighbors

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray
    from analysis.neighbors import Neighbors
    from analysis.permutation import PermutedCodes
    from analysis.typed_neighbors import TypedNeighbors

METRIC = "robustness_index"


def robustness_index(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Share of informative neighbours that agree in label rather than in background.

    ``ΣSO / (ΣSO + ΣOS)``, pooled over all images: SO neighbours have the same label and another
    background, OS neighbours another label and the same background.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, resampled for the interval and permuted as blocks for the p-value.
    k
        Largest neighbourhood, as `type_neighbors` chooses among.
    seed
        Seed of resamples and permutations.

    Returns
    -------
    list of AuditResult
        ``robustness_index`` in [0, 1] with the size read as `k`; p, from the background permuted within
        label, is small where neighbours follow the background more than chance would have it. Undefined
        where labels or background are constant, or no neighbour is informative.

    Raises
    ------
    ValueError
        If ``k > K``.

    References
    ----------
    PathoROB, arXiv:2507.17845, eq. 1; agrees with `croma.RI`.
    """
    typed = type_neighbors(neighbors, labels, confounder, k=k, metric=METRIC)
    if isinstance(typed, AuditResult):
        return [typed]
    counts = typed.so.sum(axis=1).astype(np.float64), typed.os.sum(axis=1).astype(np.float64)
    value = counts[0].sum() / (counts[0].sum() + counts[1].sum())
    pairs = typed.so | typed.os
    queries, _ = np.nonzero(pairs)
    low, high = pair_bootstrap(
        typed.so[pairs].astype(np.float64),
        np.ones(len(queries)),
        groups[queries],
        groups[typed.neighbors.indices[pairs]],
        seed=seed,
    )
    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    chance = _permuted_index(permuted, typed)
    varies = permuted.varies and len(chance) > 0
    return [
        AuditResult(
            METRIC,
            float(value),
            low,
            high,
            # The lower tail: the more neighbours follow the background, the smaller the index.
            upper_p_value(-value, -chance) if varies and permuted.testable else None,
            int(typed.informative.sum()),
            f"{typed.describe()}; {permuted.describe()}",
            expected=float(chance.mean()) if varies else None,
            k=typed.k,
            per_image=share_of_so(*counts),
        )
    ]


def _permuted_index(permuted: PermutedCodes, typed: TypedNeighbors) -> FloatArray:
    """Index under every permutation of the background that leaves a neighbour informative."""
    same_background = []
    for pairs in (typed.same_label, typed.other_label):
        queries, _ = np.nonzero(pairs)
        found = typed.neighbors.indices[pairs]
        same_background.append(permuted_agreement(permuted, queries, found, np.ones(len(queries))))
    so, os = typed.same_label.sum() - same_background[0], same_background[1]
    index = ratio_of_sums(np.stack([so, so + os], axis=1))
    defined: FloatArray = index[~np.isnan(index)]
    return defined


AUDIT = Audit("robustness", robustness_index, compares=True)
