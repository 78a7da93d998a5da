"""kBET: in how many neighbourhoods the backgrounds are mixed as in the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.jackknife import jackknife
from analysis.permutation import EXPECTATION, permute_codes
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, FloatArray, IntArray
    from analysis.neighbors import Neighbors

METRIC = "kbet"
NEIGHBORS = 50
ALPHA = 0.05


def kbet(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Share of neighbourhoods whose mix of backgrounds is not told from that of all images.

    A neighbourhood is accepted where the χ² test (B - 1 degrees of freedom) of its 50 neighbours' backgrounds against
    their share among all images has p ≥ 0.05. An encoder that sees the label alone is rejected too where the background
    goes with the label: compare with `expected`.

    Parameters
    ----------
    neighbors
        ``(n, K)``; self and own group left out. Fewer than 50 are read where there are fewer.
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
        ``kbet``, the acceptance rate: 1 is well mixed. `expected` is its mean with the background permuted within
        label.

    References
    ----------
    Büttner et al., Nat. Methods 16 (2019); agrees with `scib_metrics.kbet` on the same lists.
    """
    if len(np.unique(confounder)) < 2:
        return [AuditResult.undefined(METRIC, "all images share one background", n=len(labels))]
    read = neighbors.first(min(NEIGHBORS, neighbors.k))

    def acceptance(codes: IntArray, keep: BoolArray | None = None) -> float:
        p_values = neighborhood_p_values(read.indices, codes, keep)
        defined = p_values[np.isfinite(p_values)]
        return float(np.mean(defined >= ALPHA)) if len(defined) else float("nan")

    p_values = neighborhood_p_values(read.indices, confounder)
    n = int(np.isfinite(p_values).sum())
    if n == 0:
        return [AuditResult.undefined(METRIC, "no image has a neighbour outside its own group", n=0, k=read.k)]
    low, high = jackknife(lambda keep: acceptance(confounder, keep), groups, seed=seed, within=(0, 1))
    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    chance = [acceptance(codes) for codes in permuted.first(EXPECTATION)] if permuted.varies else []
    note = f"share of neighbourhoods mixed as the whole, χ² test at {ALPHA:g}; 1: well mixed"
    expected = float(np.mean(chance)) if chance else None
    value = acceptance(confounder)
    return [AuditResult(METRIC, value, low, high, None, n, note, expected=expected, k=read.k, per_image=p_values)]


def neighborhood_p_values(indices: IntArray, codes: IntArray, keep: BoolArray | None = None) -> npt.NDArray[np.float64]:
    """χ² test of every neighbourhood's composition against that of all images.

    Parameters
    ----------
    indices
        ``(n, K)`` lists.
    codes
        ``(n,)`` the values.
    keep
        ``(n,)`` images that count, as image and as neighbour; all unless given.

    Returns
    -------
    ndarray
        ``(n,)`` p-values; NaN where no neighbour counts.
    """
    from scipy.special import chdtrc

    n, values = len(codes), int(codes.max()) + 1
    there = indices >= 0
    if keep is None:
        keep = np.ones(n, dtype=np.bool_)
    there &= keep[indices] & keep[:, None]
    share = np.bincount(codes[keep], minlength=values) / keep.sum()
    cell = np.arange(n)[:, None] * values + codes[indices]
    counts = np.bincount(cell[there], minlength=n * values).reshape(n, values)
    held = counts.sum(axis=1)
    expected = held[:, None] * share
    deviation: FloatArray = np.divide((counts - expected) ** 2, expected, out=np.zeros((n, values)), where=expected > 0)
    p_values: npt.NDArray[np.float64] = chdtrc(max(1, np.count_nonzero(share) - 1), deviation.sum(axis=1))
    return np.where(held > 0, p_values, np.nan)


AUDIT = Audit("kbet", kbet)
