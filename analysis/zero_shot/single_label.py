"""Scores of answers that name one class, over all images and by background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import Case, Reference
from analysis.bias_probes.stratum_gap import stratum_gap
from analysis.bias_probes.within_label_gap import within_label_gap
from analysis.bootstrap import bootstrap_sums
from analysis.scoring import HeldOut, score_classes, score_held_out
from analysis.zero_shot.answer_shift import answer_shift
from analysis.zero_shot.logits import softmax
from analysis.zero_shot.ranking import average_precisions, binary_auroc
from analysis.zero_shot.reliability import calibration_error
from analysis.zero_shot.table import Number, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from analysis.arrays import BoolArray, Categories, FloatArray, IntArray
    from analysis.zero_shot.reliability import Bin

# Folds of groups on which the worst and the best background are chosen, and scored on the others.
FOLDS = 5


def score_single(
    logits: FloatArray,
    labels: Categories,
    groups: IntArray,
    backgrounds: Mapping[str, Categories],
    *,
    seed: int,
) -> tuple[list[Number], list[Bin]]:
    """Score the class with the highest logit.

    Parameters
    ----------
    logits
        ``(n, classes)`` in the order of ``labels.names``; a softmax makes them probabilities.
    labels
        ``(n,)``, all known.
    groups
        ``(n,)`` group codes, resampled for intervals.
    backgrounds
        Background attributes ``(n,)`` by name.
    seed
        Seed of resamples and permutations.

    Returns
    -------
    list of Number
        ``accuracy``, ``macro_f1``, ``balanced_accuracy``, ``weighted_f1``, ``auroc``, ``macro_ap``, ``ece`` over all
        images; without those of average precision also of every ``attribute=value``. Of each class ``precision``,
        ``recall``, ``f1``, ``auroc``, ``average_precision`` and ``over_prediction``: how many images are given the
        class, over how many have it; 1 is as many as there are. Of each attribute ``stratum_gap``,
        ``worst_stratum_accuracy``, ``within_label_gap`` as of probes, and ``answer_shift``.
    list of Bin
        The reliability diagram.

    References
    ----------
    `sklearn.metrics`, `torchmetrics`; ``clip_benchmark.metrics.zeroshot_classification``.
    """
    probabilities = softmax(logits)
    predicted = logits.argmax(axis=1)
    held_out = HeldOut(np.arange(len(logits)), np.zeros(len(logits), np.int64), labels.codes, predicted, groups)
    confidence, right = probabilities[np.arange(len(logits)), predicted], predicted == labels.codes
    numbers: list[Number] = []
    bins: list[Bin] = []
    for stratum, member in strata(backgrounds, len(logits)):
        if not member.any():
            continue
        numbers += _whole(held_out, logits, member, stratum, len(labels.names), seed)
        error, interval, found = calibration_error(confidence[member], right[member], groups[member], seed=seed)
        numbers.append(Number(stratum, None, "ece", error, interval, int(member.sum())))
        bins = bins or found
        numbers += _over_prediction(held_out, member, stratum, labels.names, seed)
    numbers += _by_class(held_out, logits, labels.names, seed)
    numbers += _by_background(held_out, labels, backgrounds, seed)
    return numbers, bins


def strata(columns: Mapping[str, Categories], n: int) -> list[tuple[str, BoolArray]]:
    """Name and ``(n,)`` members of every stratum, as probes have them; first that of all images."""
    named = [
        (f"{attribute}={name}", column.codes == code)
        for attribute, column in columns.items()
        for code, name in enumerate(column.names)
    ]
    return [("all", np.ones(n, dtype=np.bool_)), *named]


def _whole(
    held_out: HeldOut, logits: FloatArray, member: BoolArray, stratum: str, n_classes: int, seed: int
) -> Iterator[Number]:
    scores = score_held_out(
        _select(held_out, member), n_classes=n_classes, n_folds=1, seed=seed, decisions=logits[member]
    )
    for score in scores:
        if score.fold is None:
            yield number(stratum, None, score.metric, score.value, score.interval, score.n, "one class occurs")


def _by_class(held_out: HeldOut, logits: FloatArray, names: tuple[str, ...], seed: int) -> Iterator[Number]:
    n_classes = len(names)
    for code, score in score_classes(held_out, n_classes=n_classes, n_folds=1, seed=seed):
        reason = "no image has the class" if not score.n else "the class is never predicted"
        yield number("all", names[code], score.metric, score.value, score.interval, score.n, reason)
    true = held_out.truth[:, None] == np.arange(n_classes)
    yield from ranking_scores(true, logits, held_out.group, names, seed)


def ranking_scores(
    true: BoolArray, logits: FloatArray, groups: IntArray, names: tuple[str, ...], seed: int
) -> Iterator[Number]:
    """AUROC and average precision of each label, and the mean of the latter over labels."""
    n = true.sum(axis=0)
    for code, name in enumerate(names):
        area, interval = binary_auroc(true[:, code], logits[:, code], groups, seed=seed)
        yield number("all", name, "auroc", area, interval, int(n[code]), "all or none of the images have it")
    values, intervals, mean, mean_interval = average_precisions(true, logits, groups, seed=seed)
    for name, value, interval, images in zip(names, values.tolist(), intervals, n.tolist(), strict=True):
        yield number("all", name, "average_precision", value, interval, images, "no image has it")
    yield number("all", None, "macro_ap", mean, mean_interval, len(true), "no image has any label")


def _over_prediction(
    held_out: HeldOut, member: BoolArray, stratum: str, names: tuple[str, ...], seed: int
) -> Iterator[Number]:
    codes = np.arange(len(names))
    true, predicted = held_out.truth[member, None] == codes, held_out.predicted[member, None] == codes
    yield from over_prediction(true, predicted, held_out.group[member], stratum, names, seed)


def over_prediction(
    true: BoolArray, predicted: BoolArray, groups: IntArray, stratum: str, names: tuple[str, ...], seed: int
) -> Iterator[Number]:
    """How many images are said to have each label ``(n, labels)``, over how many do."""
    _, code = np.unique(groups, return_inverse=True)
    sums = np.zeros((int(code.max()) + 1, 2 * len(names)))
    np.add.at(sums, code, np.concatenate([predicted, true], axis=1))

    def ratios(drawn: FloatArray) -> FloatArray:
        above, below = drawn[:, : len(names)], drawn[:, len(names) :]
        found: FloatArray = np.full(above.shape, np.nan)
        np.divide(above, below, out=found, where=below > 0)
        return found

    values = ratios(sums.sum(axis=0)[None])[0].tolist()
    intervals = bootstrap_sums(sums, ratios, seed=seed)
    for name, value, interval, n in zip(names, values, intervals, true.sum(axis=0).tolist(), strict=True):
        yield number(stratum, name, "over_prediction", value, interval, n, "no image has it")


def _by_background(
    held_out: HeldOut, labels: Categories, backgrounds: Mapping[str, Categories], seed: int
) -> Iterator[Number]:
    """Yield what a background does to the answer, with the measures of the probes: no training took part here."""
    if not backgrounds:
        return
    _, group = np.unique(held_out.group, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(int(group.max()) + 1) % FOLDS)[group]
    divided = HeldOut(held_out.row, fold, held_out.truth, held_out.predicted, held_out.group)
    reference = Reference(divided, FOLDS)
    case = Case(
        np.empty((len(fold), 0)), labels, held_out.group, backgrounds, seed, {"grouped": reference, "published": "none"}
    )
    for score in (*stratum_gap(case), *within_label_gap(case)):
        heading = score.heading
        yield Number(heading.stratum, None, heading.metric, score.value, score.interval, score.n, score.note)
    for name, column in backgrounds.items():
        yield answer_shift(held_out.predicted, labels.codes, column.codes, held_out.group, name=name, seed=seed)


def _select(held_out: HeldOut, member: BoolArray) -> HeldOut:
    return HeldOut(*(column[member] for column in vars(held_out).values()))
