"""How far an encoder moves an image when only its overlay is changed: the cause, not only the correlation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import cluster_bootstrap
from analysis.neighbors import unit_vectors
from analysis.results import AuditResult

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray

SHIFT = "shift"
# Cosine distances of float32 vectors below this are rounding.
_NO_DISTANCE = 1e-6
PER_CLASS_DISTANCE = "shift / distance between classes"
PER_DUPLICATE_DISTANCE = "shift / distance between duplicates"


@dataclass(frozen=True)
class References:
    """Distances that a shift is measured against; None, with the reason, where the data set has none."""

    between_classes: float | None
    between_duplicates: float | None

    @property
    def by_metric(self) -> dict[str, tuple[float | None, str]]:
        """What each relative metric divides by, and why it may be missing."""
        return {
            PER_CLASS_DISTANCE: (self.between_classes, "fewer than two classes"),
            PER_DUPLICATE_DISTANCE: (self.between_duplicates, "no near-duplicates in the data set"),
        }


def reference_distances(vectors: FloatArray, labels: IntArray, first: IntArray, second: IntArray) -> References:
    """Return the mean cosine distance of images of different classes, and of near-duplicates.

    Parameters
    ----------
    vectors
        ``(n, d)``.
    labels
        ``(n,)`` codes; -1 where unknown.
    first, second
        ``(p,)`` rows of pairs of near-duplicates.
    """
    unit = unit_vectors(vectors).astype(np.float64)
    known = labels >= 0
    sums = np.zeros((labels.max(initial=-1) + 1, unit.shape[1]))
    np.add.at(sums, labels[known], unit[known])
    counts = np.bincount(labels[known], minlength=len(sums)).astype(np.float64)
    pairs = counts.sum() ** 2 - (counts**2).sum()
    between = None
    if pairs > 0:
        # The sum of products over pairs of different classes: all pairs less those within a class.
        products = float(sums.sum(axis=0) @ sums.sum(axis=0) - (sums**2).sum())
        between = 1 - products / float(pairs)
    apart = 1 - np.einsum("ij,ij->i", unit[first], unit[second])
    return References(between, float(max(apart.mean(), 0)) if len(first) else None)


def measure_shift(
    before: FloatArray,
    after: FloatArray,
    groups: IntArray,
    references: References,
    *,
    seed: int,
    unmoved: str = "no image of the data set can be changed so",
) -> list[AuditResult]:
    """Return how far images moved, in itself and relative to the references.

    Parameters
    ----------
    before, after
        ``(m, d)`` vectors of the same images, unchanged and changed.
    groups
        ``(m,)`` codes; intervals resample whole groups. They are of the shift alone: the references are fixed.
    references
        What it is relative to.
    seed
        Seed of the resamples.
    unmoved
        Why no image was changed, where none was.
    """
    m = len(before)
    if not m:
        return [AuditResult.undefined(name, unmoved, n=0) for name in (SHIFT, *references.by_metric)]
    moved = 1 - np.einsum("ij,ij->i", unit_vectors(before), unit_vectors(after), dtype=np.float64)
    moved = np.maximum(moved, 0)
    interval = cluster_bootstrap(moved, groups, seed=seed)
    mean = float(moved.mean())
    results = [AuditResult(SHIFT, mean, interval.low, interval.high, None, m, "mean cosine distance")]
    for name, (reference, reason) in references.by_metric.items():
        if reference is not None and reference < _NO_DISTANCE:
            reason, reference = "the distance that it would be relative to is zero", None
        if reference is None:
            results.append(AuditResult.undefined(name, reason, n=m))
            continue
        low, high = (None if end is None else end / reference for end in interval)
        results.append(AuditResult(name, mean / reference, low, high, None, m, f"relative to {reference:.4g}"))
    return results
