"""How well the background is decoded within one class, where the label cannot give it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import (
    ACCURACY,
    BALANCED,
    MIN_GROUPS,
    TooFewError,
    estimate,
    grouped_folds,
    predict_held_out,
)

if TYPE_CHECKING:
    from analysis.arrays import Categories
    from analysis.bias_probes.case import BiasScore, Case

METRICS = {"accuracy": ACCURACY, "balanced_accuracy": BALANCED}


def within_class(case: Case) -> list[BiasScore]:
    """Decode each background attribute from the images of one class at a time.

    Over all images an attribute may be decoded through the label it goes with. Within a class the label is
    constant, so what is decoded is the background, or what goes with it inside the class.

    Parameters
    ----------
    case
        Divided anew within each class, by group and stratified by the attribute.

    Returns
    -------
    list of BiasScore
        Target the attribute, protocol ``within_class``, stratum ``label=class``; one over the number of values in
        the note is what guessing gives. Values in fewer than `MIN_GROUPS` groups of the class are left out, and
        named.
    """
    return [
        score
        for name, column in case.backgrounds.items()
        for label in range(len(case.labels.names))
        for score in _within(case, name, column, label)
    ]


def _within(case: Case, name: str, column: Categories, label: int) -> list[BiasScore]:
    headings = [Heading(name, "within_class", f"label={case.labels.names[label]}", metric) for metric in METRICS]
    member = (case.labels.codes == label) & column.known
    groups = [np.unique(case.groups[member & (column.codes == code)]).size for code in range(len(column.names))]
    kept = [code for code, count in enumerate(groups) if count >= MIN_GROUPS]
    scarce = [f"{column.names[code]} ({count} groups)" for code, count in enumerate(groups) if count < MIN_GROUPS]
    left_out = f"too few groups of {', '.join(scarce)}" if scarce else ""
    rows = np.flatnonzero(member & np.isin(column.codes, kept))
    try:
        if len(kept) < 2:
            raise TooFewError(left_out or "the attribute is constant")
        names = [column.names[code] for code in kept]
        folds = grouped_folds(rows, np.searchsorted(kept, column.codes[rows]), case.groups[rows], names, seed=case.seed)
        held_out = predict_held_out(case.vectors, column.codes, case.groups, folds)
    except TooFewError as error:
        return undefined(headings, error, n=len(rows))
    found = estimate([held_out], lambda scores: scores[0][:, list(METRICS.values())], seed=case.seed)
    note = f"{len(kept)} values" + (f"; {left_out}" if left_out else "")
    return report(headings, found, n=len(rows), note=note)


PROBE = BiasProbe("within_class", within_class)
