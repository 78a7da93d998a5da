"""Principal component regression: how much of the variance of the features the background explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.jackknife import jackknife
from analysis.permutation import EXPECTATION, permute_codes
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors
    from analysis.space import Space

METRIC = "pcr"


def pcr(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int, space: Space
) -> list[AuditResult]:
    """Share of the features' variance that the background explains, over all principal components.

    ``Σ_pc R²_pc var_pc / Σ_pc var_pc``, R² from regressing a component on the background.

    Parameters
    ----------
    neighbors
        Not read.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, left out in blocks for the interval and permuted as blocks.
    k
        Not read.
    seed
        Seed of blocks and permutations.
    space
        The vectors, of length one.

    Returns
    -------
    list of AuditResult
        ``pcr`` in [0, 1]; `expected` is its mean with the background permuted within label, above 0 in a finite sample.

    References
    ----------
    Büttner et al., Nat. Methods 16 (2019); agrees with `scib_metrics.utils.principal_component_regression`.
    """
    n = len(labels)
    if len(np.unique(confounder)) < 2:
        return [AuditResult.undefined(METRIC, "all images share one background", n=n)]
    value = explained_variance(space.unit, confounder)
    if np.isnan(value):
        return [AuditResult.undefined(METRIC, "the features do not vary", n=n)]
    low, high = jackknife(
        lambda keep: explained_variance(space.unit[keep], confounder[keep]), groups, seed=seed, within=(0, 1)
    )
    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    chance = [explained_variance(space.unit, codes) for codes in permuted.first(EXPECTATION)]
    note = "share of the variance of unit-length features"
    expected = float(np.mean(chance)) if permuted.varies else None
    return [AuditResult(METRIC, value, low, high, None, n, note, expected=expected)]


def explained_variance(unit: npt.NDArray[np.float32], codes: IntArray) -> float:
    """Variance between groups of rows as a share of the whole; NaN where there is none.

    Weighting the R² of each principal component by its variance adds up the sums of squares between groups over all
    components, and a rotation does not change that sum: no component is ever computed.
    """
    _, codes, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    n = len(codes)
    if n < 2:
        return float("nan")
    member = np.zeros((len(sizes), n), dtype=np.float32)
    member[codes, np.arange(n)] = 1 / sizes[codes]
    means = (member @ unit).astype(np.float64)
    mean = sizes @ means / n
    between = float(sizes @ ((means - mean) ** 2).sum(axis=1))
    total = float(np.einsum("ij,ij->", unit, unit, dtype=np.float64)) - n * float(mean @ mean)
    return min(1.0, between / total) if total > 1e-9 * n else float("nan")


AUDIT = Audit("pcr", space_function=pcr)
