"""cLISI: how pure in label a neighbourhood is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.jackknife import jackknife
from analysis.lisi import NEIGHBORS, inverse_simpson, neighbor_weights
from analysis.permutation import EXPECTATION, permute_codes
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    from analysis.arrays import BoolArray, IntArray
    from analysis.neighbors import Neighbors

METRIC = "clisi"


def clisi(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Label LISI: median purity of neighbourhoods, scaled.

    ``(L - median_i LISI_i) / (L - 1)`` over L labels, in the neighbourhood of iLISI: 1 where every neighbourhood is of
    one label, 0 where all labels are evenly mixed.

    Parameters
    ----------
    neighbors
        ``(n, K)``; self and own group left out. Fewer than 90 are read where there are fewer.
    labels
        ``(n,)`` codes.
    confounder
        Not read.
    groups
        ``(n,)`` group codes, left out in blocks for the interval and permuted as blocks.
    k
        Not read: the neighbourhood is part of the definition.
    seed
        Seed of blocks and permutations.

    Returns
    -------
    list of AuditResult
        ``clisi``; `expected` is its mean with labels permuted.

    References
    ----------
    Luecken et al., Nat. Methods 19 (2022); agrees with `scib_metrics.clisi_knn` on the same lists.
    """
    n_labels = len(np.unique(labels))
    if n_labels < 2:
        return [AuditResult.undefined(METRIC, "all images share one label", n=len(labels))]
    read = neighbors.first(min(NEIGHBORS, neighbors.k))
    weights = neighbor_weights(read)

    def scaled(codes: IntArray, keep: BoolArray | None = None) -> float:
        index = inverse_simpson(weights, read.indices, codes, keep)
        defined = index[np.isfinite(index)]
        return float((n_labels - np.median(defined)) / (n_labels - 1)) if len(defined) else float("nan")

    per_image = inverse_simpson(weights, read.indices, labels)
    n = int(np.isfinite(per_image).sum())
    if n == 0:
        reason = f"no image lists more than {read.k // 3} neighbours outside its own group"
        return [AuditResult.undefined(METRIC, reason, n=0, k=read.k)]
    low, high = jackknife(lambda keep: scaled(labels, keep), groups, seed=seed, within=(0, 1))
    permuted = permute_codes(labels, groups, seed=seed)
    chance = [scaled(codes) for codes in permuted.first(EXPECTATION)] if permuted.varies else []
    expected = float(np.mean(chance)) if chance else None
    note = f"{n_labels} labels, perplexity {max(1, read.k // 3)}; 1: neighbourhoods of one label"
    return [
        AuditResult(METRIC, scaled(labels), low, high, None, n, note, expected=expected, k=read.k, per_image=per_image)
    ]


AUDIT = Audit("clisi", clisi, reads_confounder=False)
