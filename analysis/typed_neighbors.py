"""Neighbours that share just one of label and background: the only ones that tell the two apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.results import AuditResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.arrays import BoolArray, FloatArray, IntArray
    from analysis.neighbors import Neighbors


@dataclass(frozen=True)
class TypedNeighbors:
    """The neighbours read, by what they share with the image.

    Attributes
    ----------
    neighbors
        Lists of the size chosen.
    accuracy
        Balanced accuracy of the k-NN vote at that size, which chose it.
    same_label, other_label
        ``(n, k)`` True where a neighbour has the image's label, or another; both False where the list has ended.
    so, os
        ``(n, k)`` same label and other background; other label and same background.
    """

    neighbors: Neighbors
    accuracy: float
    same_label: BoolArray
    other_label: BoolArray
    so: BoolArray
    os: BoolArray

    @property
    def k(self) -> int:
        """Neighbours read per image."""
        return self.neighbors.k

    @property
    def informative(self) -> BoolArray:
        """``(n,)`` True where an image has a neighbour of either type."""
        some: BoolArray = np.logical_or.reduce(self.so | self.os, axis=1)
        return some

    def describe(self) -> str:
        """Give support and choices, for a result's note."""
        return (
            f"{int(self.so.sum())} SO and {int(self.os.sum())} OS neighbours; {int(self.informative.sum())} of "
            f"{len(self.so)} images have one; k chosen by balanced accuracy {self.accuracy:.3f}"
        )


def type_neighbors(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, *, k: int, metric: str
) -> TypedNeighbors | AuditResult:
    """Choose how many neighbours to read, and sort them into types.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels, confounder
        ``(n,)`` codes.
    k
        Largest neighbourhood. The one read is the odd size up to `k` whose k-NN vote has the best balanced accuracy
        on the labels (`select_k`).
    metric
        What is to be measured.

    Returns
    -------
    TypedNeighbors or AuditResult
        The reason why `metric` is undefined, where labels or background are constant, no image has a neighbour or no
        neighbour is informative.

    Raises
    ------
    ValueError
        If ``k > K``.
    """
    n = len(labels)
    for codes, what in ((labels, "label"), (confounder, "background")):
        if len(np.unique(codes)) < 2:
            return AuditResult.undefined(metric, f"all images share one {what}", n=n, k=k)
    chosen = select_k(neighbors, labels, range(1, k + 1, 2))
    if chosen is None:
        return AuditResult.undefined(metric, "no image has a neighbour outside its own group", n=0, k=k)
    k, accuracy = chosen
    read = neighbors.first(k)
    valid = read.indices >= 0
    same_label = labels[read.indices] == labels[:, None]
    same_background = confounder[read.indices] == confounder[:, None]
    typed = TypedNeighbors(
        read,
        accuracy,
        same_label=valid & same_label,
        other_label=valid & ~same_label,
        so=valid & same_label & ~same_background,
        os=valid & ~same_label & same_background,
    )
    if not typed.informative.any():
        return AuditResult.undefined(metric, "no neighbour is informative", n=0, k=k)
    return typed


def share_of_so(so: FloatArray, os: FloatArray) -> FloatArray:
    """``so / (so + os)`` of each, NaN where both are 0."""
    total = so + os
    share: FloatArray = np.divide(so, total, out=np.full(len(total), np.nan), where=total > 0)
    return share


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
