"""Robustness index: which one neighbours follow where label and background disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import pair_bootstrap, ratio_of_sums
from analysis.permutation import permute_codes, permuted_agreement, upper_p_value
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.arrays import BoolArray, FloatArray, IntArray
    from analysis.neighbors import Neighbors
    from analysis.permutation import PermutedCodes

METRIC = "robustness_index"


def robustness_index(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Share of informative neighbours that agree in label rather than in background.

    ``ΣSO / (ΣSO + ΣOS)``, pooled over all images: SO neighbours have the same label and another
    background, OS neighbours another label and the same background.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, resampled for the interval and permuted as blocks for the p-value.
    k
        Largest neighbourhood. The one read is the odd size up to `k` whose k-NN vote has the best
        balanced accuracy on the labels (`select_k`).
    seed
        Seed of resamples and permutations.

    Returns
    -------
    list of AuditResult
        ``robustness_index`` in [0, 1] with the size read as `k`; p, from the background permuted within
        label, is small where neighbours follow the background more than chance would have it. Undefined
        where labels or background are constant, or no neighbour is informative.

    Raises
    ------
    ValueError
        If ``k > K``.

    References
    ----------
    PathoROB, arXiv:2507.17845, eq. 1; agrees with `croma.RI`.
    """
    n = len(labels)
    for codes, what in ((labels, "label"), (confounder, "background")):
        if len(np.unique(codes)) < 2:
            return [AuditResult.undefined(METRIC, f"all images share one {what}", n=n, k=k)]
    chosen = select_k(neighbors, labels, range(1, k + 1, 2))
    if chosen is None:
        return [AuditResult.undefined(METRIC, "no image has a neighbour outside its own group", n=0, k=k)]
    k, accuracy = chosen

    listed = neighbors.first(k).indices
    valid = listed >= 0
    same_label = labels[listed] == labels[:, None]
    same_background = confounder[listed] == confounder[:, None]
    so = valid & same_label & ~same_background
    os = valid & ~same_label & same_background
    informative = int(np.count_nonzero((so | os).any(axis=1)))
    if informative == 0:
        return [AuditResult.undefined(METRIC, "no neighbour is informative", n=0, k=k)]
    n_so, n_os = int(so.sum()), int(os.sum())
    value = n_so / (n_so + n_os)
    queries, _ = np.nonzero(so | os)
    low, high = pair_bootstrap(
        so[so | os].astype(np.float64),
        np.ones(len(queries)),
        groups[queries],
        groups[listed[so | os]],
        seed=seed,
    )

    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    chance = _permuted_index(permuted, listed, valid & same_label, valid & ~same_label)
    return [
        AuditResult(
            METRIC,
            value,
            low,
            high,
            # The lower tail: the more neighbours follow the background, the smaller the index.
            upper_p_value(-value, -chance) if len(chance) else None,
            informative,
            f"{n_so} SO and {n_os} OS neighbours; {informative} of {n} images have one; "
            f"k chosen by balanced accuracy {accuracy:.3f}; {permuted.describe()}",
            expected=float(chance.mean()) if len(chance) else None,
            k=k,
        )
    ]


def _permuted_index(
    permuted: PermutedCodes, listed: IntArray, same_label: BoolArray, other_label: BoolArray
) -> FloatArray:
    """Index under every permutation of the background that leaves a neighbour informative."""
    same_background = []
    for pairs in (same_label, other_label):
        queries, _ = np.nonzero(pairs)
        same_background.append(permuted_agreement(permuted, queries, listed[pairs], np.ones(len(queries))))
    so, os = same_label.sum() - same_background[0], same_background[1]
    index = ratio_of_sums(np.stack([so, so + os], axis=1))
    defined: FloatArray = index[~np.isnan(index)]
    return defined


def select_k(neighbors: Neighbors, labels: IntArray, candidates: Sequence[int]) -> tuple[int, float] | None:
    """Choose the neighbourhood whose majority vote has the best balanced accuracy.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with K no less than any candidate.
    labels
        ``(n,)`` codes.
    candidates
        Ascending sizes; the first of equals is taken. Odd ones spare two classes from tied votes.

    Returns
    -------
    tuple or None
        Size and its balanced accuracy; None where no image has a neighbour. Tied votes go to the class
        that appears first among the images, as in croma.
    """
    listed = neighbors.first(max(candidates)).indices
    has_neighbor = listed[:, 0] >= 0
    if not has_neighbor.any():
        return None
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    by_appearance = np.argsort(np.argsort(first))[codes]
    n_classes = len(first)
    truth = by_appearance[has_neighbor]
    per_class = np.bincount(truth, minlength=n_classes)
    votes = np.zeros((len(labels), n_classes), dtype=np.int32)
    best: tuple[int, float] | None = None
    for size in range(1, max(candidates) + 1):
        column = listed[:, size - 1]
        voting = np.flatnonzero(column >= 0)
        votes[voting, by_appearance[column[voting]]] += 1
        if size not in candidates:
            continue
        hit = votes[has_neighbor].argmax(axis=1) == truth
        correct = np.bincount(truth[hit], minlength=n_classes)
        accuracy = float((correct[per_class > 0] / per_class[per_class > 0]).mean())
        if best is None or accuracy > best[1]:
            best = (size, accuracy)
    return best


AUDIT = Audit("robustness", robustness_index)
