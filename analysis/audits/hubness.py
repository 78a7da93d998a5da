"""Hubness: whether a few images are everybody's neighbours, and many nobody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.jackknife import jackknife
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, IntArray
    from analysis.neighbors import Neighbors

METRICS = ("hubness_skewness", "hubness_robin_hood", "hubness_orphans")
# Leaving out groups makes orphans of images that were none: such an interval held the truth in 44 to 77 of 100 sets.
WITHOUT_INTERVAL = ("hubness_orphans",)


def hubness(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """How unevenly images occur in the lists of others.

    With N_i the lists of k neighbours that image i is in: skewness of N; the Robin Hood index
    ``Σ |N_i - mean| / (2 Σ N_i)``, the share of places to be dealt out anew for all to be even; and orphans, the share
    of images in no list. Where a few hubs fill most lists, shares of neighbours rest on those few images.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels, confounder
        Not read.
    groups
        ``(n,)`` group codes, left out in blocks for the interval.
    k
        Neighbours read per image.
    seed
        Seed of the blocks.

    Returns
    -------
    list of AuditResult
        ``hubness_skewness``, ``hubness_robin_hood``, ``hubness_orphans``; per image, N.

    Raises
    ------
    ValueError
        If ``k > K``.

    References
    ----------
    Radovanović et al., JMLR 11 (2010), skewness of k-occurrences; Feldbauer et al., ICBK (2018), Robin Hood index.
    """
    listed = neighbors.first(k).indices
    if not (listed >= 0).any():
        return [
            AuditResult.undefined(metric, "no image has a neighbour outside its own group", n=0, k=k)
            for metric in METRICS
        ]
    n = len(listed)
    counts = occurrences(listed)
    hub = int(counts.max())
    note = f"the foremost hub is in {hub} of {n} lists"
    results = []
    for metric in METRICS:
        value = unevenness(counts, metric)
        if np.isnan(value):
            results.append(AuditResult.undefined(metric, "all images occur equally often", n=n, k=k))
            continue

        def among(keep: BoolArray, metric: str = metric) -> float:
            return unevenness(occurrences(listed, keep)[keep], metric)

        within = (-np.inf, np.inf) if metric == METRICS[0] else (0, 1)
        low, high = (None, None) if metric in WITHOUT_INTERVAL else jackknife(among, groups, seed=seed, within=within)
        per_image = counts.astype(np.float64) if metric == METRICS[0] else None
        results.append(AuditResult(metric, value, low, high, None, n, note, k=k, per_image=per_image))
    return results


def occurrences(listed: IntArray, keep: BoolArray | None = None) -> IntArray:
    """In how many lists each image is, ``(n,)``; with `keep`, of the lists of kept images."""
    rows = listed if keep is None else listed[keep]
    return np.bincount(rows[rows >= 0], minlength=len(listed))


def unevenness(counts: npt.NDArray[np.int64], metric: str) -> float:
    """One of the metrics of occurrences ``(n,)``; NaN where skewness has none, as all are equal."""
    if metric == "hubness_orphans":
        return float(np.mean(counts == 0))
    deviation = counts - counts.mean()
    if metric == "hubness_robin_hood":
        return float(np.abs(deviation).sum() / (2 * counts.sum()))
    spread = float(np.sqrt(np.mean(deviation**2)))
    return float(np.mean(deviation**3) / spread**3) if spread > 0 else float("nan")


AUDIT = Audit("hubness", hubness, reads_confounder=False)
