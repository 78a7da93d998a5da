"""Scores of answers that name any number of labels, and thresholds for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import bootstrap_sums
from analysis.zero_shot.logits import sigmoid
from analysis.zero_shot.reliability import calibration_error
from analysis.zero_shot.single_label import over_prediction, ranking_scores, strata
from analysis.zero_shot.table import Number, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from analysis.arrays import BoolArray, Categories, FloatArray, IntArray
    from analysis.zero_shot.reliability import Bin

FOLDS = 5
METRICS = (
    "macro_precision", "macro_recall", "macro_f1", "micro_precision", "micro_recall", "micro_f1", "exact_match", "lrap",
    "coverage_error",
)  # fmt: skip
CLASS_METRICS = ("precision", "recall", "f1")


def score_multi(
    logits: FloatArray,
    predicted: BoolArray,
    true: BoolArray,
    groups: IntArray,
    names: tuple[str, ...],
    backgrounds: Mapping[str, Categories],
    *,
    seed: int,
) -> tuple[list[Number], list[Bin]]:
    """Score predicted label sets.

    Parameters
    ----------
    logits
        ``(n, labels)``; a sigmoid makes each a probability.
    predicted, true
        ``(n, labels)``.
    groups
        ``(n,)`` group codes, resampled for intervals.
    names
        Of the labels.
    backgrounds
        Background attributes ``(n,)`` by name.
    seed
        Seed of the resamples.

    Returns
    -------
    list of Number
        `METRICS` of all images and of every ``attribute=value``; macro averages are over the labels that occur there,
        and count 0 for what is undefined. ``auroc`` (its mean over labels), ``macro_ap``, ``ece`` over all pairs of
        image and label. Of each label `CLASS_METRICS`, ``auroc``, ``average_precision``, ``ece``, ``over_prediction``.
    list of Bin
        The reliability diagram over all pairs.

    References
    ----------
    `sklearn.metrics`: `precision_recall_fscore_support`, `accuracy_score`, `label_ranking_average_precision_score`,
    `coverage_error`; `torchmetrics.classification.BinaryCalibrationError` for the calibration error.
    """
    numbers: list[Number] = []
    for stratum, member in strata(backgrounds, len(true)):
        if member.any():
            numbers += score_sets(logits[member], predicted[member], true[member], groups[member], stratum, names, seed)
            numbers += over_prediction(true[member], predicted[member], groups[member], stratum, names, seed)
    ranked = list(ranking_scores(true, logits, groups, names, seed))
    areas = [each.value for each in ranked if each.metric == "auroc" and each.value is not None]
    mean = float(np.mean(areas)) if areas else None
    note = None if areas else "undefined: all or none of the images have each label"
    numbers += [*ranked, Number("all", None, "auroc", mean, ranked[0].interval._replace(low=None, high=None),
                                len(true), note or "mean over labels; their own intervals are given")]  # fmt: skip
    probability = sigmoid(logits)
    for code, name in enumerate(names):
        error, interval, _ = calibration_error(probability[:, code], true[:, code], groups, seed=seed)
        numbers.append(Number("all", name, "ece", error, interval, len(true)))
    every = np.repeat(groups, len(names))
    error, interval, bins = calibration_error(probability.ravel(), true.ravel(), every, seed=seed)
    numbers.append(Number("all", None, "ece", error, interval, len(true)))
    return numbers, bins


def score_sets(
    logits: FloatArray,
    predicted: BoolArray,
    true: BoolArray,
    groups: IntArray,
    stratum: str,
    names: tuple[str, ...],
    seed: int,
) -> Iterator[Number]:
    """Score the images of one stratum as `score_multi` says: `METRICS`, and of all images `CLASS_METRICS`."""
    ranking, coverage = rank_labels(true, logits)
    exact = (predicted == true).all(axis=1)
    columns = np.column_stack([predicted & true, true, predicted, exact, ranking, coverage, np.ones(len(true))])
    _, code = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(code.max()) + 1, columns.shape[1]))
    np.add.at(sums, code, columns)

    def scores(drawn: FloatArray) -> FloatArray:
        return _scores(drawn, len(names))

    values = scores(sums.sum(axis=0)[None])[0].tolist()
    intervals = bootstrap_sums(sums, scores, seed=seed)
    keys: list[tuple[str | None, str]] = [(None, metric) for metric in METRICS]
    keys += [(name, metric) for metric in CLASS_METRICS for name in names]
    n = dict(zip(names, true.sum(axis=0).tolist(), strict=True))
    for (label, metric), value, interval in zip(keys, values, intervals, strict=True):
        if label is None:
            yield number(stratum, None, metric, value, interval, len(true), "no label is true or predicted")
        elif stratum == "all":
            reason = "no image has it" if not n[label] else "it is never predicted"
            yield number(stratum, label, metric, value, interval, n[label], reason)


def rank_labels(true: BoolArray, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Average precision of each image's ranking of labels, and how far down it the last true one is; ``(n,)`` each."""
    above = (logits[:, None, :] >= logits[:, :, None]).astype(np.int64)
    rank, hits = above.sum(axis=2), (above * true[:, None, :]).sum(axis=2)
    count = true.sum(axis=1)
    # As scikit-learn has it: where no order could be wrong, it is right.
    trivial = (count == 0) | (count == true.shape[1])
    gained = np.where(true, hits / rank, 0.0).sum(axis=1)
    average: FloatArray = np.divide(gained, count, out=np.ones(len(true)), where=~trivial)
    return average, np.where(true, rank, 0).max(axis=1).astype(np.float64)


