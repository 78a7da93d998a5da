"""Images with several labels or none: how their label sets are written, and scores of held-out predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import Interval, bootstrap_sums
from analysis.scoring import Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.arrays import BoolArray, FloatArray, IntArray

SEPARATOR = ";"
METRICS = ("macro_f1", "micro_f1", "exact_match", "lrap", "coverage_error")
CLASS_METRICS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class LabelSets:
    """Label sets as zeros and ones.

    Attributes
    ----------
    member
        ``(n, classes)`` 1 where an image has a label; rows of images whose labels are unknown are 0.
    known
        ``(n,)`` whether the labels of an image are known.
    names
        What each column stands for, sorted.
    """

    member: IntArray
    known: IntArray
    names: tuple[str, ...]


def encode_sets(labels: Sequence[str | None]) -> LabelSets:
    """Read label sets, written with `SEPARATOR` between labels; None is unknown, and an empty text no label."""
    sets = [{name for part in (text or "").split(SEPARATOR) if (name := part.strip())} for text in labels]
    names = tuple(sorted(set().union(*sets)))
    member = np.array([[int(name in each) for name in names] for each in sets], dtype=np.int64)
    known = np.array([text is not None for text in labels], dtype=np.int64)
    return LabelSets(member.reshape(len(sets), len(names)), known, names)


def score_sets(truth: IntArray, logits: FloatArray, groups: IntArray, *, seed: int) -> list[tuple[int | None, Score]]:
    """Score predicted label sets; a label is predicted where its logit is above 0.

    Parameters
    ----------
    truth
        ``(m, classes)`` zeros and ones.
    logits
        ``(m, classes)``.
    groups
        ``(m,)`` codes, resampled for the intervals.
    seed
        Seed of the resamples.

    Returns
    -------
    list of pairs
        None and a score of all classes, each of `METRICS`; then the code of a class and one of `CLASS_METRICS`, whose
        `n` counts the images with that label. Macro-F1 is over the classes that occur in the truth; a class that is
        never predicted right has F1 0, and one never predicted no precision.

    References
    ----------
    `sklearn.metrics`: `f1_score`, `accuracy_score`, `label_ranking_average_precision_score`, `coverage_error`.
    """
    if not len(truth):
        return []
    predicted = logits > 0
    true = truth.astype(np.bool_)
    counts = np.concatenate([true & predicted, true, predicted], axis=1).astype(np.float64)
    ranking, coverage = _ranking(true, logits)
    exact = (true == predicted).all(axis=1)
    columns = np.column_stack([counts, exact, ranking, coverage, np.ones(len(true))])
    _, code = np.unique(groups, return_inverse=True)
    sums = np.zeros((code.max() + 1, columns.shape[1]))
    np.add.at(sums, code, columns)
    classes = true.shape[1]

    def scores(drawn: FloatArray) -> FloatArray:
        return _scores(drawn, classes)

    values = scores(sums.sum(axis=0)[None])[0]
    intervals = bootstrap_sums(sums, scores, seed=seed)
    keys: list[tuple[int | None, str]] = [(None, metric) for metric in METRICS]
    keys += [(each, metric) for metric in CLASS_METRICS for each in range(classes)]
    support = true.sum(axis=0)
    return [
        (each, _score(metric, value, interval, len(true) if each is None else int(support[each])))
        for (each, metric), value, interval in zip(keys, values.tolist(), intervals, strict=True)
    ]


def _score(metric: str, value: float, interval: Interval, n: int) -> Score:
    if np.isnan(value):
        return Score(None, metric, None, Interval(None, None), n)
    return Score(None, metric, value, interval, n)


def _ranking(true: BoolArray, logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Average precision of each image's ranking, and how far down it the last true label is; ``(m,)`` each."""
    # How many logits of an image are at least each of its logits; so many of true labels.
    at_least = logits[:, None, :] >= logits[:, :, None]
    rank, hits = at_least.sum(axis=2), (at_least & true[:, None, :]).sum(axis=2)
    labels = true.sum(axis=1)
    precision = np.where(true, hits / rank, 0).sum(axis=1)
    # As scikit-learn: where no order could be wrong, it is right.
    trivial = (labels == 0) | (labels == true.shape[1])
    average = np.divide(precision, labels, out=np.ones(len(true)), where=~trivial)
    return average, np.where(true, rank, 0).max(axis=1).astype(np.float64)


def _scores(sums: FloatArray, classes: int) -> FloatArray:
    """Scores ``(r, metrics)``, NaN where undefined, of sums ``(r, 3 classes + 4)``."""
    hits, truth, predicted = (sums[:, start * classes : (start + 1) * classes] for start in range(3))
    exact, ranking, coverage, images = sums[:, 3 * classes :].T
    precision, recall = _ratio(hits, predicted), _ratio(hits, truth)
    f1 = _ratio(2 * hits, truth + predicted)
    occurring = truth > 0
    precision, f1 = np.where(occurring, precision, np.nan), np.where(occurring, f1, np.nan)
    macro = _ratio(np.where(occurring, f1, 0).sum(axis=1), occurring.sum(axis=1))
    micro = _ratio(2 * hits.sum(axis=1), (truth + predicted).sum(axis=1))
    whole = np.column_stack([macro, micro, exact / images, ranking / images, coverage / images])
    return np.concatenate([whole, precision, recall, f1], axis=1)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    ratio: FloatArray = np.full(above.shape, np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio
