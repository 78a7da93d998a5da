"""Scores that read the order of images by a logit: area under the ROC curve, average precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import LEVEL, Interval, bootstrap_sums
from analysis.scoring import macro_auroc, mean_defined

if TYPE_CHECKING:
    from analysis.arrays import BoolArray, FloatArray, IntArray

# An average precision is no function of sums, and is computed anew for each.
RESAMPLES = 200


def binary_auroc(true: BoolArray, logits: FloatArray, groups: IntArray, *, seed: int) -> tuple[float, Interval]:
    """Area under the ROC curve of one label ``(n,)``, NaN where all or none have it; interval over resampled groups."""
    area, influence = macro_auroc(true.astype(np.int64), np.stack([-logits, logits], axis=1))
    _, code = np.unique(groups, return_inverse=True)
    [interval] = bootstrap_sums(
        np.bincount(code, influence)[:, None], lambda drawn: np.clip(area + drawn, 0, 1), seed=seed
    )
    return area, interval


def average_precisions(
    true: BoolArray, logits: FloatArray, groups: IntArray, *, seed: int
) -> tuple[FloatArray, list[Interval], float, Interval]:
    """Average precision of each label, and their mean over the labels that occur.

    Parameters
    ----------
    true, logits
        ``(n, labels)``.
    groups
        ``(n,)`` codes, resampled for the intervals.
    seed
        Seed of the resamples.

    Returns
    -------
    ndarray, list of Interval, float, Interval
        ``(labels,)`` values, NaN for a label that no image has, and their intervals; the mean, and its interval.

    References
    ----------
    `sklearn.metrics.average_precision_score`.
    """
    _, code = np.unique(groups, return_inverse=True)
    n_groups = int(code.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, n_groups, size=(RESAMPLES, n_groups)) + np.arange(RESAMPLES)[:, None] * n_groups
    weights = np.bincount(drawn.ravel(), minlength=RESAMPLES * n_groups).reshape(RESAMPLES, n_groups)[:, code]
    # The first row is the images as they are.
    whole = np.concatenate([np.ones((1, len(code))), weights])
    values = np.stack([_weighted(true[:, i], logits[:, i], whole) for i in range(true.shape[1])], axis=1)
    mean = mean_defined(values[:, :, None])[:, 0]
    intervals = [_percentiles(column[1:], n_groups) for column in values.T]
    return values[0], intervals, float(mean[0]), _percentiles(mean[1:], n_groups)


def _weighted(true: BoolArray, logits: FloatArray, weights: FloatArray) -> FloatArray:
    """Average precision ``(r,)`` under each row of weights ``(r, n)``; NaN where no image with the label has weight."""
    order = np.argsort(-logits, kind="stable")
    # Equal logits enter together, at the last of them.
    last = np.flatnonzero(np.append(np.diff(logits[order]) != 0, True))
    ordered = weights[:, order]
    hits = np.cumsum(ordered * true[order], axis=1)[:, last]
    seen = np.cumsum(ordered, axis=1)[:, last]
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    gained = (np.diff(hits, axis=1, prepend=0) * precision).sum(axis=1)
    precisions: FloatArray = np.full(len(weights), np.nan)
    np.divide(gained, hits[:, -1], out=precisions, where=hits[:, -1] > 0)
    return precisions


def _percentiles(values: FloatArray, n_groups: int) -> Interval:
    defined = values[np.isfinite(values)]
    if n_groups < 2 or len(defined) < len(values) / 2:
        return Interval(None, None)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
