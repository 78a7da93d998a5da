"""Accuracy, F1, balanced accuracy and AUROC of held-out predictions, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.bootstrap import Interval, bootstrap_sums

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray

METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "weighted_f1", "auroc")
CLASS_METRICS = ("precision", "recall", "f1")


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
    """One metric of one fold, or (`fold` None) its mean over folds with an interval; `value` None where undefined."""

    fold: int | None
    metric: str
    value: float | None
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
        ``(..., 3)``, the first three of `METRICS`; NaN where there is no image. Macro-F1 and balanced accuracy
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


def class_scores(confusion: FloatArray) -> FloatArray:
    """Score each class of confusion counts.

    Parameters
    ----------
    confusion
        ``(..., classes, classes)`` counts, truth by prediction.

    Returns
    -------
    ndarray
        ``(..., classes, 3)`` in the order of `CLASS_METRICS`; NaN for a class that does not occur, and for the
        precision of one that is never predicted.

    References
    ----------
    `sklearn.metrics.precision_recall_fscore_support`.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    present = truth > 0
    scores: FloatArray = np.full((*hits.shape, 3), np.nan)
    np.divide(hits, predicted, out=scores[..., 0], where=present & (predicted > 0))
    np.divide(hits, truth, out=scores[..., 1], where=present)
    np.divide(2 * hits, truth + predicted, out=scores[..., 2], where=present)
    return scores


def weighted_f1(confusion: FloatArray) -> FloatArray:
    """F1 of each class weighted by how often it is true: ``(..., classes, classes)`` counts to ``(...)``.

    NaN where there is no image. Agrees with `sklearn.metrics.f1_score` with ``average="weighted"``.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    f1 = np.divide(2 * hits, truth + predicted, out=np.zeros(hits.shape), where=truth > 0)
    total = truth.sum(axis=-1)
    scores: FloatArray = np.full(total.shape, np.nan)
    np.divide((truth * f1).sum(axis=-1), total, out=scores, where=total > 0)
    return scores


def macro_auroc(truth: IntArray, decisions: FloatArray) -> tuple[float, FloatArray]:
    """Area under the ROC curve, one class against the rest, averaged over the classes that occur.

    Parameters
    ----------
    truth
        ``(m,)`` codes.
    decisions
        ``(m, classes)`` decision values; ties count half.

    Returns
    -------
    float
        NaN where fewer than two classes occur.
    ndarray
        ``(m,)`` influence of each image; to first order the area changes by the sum of these, each times how
        much the weight of its image exceeds 1. They sum to 0.

    References
    ----------
    Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 53 (1997).
    """
    from scipy.stats import rankdata

    present = np.unique(truth)
    influence = np.zeros(len(truth))
    if len(present) < 2:
        return float("nan"), influence
    areas = []
    for code in present.tolist():
        values = decisions[:, code]
        rank = rankdata(values)
        positive = truth == code
        # How many images of the other side lie below each image.
        below = [rank[side] - rankdata(values[side]) for side in (positive, ~positive)]
        won = below[0] / (~positive).sum(), 1 - below[1] / positive.sum()
        areas.append(float(won[0].mean()))
        for side, share in zip((positive, ~positive), won, strict=True):
            influence[side] += (share - areas[-1]) / (len(share) * len(present))
    return float(np.mean(areas)), influence


def score_held_out(
    held_out: HeldOut, *, n_classes: int, n_folds: int, seed: int, decisions: FloatArray | None = None
) -> list[Score]:
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
    decisions
        ``(m, n_classes)`` decision values of the predictions; without them there is no AUROC. Its interval takes
        it as linear in the weights of groups.

    Returns
    -------
    list of Score
        Per fold and metric, then one summary per metric. Empty without predictions.
    """
    if len(held_out.row) == 0:
        return []
    shape = (n_folds, n_classes, n_classes)
    sums = _sums_by_group(held_out, shape)

    def mean_over_folds(drawn: FloatArray) -> FloatArray:
        return mean_defined(_confusion_scores(drawn.reshape(-1, *shape)))

    by_fold = _confusion_scores(_total(sums, shape))
    n_by_fold = np.bincount(held_out.fold, minlength=n_folds)
    intervals = bootstrap_sums(sums, mean_over_folds, seed=seed)
    metrics = METRICS[: by_fold.shape[1]]
    if decisions is not None:
        _, group = np.unique(held_out.group, return_inverse=True)
        areas, influence = _auroc_by_fold(held_out, decisions, n_folds)
        mean = mean_defined(areas[None, :, None])[0, 0]
        intervals += bootstrap_sums(
            np.bincount(group, influence)[:, None], lambda drawn: np.clip(mean + drawn, 0, 1), seed=seed
        )
        by_fold = np.column_stack([by_fold, areas])
        metrics = METRICS
    n_images = np.unique(held_out.row).size
    summary = mean_defined(by_fold[None])[0]
    scores = [
        Score(fold, metric, _defined(by_fold[fold, column]), Interval(None, None), int(n_by_fold[fold]))
        for fold in np.flatnonzero(n_by_fold).tolist()
        for column, metric in enumerate(metrics)
    ]
    scores += [
        Score(None, metric, _defined(summary[column]), intervals[column], n_images)
        for column, metric in enumerate(metrics)
    ]
    return scores


