"""iLISI: how many backgrounds a neighbourhood effectively holds."""

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

METRIC = "ilisi"


def ilisi(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Integration LISI: median effective number of backgrounds around an image, scaled.

    ``(median_i LISI_i - 1) / (B - 1)`` over B backgrounds, in a Gaussian neighbourhood whose perplexity is a third of
    the 90 neighbours read: 0 where every neighbourhood is of one background, 1 where all are evenly mixed. What an
    encoder that sees no background reaches is less than 1 where backgrounds are unequally frequent: see `expected`.

    Parameters
    ----------
    neighbors
        ``(n, K)``; self and own group left out. Fewer than 90 are read where there are fewer.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, left out in blocks for the interval and permuted as blocks.
    k
        Not read: the neighbourhood is part of the definition.
    seed
        Seed of blocks and permutations.

    Returns
    -------
    list of AuditResult
        ``ilisi``; `expected` is its mean with the background permuted within label.

    References
    ----------
    Luecken et al., Nat. Methods 19 (2022); agrees with `scib_metrics.ilisi_knn` on the same lists.
    """
    backgrounds = len(np.unique(confounder))
    if backgrounds < 2:
        return [AuditResult.undefined(METRIC, "all images share one background", n=len(labels))]
    read = neighbors.first(min(NEIGHBORS, neighbors.k))
    weights = neighbor_weights(read)

    def scaled(codes: IntArray, keep: BoolArray | None = None) -> float:
        index = inverse_simpson(weights, read.indices, codes, keep)
        defined = index[np.isfinite(index)]
        return float((np.median(defined) - 1) / (backgrounds - 1)) if len(defined) else float("nan")

    value = scaled(confounder)
    per_image = inverse_simpson(weights, read.indices, confounder)
    n = int(np.isfinite(per_image).sum())
    if n == 0:
        reason = f"no image lists more than {read.k // 3} neighbours outside its own group"
        return [AuditResult.undefined(METRIC, reason, n=0, k=read.k)]
    low, high = jackknife(lambda keep: scaled(confounder, keep), groups, seed=seed, within=(0, 1))
    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    chance = [scaled(codes) for codes in permuted.first(EXPECTATION)] if permuted.varies else []
    note = f"{backgrounds} backgrounds, perplexity {max(1, read.k // 3)}; 0: neighbourhoods of one background"
    expected = float(np.mean(chance)) if chance else None
    return [AuditResult(METRIC, value, low, high, None, n, note, expected=expected, k=read.k, per_image=per_image)]


AUDIT = Audit("ilisi", ilisi)