def _scores(sums: FloatArray, labels: int) -> FloatArray:
    """Scores ``(r, METRICS and CLASS_METRICS × labels)`` of sums ``(r, 3 labels + 4)``; NaN where undefined."""
    hits, truth, predicted = (sums[:, start * labels : (start + 1) * labels] for start in range(3))
    exact, ranking, coverage, images = sums[:, 3 * labels :].T
    occurs = truth > 0
    each = [_ratio(hits, predicted), _ratio(hits, truth), _ratio(2 * hits, truth + predicted)]
    macro = [_ratio(np.where(occurs, np.nan_to_num(score), 0).sum(axis=1), occurs.sum(axis=1)) for score in each]
    h, t, p = (column.sum(axis=1) for column in (hits, truth, predicted))
    micro = [_ratio(h, p), _ratio(h, t), _ratio(2 * h, t + p)]
    of_images = [exact / images, ranking / images, coverage / images]
    by_label = [np.where(occurs, score, np.nan) for score in each]
    scores: FloatArray = np.concatenate([np.column_stack([*macro, *micro, *of_images]), *by_label], axis=1)
    return scores


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    ratio: FloatArray = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio


def best_thresholds(logits: FloatArray, true: BoolArray) -> FloatArray:
    """Return for each label the threshold ``(labels,)`` above which predicting it has the highest F1.

    Halfway between the two neighbouring logits; infinite for a label that no image has, which is then never predicted.

    Parameters
    ----------
    logits, true
        ``(n, labels)`` of the images that thresholds are chosen on.
    """
    thresholds = np.full(true.shape[1], np.inf)
    for code in np.flatnonzero(true.any(axis=0)).tolist():
        order = np.argsort(-logits[:, code], kind="stable")
        ordered, hits = logits[order, code], np.cumsum(true[order, code])
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
        # Equal logits are predicted together.
        f1[:-1][np.diff(ordered) == 0] = -1
        best = int(f1.argmax())
        below = ordered[best + 1] if best + 1 < len(ordered) else ordered[best] - 1
        thresholds[code] = (ordered[best] + below) / 2
    return thresholds


def cross_thresholds(logits: FloatArray, true: BoolArray, groups: IntArray, *, seed: int) -> BoolArray:
    """Predict each image with thresholds chosen on the groups of the other folds, ``(n, labels)``; of two or more."""
    _, code = np.unique(groups, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(int(code.max()) + 1) % FOLDS)[code]
    predicted = np.zeros(true.shape, dtype=np.bool_)
    for number_ in range(FOLDS):
        here = fold == number_
        if here.any():
            predicted[here] = logits[here] > best_thresholds(logits[~here], true[~here])
    return predicted
