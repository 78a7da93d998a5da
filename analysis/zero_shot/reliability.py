"""Whether probabilities are as often right as they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.bootstrap import Interval, bootstrap_sums

if TYPE_CHECKING:
    from analysis.arrays import BoolArray, FloatArray, IntArray

BINS = 15


class Bin(NamedTuple):
    """Predictions whose confidence lies in ``[low, high)``, the last bin's upper end included; their two means."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def calibration_error(
    confidence: FloatArray, right: BoolArray, groups: IntArray, *, seed: int, bins: int = BINS
) -> tuple[float, Interval, list[Bin]]:
    """Measure the expected calibration error: the mean distance of confidence and accuracy, over bins by their size.

    Parameters
    ----------
    confidence
        ``(n,)`` in [0, 1].
    right
        ``(n,)`` whether what was predicted with that confidence is so.
    groups
        ``(n,)`` codes, resampled for the interval.
    seed
        Seed of the resamples.
    bins
        How many, of one width.

    Returns
    -------
    float, Interval, list of Bin
        The error, its interval over resampled groups (which is biased upwards where bins hold few: noise counts as
        distance), and the bins that are not empty.

    References
    ----------
    Guo et al., arXiv:1706.04599; `torchmetrics.classification.MulticlassCalibrationError` with ``norm="l1"``.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    _, code = np.unique(groups, return_inverse=True)
    cell = code * bins + place
    size = (int(code.max()) + 1) * bins
    counted = [np.bincount(cell, weights, minlength=size) for weights in (np.ones(len(cell)), confidence, right)]
    sums = np.stack(counted, axis=-1).reshape(-1, bins * 3)

    def error(drawn: FloatArray) -> FloatArray:
        n, confident, correct = np.moveaxis(drawn.reshape(-1, bins, 3), -1, 0)
        return (np.abs(confident - correct).sum(axis=1) / n.sum(axis=1))[:, None]  # type: ignore[no-any-return]

    total = sums.sum(axis=0)
    [interval] = bootstrap_sums(sums, error, seed=seed)
    found = [
        Bin(float(edges[i]), float(edges[i + 1]), int(n), float(confident / n), float(correct / n))
        for i, (n, confident, correct) in enumerate(total.reshape(bins, 3).tolist())
        if n
    ]
    return float(error(total[None])[0, 0]), interval, found
