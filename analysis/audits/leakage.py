"""Leakage: how much of a neighbourhood would be the image's own group, were groups not left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import cluster_bootstrap
from analysis.neighbors import first_copies
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray
    from analysis.neighbors import Neighbors
    from analysis.space import Space

# Distances held at once: 32 MB, however large a group.
_BLOCK_ELEMENTS = 2**22


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
    return leakage_by("group", neighbors, groups, groups, k=k, seed=seed, space=space)


def leakage_by(
    column: str, neighbors: Neighbors, values: IntArray, groups: IntArray, *, k: int, seed: int, space: Space
) -> list[AuditResult]:
    """Return `leakage` of one of the columns that groups are made of: by patient, say, and by slide.

    Parameters
    ----------
    column
        Its name, for those of the metrics: ``same_{column}_first`` and ``same_{column}_share``.
    neighbors
        As `leakage`; `groups` are left out, not `values` alone.
    values
        ``(n,)`` codes; negative is unknown, and an image's own. Images that share one are of one group.
    groups, k, seed, space
        As `leakage`.
    """
    n = len(groups)
    metrics = (f"same_{column}_first", f"same_{column}_share")
    own = np.where(values < 0, values.max(initial=0) + 1 + np.arange(n), values)
    _, codes, sizes = np.unique(own, return_inverse=True, return_counts=True)
    mates = sizes[codes] - 1
    rows = np.flatnonzero(mates > 0)
    if len(rows) == 0:
        return [AuditResult.undefined(metric, f"every image is a {column} of its own", n=0, k=k) for metric in metrics]
    others = neighbors.first(k).distances.astype(np.float64)
    within, first = count_mates(space.unit, np.unique(groups, return_inverse=True)[1], others, codes)
    possible = np.minimum(mates, k)
    note = f"{len(rows)} images with a {column} mate, {int(np.sum(sizes > 1))} {column}s of {int(sizes.max())} at most"
    results = []
    for metric, counts, ceiling, chance in (
        (metrics[0], first, np.ones(n), mates / (n - 1)),
        (metrics[1], within, possible.astype(np.float64), k * mates / (n - 1)),
    ):
        value = float(counts[rows].sum() / ceiling[rows].sum())
        low, high = cluster_bootstrap(counts[rows], groups[rows], seed=seed, denominators=ceiling[rows])
        expected = float(np.minimum(chance, ceiling)[rows].sum() / ceiling[rows].sum())
        per_image = np.where(mates > 0, counts / np.maximum(ceiling, 1), np.nan)
        results.append(
            AuditResult(metric, value, low, high, None, len(rows), note, expected=expected, k=k, per_image=per_image)
        )
    return results


def count_mates(
    unit: npt.NDArray[np.float32], groups: IntArray, others: FloatArray, values: IntArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Count the mates among the nearest of all images.

    Parameters
    ----------
    unit
        ``(n, d)`` rows of length one.
    groups
        ``(n,)`` groups, codes from 0 without gaps.
    others
        ``(n, k)`` ascending distances of the nearest neighbours outside the group, inf where there is none.
    values
        ``(n,)`` codes; images of one code are mates, and of one group.

    Returns
    -------
    tuple of ndarray
        ``(n,)`` mates among the k nearest, a mate before a stranger at the same distance; ``(n,)`` 1 where the very
        nearest is a mate.
    """
    n, k = others.shape
    within, first = np.zeros(n), np.zeros(n)
    first_copy = first_copies(unit)
    order = np.argsort(groups, kind="stable")
    for members in np.split(order, np.cumsum(np.bincount(groups))[:-1]):
        if len(members) < 2:
            continue
        at_once = max(1, _BLOCK_ELEMENTS // len(members))
        for start in range(0, len(members), at_once):
            images = members[start : start + at_once]
            distances = np.maximum(0, 1 - unit[images] @ unit[members].T).astype(np.float64)
            # As in the lists, so that copies tie.
            distances[first_copy[images][:, None] == first_copy[members][None, :]] = 0
            mate = values[images][:, None] == values[members][None, :]
            distances[np.arange(len(images)), start + np.arange(len(images))] = np.inf
            for image, row, mine in zip(images, distances, mate, strict=True):
                # The image itself is the last of its mates, at infinity.
                mates, rest = np.sort(row[mine])[:-1], np.sort(row[~mine])
                if not len(mates):
                    continue
                nearer = np.searchsorted(others[image], mates, side="left") + np.searchsorted(rest, mates, side="left")
                place = nearer + np.arange(len(mates))
                within[image] = np.count_nonzero(place < k)
                first[image] = place[0] == 0
    return within, first


AUDIT = Audit("leakage", space_function=leakage, reads_confounder=False)
