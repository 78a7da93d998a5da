"""What is left of label and background once the background is erased from the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import (
    BALANCED,
    TooFewError,
    concatenate,
    estimate,
    predict_held_out,
    restrict,
    select,
)
from analysis.bias_probes.leace import fit_leace

if TYPE_CHECKING:
    from analysis.arrays import Categories, FloatArray, IntArray
    from analysis.bias_probes.case import BiasScore, Case
    from analysis.bias_probes.held_out import Folds
    from analysis.scoring import HeldOut


def erased(case: Case) -> list[BiasScore]:
    """Erase one background attribute by LEACE, and probe label and attribute before and after.

    In each fold of the grouped probe the features are standardised and LEACE is fitted, both on images that the
    model is allowed to see, with Σ shrunk as Ledoit and Wolf estimate. The label is probed in the erased
    features of the same images. An attribute cannot be learnt from images that it was erased from, whatever is
    left of it in others; so it is erased by one half of the training folds and learnt from the other half,
    before as after.

    Parameters
    ----------
    case
        Uses the folds of the grouped probe's first repeat, and its predictions as the label's score before.
        Images whose attribute is unknown are left out of every score here, but not of the label's fit before.

    Returns
    -------
    list of BiasScore
        Protocol ``erased:attribute``; for target ``label`` and for target the attribute, ``balanced_accuracy`` in
        strata ``before`` and ``after``, and ``change`` (after less before, paired) in stratum ``after``.

    References
    ----------
    Belrose et al., arXiv:2306.03819. Ledoit & Wolf, A well-conditioned estimator for large-dimensional covariance
    matrices, J. Multivar. Anal. 88 (2004).
    """
    return [score for name, column in case.backgrounds.items() for score in _erase(case, name, column)]


def _erase(case: Case, name: str, column: Categories) -> list[BiasScore]:
    scores = []
    for target, predict in (("label", _label), (name, _attribute)):
        headings = [
            Heading(target, f"erased:{name}", stratum, metric)
            for stratum, metric in (
                ("before", "balanced_accuracy"),
                ("after", "balanced_accuracy"),
                ("after", "change"),
            )
        ]
        try:
            before, after, note = predict(case, column)
        except TooFewError as error:
            scores += undefined(headings, error)
            continue
        found = estimate([before, after], _before_after_change, seed=case.seed, by_fold=target == "label")
        scores += report(headings, found, n=len(before.row), note=note)
    return scores


def _label(case: Case, column: Categories) -> tuple[HeldOut, HeldOut, str]:
    folds = restrict(case.folds(), column.known)
    before = case.reference("grouped").first_repeat()
    after = _predict_erased(case, column, folds, folds, case.labels.codes)
    return select(before, column.known[before.row]), after, "erased by the images fitted on"


def _attribute(case: Case, column: Categories) -> tuple[HeldOut, HeldOut, str]:
    erasing, learning = _halves(restrict(case.folds(), column.known))
    before = predict_held_out(case.vectors, column.codes, case.groups, learning)
    after = _predict_erased(case, column, erasing, learning, column.codes)
    note = f"erased by half of the training folds, learnt from the other half; {len(column.names)} values"
    return before, after, note


def _halves(folds: Folds) -> tuple[Folds, Folds]:
    """Divide each training part into two by the folds it consists of, which share no group."""
    parts = [held_out for _, held_out in folds]
    erasing, learning = [], []
    for number, held_out in enumerate(parts):
        others = parts[number + 1 :] + parts[:number]
        middle = len(others) // 2
        erasing.append((np.sort(np.concatenate(others[:middle])), held_out))
        learning.append((np.sort(np.concatenate(others[middle:])), held_out))
    return erasing, learning


def _predict_erased(case: Case, column: Categories, erasing: Folds, learning: Folds, codes: IntArray) -> HeldOut:
    """Predictions from features that the first parts' images erased the attribute from."""
    from sklearn.covariance import ledoit_wolf_shrinkage
    from sklearn.preprocessing import StandardScaler

    predictions = []
    for (fit, _), part in zip(erasing, learning, strict=True):
        standard = StandardScaler().fit(case.vectors[fit]).transform(case.vectors).astype(np.float64)
        shrinkage = float(ledoit_wolf_shrinkage(standard[fit]))
        eraser = fit_leace(standard[fit], column.codes[fit], shrinkage=shrinkage)
        predictions.append(predict_held_out(eraser(standard), codes, case.groups, [part]))
    return concatenate(predictions)


def _before_after_change(scores: list[FloatArray]) -> FloatArray:
    before, after = (score[:, BALANCED] for score in scores)
    return np.stack([before, after, after - before], axis=1)


PROBE = BiasProbe("erased", erased)
