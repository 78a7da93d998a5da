"""Leakage: how much of a neighbourhood would be the image's own group, were groups not left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import cluster_bootstrap
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray
    from analysis.neighbors import Neighbors
    from analysis.space import Space

# Distances held at once: 32 MB, however large a group.
_BLOCK_ELEMENTS = 2**22
METRICS = ("same_group_first", "same_group_share")


def leakage(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int, space: Space
) -> list[AuditResult]:
    """Share of neighbours of the image's own group (patient, slide, copies) before groups are left out.

    A random split puts group mates on both sides; where they are near one another, a score over such a split is of
    recognising the patient. Read of images with a group mate only.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out. The lists with the group in them follow from these and
        the distances within groups, without another search.
    labels, confounder
        Not read.
    groups
        ``(n,)`` group codes, resampled for the interval.
    k
        Neighbours read per image.
    seed
        Seed of resamples.
    space
        The vectors.

    Returns
    -------
    list of AuditResult
        ``same_group_first``: share of images whose nearest neighbour is of their group. ``same_group_share``: of the
        places in the k-neighbour lists that group mates could fill, the share they do fill. `expected` is what
        neighbours drawn at random would give.

    Raises
    ------
    ValueError
        If ``k > K``.

    References
    ----------
    Bussola et al., AI slipping on tiles (2021): what a slide's tiles on both sides of a split do to a score.
    """
    n = len(groups)
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    mates = sizes[codes] - 1
    rows = np.flatnonzero(mates > 0)
    if len(rows) == 0:
        return [AuditResult.undefined(metric, "every image is a group of its own", n=0, k=k) for metric in METRICS]
    others = neighbors.first(k).distances.astype(np.float64)
    within, first = count_mates(space.unit, codes, others)
    possible = np.minimum(mates, k)
    note = f"{len(rows)} images with a group mate, {int(np.sum(sizes > 1))} groups of {int(sizes.max())} at most"
    results = []
    for metric, values, ceiling, chance in (
        ("same_group_first", first, np.ones(n), mates / (n - 1)),
        ("same_group_share", within, possible.astype(np.float64), k * mates / (n - 1)),
    ):
        value = float(values[rows].sum() / ceiling[rows].sum())
        low, high = cluster_bootstrap(values[rows], groups[rows], seed=seed, denominators=ceiling[rows])
        expected = float(np.minimum(chance, ceiling)[rows].sum() / ceiling[rows].sum())
        per_image = np.where(mates > 0, values / np.maximum(ceiling, 1), np.nan)
        results.append(
            AuditResult(metric, value, low, high, None, len(rows), note, expected=expected, k=k, per_image=per_image)
        )
    return results


def count_mates(
    unit: npt.NDArray[np.float32], codes: IntArray, others: FloatArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Count the group mates among the nearest of all images.

    Parameters
    ----------
    unit
        ``(n, d)`` rows of length one.
    codes
        ``(n,)`` groups, codes from 0 without gaps.
    others
        ``(n, k)`` ascending distances of the nearest neighbours outside the group, inf where there is none.

    Returns
    -------
    tuple of ndarray
        ``(n,)`` mates among the k nearest, a mate before a stranger at the same distance; ``(n,)`` 1 where the very
        nearest is a mate.
    """
    n, k = others.shape
    within, first = np.zeros(n), np.zeros(n)
    order = np.argsort(codes, kind="stable")
    for members in np.split(order, np.cumsum(np.bincount(codes))[:-1]):
        if len(members) < 2:
            continue
        at_once = max(1, _BLOCK_ELEMENTS // len(members))
        for start in range(0, len(members), at_once):
            images = members[start : start + at_once]
            # Rounded as in the lists, so that copies tie.
            distances = np.maximum(0, 1 - unit[images] @ unit[members].T).astype(np.float64)
            distances[np.arange(len(images)), start + np.arange(len(images))] = np.inf
            distances.sort(axis=1)
            for image, mates in zip(images, distances[:, :-1], strict=True):
                place = np.searchsorted(others[image], mates, side="left") + np.arange(len(mates))
                within[image] = np.count_nonzero(place < k)
                first[image] = place[0] == 0
    return within, first


AUDIT = Audit("leakage", space_function=leakage, reads_confounder=False)
