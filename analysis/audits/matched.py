"""Matched neighbours: background among images of one label, and label among images of one background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.agreement import neighbor_agreement
from analysis.neighbors import Neighbors, nearest_among
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    from analysis.arrays import IntArray
    from analysis.space import Space

METRICS = ("background_within_label", "label_within_background")


def matched(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int, space: Space
) -> list[AuditResult]:
    """Agreement in one of label and background among images that share the other.

    However closely the two go together in the data, among images of one label the background cannot stand in for the
    label, nor the label for the background among images of one background. Neighbours are searched among those images
    alone; strata that do not vary say nothing and are left out.

    Parameters
    ----------
    neighbors
        Not read.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, left out of lists, resampled for the interval and permuted as blocks.
    k
        Neighbours read per image, or as many as the smallest stratum has.
    seed
        Seed of resamples and permutations.
    space
        The vectors.

    Returns
    -------
    list of AuditResult
        ``background_within_label`` and ``label_within_background``; `expected` is the mean over permutations within the
        stratum. There is no p-value: `confounder_agreement` tests the same hypothesis, and one test of it is enough.
    """
    return [
        _among_strata(METRICS[0], space, confounder, labels, groups, k=k, seed=seed, what="background", of="label"),
        _among_strata(METRICS[1], space, labels, confounder, groups, k=k, seed=seed, what="label", of="background"),
    ]


def _among_strata(
    metric: str,
    space: Space,
    codes: IntArray,
    strata: IntArray,
    groups: IntArray,
    *,
    k: int,
    seed: int,
    what: str,
    of: str,
) -> AuditResult:
    low, high = (
        np.full(int(strata.max(initial=0)) + 1, np.iinfo(np.int64).max),
        np.zeros(int(strata.max(initial=0)) + 1),
    )
    np.minimum.at(low, strata, codes)
    np.maximum.at(high, strata, codes)
    rows = np.flatnonzero((low < high)[strata])
    if len(rows) == 0:
        return AuditResult.undefined(metric, f"no {of} occurs with two {what}s", n=0, k=k)
    lists = nearest_among(space.unit[rows], strata[rows], k, groups=groups[rows])
    found = neighbor_agreement(
        lists, codes[rows], groups[rows], metric=metric, k=k, seed=seed, within=strata[rows], tested=False
    )
    if found.value is None:
        return found
    per_image = np.full(len(codes), np.nan)
    if found.per_image is not None:
        per_image[rows] = found.per_image
    kept = f"{len(np.unique(strata[rows]))} of {len(np.unique(strata))} {of}s vary in {what}"
    return AuditResult(
        metric,
        found.value,
        found.ci_low,
        found.ci_high,
        None,
        found.n,
        f"{kept}; {found.note}",
        expected=found.expected,
        k=k,
        per_image=per_image,
    )


AUDIT = Audit("matched", space_function=matched)