def score_classes(held_out: HeldOut, *, n_classes: int, n_folds: int, seed: int) -> list[tuple[int, Score]]:
    """Score every class, as the mean over folds.

    Parameters
    ----------
    held_out
        Predictions, at least one.
    n_classes, n_folds, seed
        As in `score_held_out`, whose intervals these are too.

    Returns
    -------
    list of pairs
        The code of a class and one of `CLASS_METRICS`; `n` counts the images of the class.
    """
    shape = (n_folds, n_classes, n_classes)
    sums = _sums_by_group(held_out, shape)

    def mean_over_folds(drawn: FloatArray) -> FloatArray:
        by_class = class_scores(drawn.reshape(-1, *shape))
        return mean_defined(by_class.reshape(len(drawn), n_folds, -1))

    values = mean_over_folds(_total(sums, shape).reshape(1, -1))[0]
    intervals = bootstrap_sums(sums, mean_over_folds, seed=seed)
    n_images = [np.unique(held_out.row[held_out.truth == code]).size for code in range(n_classes)]
    columns = [(code, metric) for code in range(n_classes) for metric in CLASS_METRICS]
    return [
        (code, Score(None, metric, _defined(value), interval, n_images[code]))
        for (code, metric), value, interval in zip(columns, values.tolist(), intervals, strict=True)
    ]


def _sums_by_group(held_out: HeldOut, shape: tuple[int, int, int]) -> Any:
    """Sparse ``(groups, folds * classes * classes)`` counts: a group's images fall into few of the cells."""
    from scipy.sparse import coo_matrix

    cell = np.ravel_multi_index((held_out.fold, held_out.truth, held_out.predicted), shape)
    names, group = np.unique(held_out.group, return_inverse=True)
    return coo_matrix((np.ones(len(cell)), (group, cell)), shape=(len(names), np.prod(shape))).tocsr()


def _total(sums: Any, shape: tuple[int, int, int]) -> FloatArray:
    total: FloatArray = np.asarray(sums.sum(axis=0), dtype=np.float64).reshape(shape)
    return total


def _confusion_scores(confusion: FloatArray) -> FloatArray:
    """All scores of confusion counts ``(..., classes, classes)``, in the order of `METRICS`."""
    scores: FloatArray = np.concatenate([classification_scores(confusion), weighted_f1(confusion)[..., None]], axis=-1)
    return scores


def _auroc_by_fold(held_out: HeldOut, decisions: FloatArray, n_folds: int) -> tuple[FloatArray, FloatArray]:
    """AUROC of each fold, NaN where undefined, and each prediction's influence ``(m,)`` on their mean."""
    areas = np.full(n_folds, np.nan)
    influence = np.zeros(len(held_out.row))
    for fold in np.unique(held_out.fold).tolist():
        member = held_out.fold == fold
        areas[fold], influence[member] = macro_auroc(held_out.truth[member], decisions[member])
    return areas, influence / max(1, int(np.sum(~np.isnan(areas))))


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def mean_defined(scores: FloatArray) -> FloatArray:
    """Mean over axis 1 of the values that are not NaN; NaN where none is."""
    defined = ~np.isnan(scores)
    total, count = np.where(defined, scores, 0).sum(axis=1), defined.sum(axis=1)
    mean: FloatArray = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
