"""Margin-aware robustness index: as the robustness index, near neighbours counting for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import pair_bootstrap
from analysis.permutation import EXPECTATION, permute_codes, permuted_agreement
from analysis.results import Audit, AuditResult
from analysis.typed_neighbors import share_of_so, type_neighbors

if TYPE_CHECKING:
    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors

METRIC = "mari"


def mari(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Robustness index with neighbours weighted by nearness.

    ``Σ_SO w / (Σ_SO w + Σ_OS w)`` with ``w = exp(-d / τ)``, d the cosine distance and τ the median distance of SO and
    OS neighbours at the size read. Where τ is 0 (copies) all weights are one.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, resampled for the interval and permuted as blocks.
    k
        Largest neighbourhood, as `type_neighbors` chooses among.
    seed
        Seed of resamples and permutations.

    Returns
    -------
    list of AuditResult
        ``mari`` in [0, 1], with its mean over permutations of the background within label as `expected`. There is no
        p-value: the robustness index is tested, and this would test the same again.

    Raises
    ------
    ValueError
        If ``k > K``.

    References
    ----------
    croma 1.0.1 (PyPI), `MaRI` with automatic τ, with which this agrees.
    """
    typed = type_neighbors(neighbors, labels, confounder, k=k, metric=METRIC)
    if isinstance(typed, AuditResult):
        return [typed]
    distances = typed.neighbors.distances.astype(np.float64)
    pairs = typed.so | typed.os
    tau = float(np.median(distances[pairs]))
    weights = np.exp(-distances / tau) if tau > 0 else np.ones_like(distances)
    so, os = (np.where(kind, weights, 0.0).sum(axis=1) for kind in (typed.so, typed.os))
    queries, _ = np.nonzero(pairs)
    found = typed.neighbors.indices[pairs]
    low, high = pair_bootstrap(
        np.where(typed.so, weights, 0.0)[pairs], weights[pairs], groups[queries], groups[found], seed=seed
    )
    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    same = []
    for kind in (typed.same_label, typed.other_label):
        asked, _ = np.nonzero(kind)
        listed = typed.neighbors.indices[kind]
        same.append(permuted_agreement(permuted, asked, listed, weights[kind], permutations=EXPECTATION))
    chance = share_of_so(weights[typed.same_label].sum() - same[0], same[1])
    defined = chance[np.isfinite(chance)]
    return [
        AuditResult(
            METRIC,
            float(so.sum() / (so.sum() + os.sum())),
            low,
            high,
            None,
            int(typed.informative.sum()),
            f"{typed.describe()}; τ {tau:.4g}",
            expected=float(defined.mean()) if permuted.varies and len(defined) else None,
            k=typed.k,
            per_image=share_of_so(so, os),
        )
    ]


AUDIT = Audit("mari", mari, compares=True)
