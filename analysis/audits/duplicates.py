"""Near duplicates outside an image's group, and those that carry another label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import cluster_bootstrap
from analysis.near_duplicates import near_duplicates
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors

METRICS = ("near_duplicates", "near_duplicates_across_labels")


def duplicates(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Share of images with a near duplicate that groups do not know of.

    Such pairs straddle splits that keep groups together, and make neighbours agree. The threshold is that of
    `near_duplicates`: a share of the data set's own median nearest-neighbour distance under this encoder.

    Parameters
    ----------
    neighbors
        ``(n, K)``; self and own group left out.
    labels
        ``(n,)`` codes.
    confounder
        Not read.
    groups
        ``(n,)`` group codes, resampled for the interval.
    k
        Not read.
    seed
        Seed of resamples.

    Returns
    -------
    list of AuditResult
        ``near_duplicates`` and ``near_duplicates_across_labels``: of such a pair one label is wrong, or the encoder
        sees no difference. Per image, the distance to the nearest neighbour over the threshold.
    """
    found = near_duplicates(neighbors)
    n = len(labels)
    if found is None:
        reason = "no image has a neighbour outside its own group"
        return [AuditResult.undefined(metric, reason, n=0) for metric in METRICS]
    across = labels[found.left] != labels[found.right]
    results = []
    for metric, pairs in zip(METRICS, (np.ones_like(across), across), strict=True):
        flagged = np.zeros(n)
        flagged[found.left[pairs]] = flagged[found.right[pairs]] = 1
        low, high = cluster_bootstrap(flagged, groups, seed=seed)
        note = f"{int(pairs.sum())} pairs nearer than {found.threshold:.3g}"
        per_image = None
        if metric == METRICS[0] and found.threshold > 0:
            nearest = neighbors.distances[:, 0].astype(np.float64)
            per_image = np.where(np.isfinite(nearest), nearest / found.threshold, np.nan)
        results.append(AuditResult(metric, float(flagged.mean()), low, high, None, n, note, per_image=per_image))
    return results


AUDIT = Audit("duplicates", duplicates, reads_confounder=False)
