"""A control that must be at chance: the label's probe with the labels shuffled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import (
    ACCURACY,
    BALANCED,
    TooFewError,
    concatenate,
    estimate,
    grouped_folds,
    predict_held_out,
)

if TYPE_CHECKING:
    from analysis.bias_probes.case import BiasScore, Case

METRICS = {"accuracy": ACCURACY, "balanced_accuracy": BALANCED}
SHUFFLES = 3


def shuffled(case: Case) -> list[BiasScore]:
    """Cross-validate the probe on labels permuted over whole groups, by group.

    Images of one group and label keep a common label, so that a leak between folds would show. Balanced accuracy
    must be one over the number of classes; accuracy may reach that of the commonest class.

    Parameters
    ----------
    case
        Divided anew for each of `SHUFFLES` permutations.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``shuffled``, stratum ``all``; the mean over permutations.
    """
    headings = [Heading("label", "shuffled", "all", metric) for metric in METRICS]
    rows = np.flatnonzero(case.labels.known)
    groups = case.groups[rows]
    # Unlike an audit's test, a control asks for labels that say nothing, not for as many of each: units of any size
    # change places, or where size goes with the label nothing would be shuffled.
    n_labels = len(case.labels.names)
    units, unit = np.unique(groups * n_labels + case.labels.codes[rows], return_inverse=True)
    rng = np.random.default_rng(case.seed)
    parts = []
    try:
        for number in range(SHUFFLES):
            labels = np.full_like(case.labels.codes, -1)
            labels[rows] = rng.permutation(units % n_labels)[unit]
            folds = grouped_folds(rows, labels[rows], groups, case.labels.names, seed=case.seed + number)
            parts.append(predict_held_out(case.vectors, labels, case.groups, folds))
    except TooFewError as error:
        return undefined(headings, error)
    found = estimate([concatenate(parts)], lambda scores: scores[0][:, list(METRICS.values())], seed=case.seed)
    note = f"{SHUFFLES} permutations over groups; chance is {1 / len(case.labels.names):.3f} when balanced"
    return report(headings, found, n=len(rows), note=note)


PROBE = BiasProbe("shuffled", shuffled)
