"""Batch silhouette and BRAS: whether images of one label lie apart by background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.jackknife import jackknife
from analysis.permutation import EXPECTATION, permute_codes
from analysis.results import Audit, AuditResult
from analysis.space import silhouette

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, IntArray
    from analysis.neighbors import Neighbors
    from analysis.space import Space

# Metric → to which other clusters the distance is taken.
METRICS = {"batch_silhouette": "nearest", "bras": "mean"}


def batch_silhouettes(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int, space: Space
) -> list[AuditResult]:
    """How little the images of a label lie apart by background, over all distances and not only the nearest.

    For each label ``mean_i (1 - |s_i|)`` with s the cosine silhouette of the background among the label's images, then
    the mean over labels: 1 where backgrounds lie in one another. The batch silhouette compares with the nearest other
    background, BRAS with all others together, which nested backgrounds do not mislead.

    Parameters
    ----------
    neighbors
        Not read.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, left out in blocks for the interval and permuted as blocks. Distances within a group
        count, as in the reference.
    k
        Not read.
    seed
        Seed of blocks and permutations.
    space
        The vectors.

    Returns
    -------
    list of AuditResult
        ``batch_silhouette`` and ``bras``; `expected` is the mean with the background permuted within label. Labels with
        one background only say nothing and are left out.

    References
    ----------
    Luecken et al., Nat. Methods 19 (2022); Rautenstrauch & Ohler, Nat. Biotechnol. (2025). Agrees with
    `scib_metrics.silhouette_batch` (cosine) and `scib_metrics.bras`.
    """
    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    results = []
    for metric, others in METRICS.items():
        widths = mixing(space.unit, labels, confounder, others=others)
        n = int(np.isfinite(widths).sum())
        if n == 0:
            reason = "no label occurs with two backgrounds, on more images than backgrounds"
            results.append(AuditResult.undefined(metric, reason, n=0))
            continue

        def among(keep: BoolArray, others: str = others) -> float:
            kept = mixing(space.unit[keep], labels[keep], confounder[keep], others=others)
            return mean_over_labels(kept, labels[keep])

        low, high = jackknife(among, groups, seed=seed, within=(0, 1))
        chance = [
            mean_over_labels(mixing(space.unit, labels, codes, others=others), labels)
            for codes in permuted.first(EXPECTATION)
        ]
        used = len(np.unique(labels[np.isfinite(widths)]))
        note = f"mean over {used} of {len(np.unique(labels))} labels; 1: backgrounds lie in one another"
        results.append(
            AuditResult(
                metric,
                mean_over_labels(widths, labels),
                low,
                high,
                None,
                n,
                note,
                expected=float(np.mean(chance)) if permuted.varies else None,
                per_image=widths,
            )
        )
    return results


def mixing(
    unit: npt.NDArray[np.float32], labels: IntArray, confounder: IntArray, *, others: str
) -> npt.NDArray[np.float64]:
    """``1 - |s|`` of every image among those of its label, ``(n,)``; NaN where the label has no two backgrounds."""
    widths = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if 1 < len(np.unique(confounder[rows])) < len(rows):
            widths[rows] = 1 - np.abs(silhouette(unit[rows], confounder[rows], others=others))
    return widths


def mean_over_labels(widths: npt.NDArray[np.float64], labels: IntArray) -> float:
    """Mean over labels of the mean over their images; NaN where no label has any."""
    defined = np.isfinite(widths)
    if not defined.any():
        return float("nan")
    counts = np.bincount(labels[defined])
    sums = np.bincount(labels[defined], widths[defined])
    return float((sums[counts > 0] / counts[counts > 0]).mean())


AUDIT = Audit("silhouette", space_function=batch_silhouettes)
