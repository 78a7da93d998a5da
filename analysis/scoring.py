"""Accuracy, macro-F1 and balanced accuracy of held-out predictions, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import Interval, bootstrap_sums

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray

METRICS = ("accuracy", "macro_f1", "balanced_accuracy")


@dataclass(frozen=True)
class HeldOut:
    """Predictions for images that the predicting model was not fitted on.

    Attributes
    ----------
    row
        ``(m,)`` which image; an image may be predicted by several folds' models.
    fold, truth, predicted, group
        ``(m,)`` codes.
    """

    row: IntArray
    fold: IntArray
    truth: IntArray
    predicted: IntArray
    group: IntArray


@dataclass(frozen=True)
class Score:
    """One metric of one fold, or (`fold` None) its mean over folds with an interval."""

    fold: int | None
    metric: str
    value: float
    interval: Interval
    n: int


def classification_scores(confusion: FloatArray) -> FloatArray:
    """Score confusion counts.

    Parameters
    ----------
    confusion
        ``(..., classes, classes)`` counts, truth by prediction.

    Returns
    -------
    ndarray
        ``(..., 3)`` in the order of `METRICS`; NaN where there is no image. Macro-F1 and balanced accuracy
        average over the classes that occur in the truth, so that a part without some class is not scored
        zero on it; a class never predicted right has F1 0.

    References
    ----------
    `sklearn.metrics.f1_score` with `labels` the classes in the truth and ``zero_division=0``;
    `sklearn.metrics.balanced_accuracy_score`.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = truth > 0
    f1 = np.divide(2 * hits, truth + predicted, out=np.zeros(hits.shape), where=present)
    recall = np.divide(hits, truth, out=np.zeros(hits.shape), where=present)
    sums = np.stack([hits.sum(axis=-1), f1.sum(axis=-1), recall.sum(axis=-1)], axis=-1)
    counts = np.stack([truth.sum(axis=-1), present.sum(axis=-1), present.sum(axis=-1)], axis=-1)
    scores: FloatArray = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=scores, where=counts > 0)
    return scores


def score_held_out(held_out: HeldOut, *, n_classes: int, n_folds: int, seed: int) -> list[Score]:
    """Score every fold, and the mean over folds.

    The interval is that of the mean over folds: groups are drawn with replacement from all held-out
    predictions, and every draw scores each fold anew. It covers which images were seen, not what another
    training set would have changed.

    Parameters
    ----------
    held_out
        Predictions; folds without any are skipped.
    n_classes, n_folds
        Classes and folds of the probe.
    seed
        Seed of the draws.

    Returns
    -------
    list of Score
        Per fold and metric, then one summary per metric. Empty without predictions.
    """
    if len(held_out.row) == 0:
        return []
    from scipy.sparse import coo_matrix

    shape = (n_folds, n_classes, n_classes)
    cell = np.ravel_multi_index((held_out.fold, held_out.truth, held_out.predicted), shape)
    _, group = np.unique(held_out.group, return_inverse=True)
    # Sparse: a group's images fall into few of the cells.
    sums = coo_matrix((np.ones(len(cell)), (group, cell)), shape=(group.max() + 1, np.prod(shape))).tocsr()

    def mean_over_folds(drawn: FloatArray) -> FloatArray:
        return _mean_defined(classification_scores(drawn.reshape(-1, *shape)))

    by_fold = classification_scores(np.bincount(cell, minlength=np.prod(shape)).reshape(shape).astype(np.float64))
    n_by_fold = np.bincount(held_out.fold, minlength=n_folds)
    scores = [
        Score(fold, metric, float(by_fold[fold, column]), Interval(None, None), int(n_by_fold[fold]))
        for fold in np.flatnonzero(n_by_fold).tolist()
        for column, metric in enumerate(METRICS)
    ]
    n_images = np.unique(held_out.row).size
    summary = _mean_defined(by_fold[None])[0]
    intervals = bootstrap_sums(sums, mean_over_folds, seed=seed)
    scores += [
        Score(None, metric, float(summary[column]), intervals[column], n_images)
        for column, metric in enumerate(METRICS)
    ]
    return scores


def _mean_defined(scores: FloatArray) -> FloatArray:
    """Mean over axis 1 of the values that are not NaN; NaN where none is."""
    defined = ~np.isnan(scores)
    total, count = np.where(defined, scores, 0).sum(axis=1), defined.sum(axis=1)
    mean: FloatArray = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
