"""What is left of the label's dependence on a background when training images are weighted against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import BALANCED, TooFewError, estimate, predict_held_out, restrict
from analysis.scoring import HeldOut

if TYPE_CHECKING:
    from analysis.arrays import Categories, FloatArray, IntArray
    from analysis.bias_probes.case import BiasScore, Case

METRICS = ("balanced_accuracy", "group_balanced_accuracy")


def reweighted(case: Case) -> list[BiasScore]:
    """Weight training images so that label and background are independent among them, and test on all.

    An image of label y and background value c weighs p(y) p(c) / p(y, c), the shares being those of the images
    fitted on. Where a label never occurs with a value no weight can part the two; the note counts such pairs.

    Parameters
    ----------
    case
        Uses the folds of the grouped probe's first repeat. Images whose attribute is unknown are neither fitted on
        nor scored.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``reweighted:attribute``, strata ``before`` (the same images, unweighted) and
        ``after``: ``balanced_accuracy``, and ``group_balanced_accuracy``, the mean accuracy over all pairs of
        label and value that occur, which a model that reads the background for the label loses. ``change`` and
        ``group_balanced_change`` (after less before, paired) are in stratum ``after``. Features are what they
        were, and so is what can be decoded of the attribute.

    References
    ----------
    Kamiran & Calders, Data preprocessing techniques for classification without discrimination, Knowl. Inf. Syst. 33
    (2012), for the weights. Sagawa et al., arXiv:1911.08731, for accuracy by pairs of label and attribute.
    """
    return [score for name, column in case.backgrounds.items() for score in _reweigh(case, name, column)]


def _reweigh(case: Case, name: str, column: Categories) -> list[BiasScore]:
    headings = [
        Heading("label", f"reweighted:{name}", stratum, metric)
        for metric, change in zip(METRICS, ("change", "group_balanced_change"), strict=True)
        for stratum, metric in (("before", metric), ("after", metric), ("after", change))
    ]
    labels = case.labels.codes
    try:
        folds = restrict(case.folds(), column.known)
        weights = np.stack([independence_weights(labels, column.codes, fit) for fit, _ in folds])
        before, after = (
            predict_held_out(case.vectors, labels, case.groups, folds, sample_weight=weight)
            for weight in (None, weights)
        )
    except TooFewError as error:
        return undefined(headings, error)
    plain = estimate([before, after], _before_after_change, seed=case.seed, by_fold=True)
    pairs = [_by_pair(part, column) for part in (before, after)]
    by_pair = estimate(pairs, _before_after_change, seed=case.seed)
    return report(headings, [*plain, *by_pair], n=len(before.row), note=_note(case, column, weights))


def independence_weights(labels: IntArray, values: IntArray, fit: IntArray) -> FloatArray:
    """Return weights ``(n,)`` that make label and value independent in the rows `fit`; 1 for all other rows.

    They sum to the number of rows, if every pair occurs. Codes of the rows are ≥ 0.
    """
    table = np.zeros((labels[fit].max() + 1, values[fit].max() + 1))
    np.add.at(table, (labels[fit], values[fit]), 1)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(fit)
    weights = np.ones(len(labels))
    weights[fit] = (expected / np.maximum(table, 1))[labels[fit], values[fit]]
    return weights


def _by_pair(held_out: HeldOut, column: Categories) -> HeldOut:
    """Predictions of label and value at once, the value being given: recall by pair is accuracy in the pair."""
    value, width = column.codes[held_out.row], len(column.names)
    truth, predicted = held_out.truth * width + value, held_out.predicted * width + value
    return HeldOut(held_out.row, held_out.fold, truth, predicted, held_out.group)


def _note(case: Case, column: Categories, weights: FloatArray) -> str:
    member = column.known & case.labels.known
    pairs = np.unique(np.stack([case.labels.codes[member], column.codes[member]]), axis=1)
    labels, values = (np.unique(codes).size for codes in pairs)
    missing = labels * values - pairs.shape[1]
    note = f"weights of {weights.min():.2g} to {weights.max():.2g}"
    return f"{note}; {missing} of {labels * values} pairs of label and value do not occur" if missing else note


def _before_after_change(scores: list[FloatArray]) -> FloatArray:
    before, after = (score[:, BALANCED] for score in scores)
    return np.stack([before, after, after - before], axis=1)


PROBE = BiasProbe("reweighted", reweighted)
