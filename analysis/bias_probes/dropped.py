"""What is left of the label when only the commonest background is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import (
    BALANCED,
    TooFewError,
    estimate,
    match_sizes,
    predict_held_out,
    restrict,
    select,
)

if TYPE_CHECKING:
    from analysis.arrays import Categories, FloatArray
    from analysis.bias_probes.case import BiasScore, Case
    from analysis.bias_probes.held_out import Folds


def dropped(case: Case) -> list[BiasScore]:
    """Train on the images of an attribute's commonest value alone, and test on those of every value.

    Fewer images cost score whatever their background. So beside the probe on all images stands one on as many
    images, of as many groups, of every class, drawn from all values.

    Parameters
    ----------
    case
        Uses the folds of the grouped probe's first repeat, and its predictions as the score before.
        Images whose attribute is unknown are left out of every score here, but not of the fit before.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``dropped:attribute``: ``balanced_accuracy`` in strata ``before``, ``matched``
        (as few images of all values) and ``after``, and ``change`` (after less matched, paired) in stratum
        ``after``. Features are what they were, and so is what can be decoded of the attribute.
    """
    return [score for name, column in case.backgrounds.items() for score in _drop(case, name, column)]


def _drop(case: Case, name: str, column: Categories) -> list[BiasScore]:
    headings = [
        *(
            Heading("label", f"dropped:{name}", stratum, "balanced_accuracy")
            for stratum in ("before", "matched", "after")
        ),
        Heading("label", f"dropped:{name}", "after", "change"),
    ]
    try:
        folds = restrict(case.folds(), column.known)
        before = case.reference("grouped").first_repeat()
        before = select(before, column.known[before.row])
        value = int(np.bincount(column.codes[column.known & case.labels.known]).argmax())
        kept = [(fit[column.codes[fit] == value], held_out) for fit, held_out in folds]
        _require_classes(case, folds, kept, column.names[value])
        matched, after = _matched(case, folds, kept)
        parts = [
            before,
            *(predict_held_out(case.vectors, case.labels.codes, case.groups, each) for each in (matched, after)),
        ]
    except TooFewError as error:
        return undefined(headings, error)

    def scores(found: list[FloatArray]) -> FloatArray:
        first, second, third = (score[:, BALANCED] for score in found)
        return np.stack([first, second, third, third - second], axis=1)

    sizes = [len(fit) for fit, _ in after]
    note = f"{min(sizes)} to {max(sizes)} images with {column.names[value]} fitted on"
    return report(headings, estimate(parts, scores, seed=case.seed, by_fold=True), n=len(before.row), note=note)


def _require_classes(case: Case, folds: Folds, kept: Folds, value: str) -> None:
    for (all_rows, _), (fit, _) in zip(folds, kept, strict=True):
        missing = np.setdiff1d(case.labels.codes[all_rows], case.labels.codes[fit])
        if len(missing):
            raise TooFewError(f"a fold would be fitted without {case.labels.names[missing[0]]} with {value}")


def _matched(case: Case, folds: Folds, kept: Folds) -> tuple[Folds, Folds]:
    """As many images, of as many groups, of every class: from all values, and from the value kept."""
    rng = np.random.default_rng(case.seed)
    labels = case.labels.codes
    every, only = [], []
    for (fit, held_out), (kept_fit, _) in zip(folds, kept, strict=True):
        pairs = [
            match_sizes(rng, fit[labels[fit] == label], kept_fit[labels[kept_fit] == label], case.groups)
            for label in np.unique(labels[kept_fit]).tolist()
        ]
        every.append((np.concatenate([first for first, _ in pairs]), held_out))
        only.append((np.concatenate([second for _, second in pairs]), held_out))
    return every, only


PROBE = BiasProbe("dropped", dropped)
