"""A control that never looks at the image: the label's probe on the background attributes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import ACCURACY, BALANCED, TooFewError, estimate, predict_held_out

if TYPE_CHECKING:
    from analysis.arrays import Categories, FloatArray
    from analysis.bias_probes.case import BiasScore, Case

METRICS = {"accuracy": ACCURACY, "balanced_accuracy": BALANCED}


def background_only(case: Case) -> list[BiasScore]:
    """Predict the label from one-hot background attributes, with the grouped probe's folds and solver.

    An encoder that scores no better may owe its score to the background altogether.

    Parameters
    ----------
    case
        Uses the folds of the grouped probe's first repeat.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``background_only``; stratum ``all`` for all attributes together and
        ``attribute`` for one of several alone. An unknown value is a row of zeros.
    """
    columns = case.backgrounds
    sets = {"all": list(columns.values())} | (
        {name: [column] for name, column in columns.items()} if len(columns) > 1 else {}
    )
    scores = []
    for stratum, chosen in sets.items():
        headings = [Heading("label", "background_only", stratum, metric) for metric in METRICS]
        try:
            if not chosen:
                raise TooFewError("no background attribute is known of these images")
            held_out = predict_held_out(one_hot(chosen), case.labels.codes, case.groups, case.folds())
        except TooFewError as error:
            scores += undefined(headings, error)
            continue
        found = estimate([held_out], lambda scores: scores[0][:, list(METRICS.values())], seed=case.seed, by_fold=True)
        note = f"one-hot {', '.join(columns if stratum == 'all' else [stratum])}"
        if np.unique(held_out.predicted).size == 1:
            note += f"; every image predicted {case.labels.names[held_out.predicted[0]]}"
        scores += report(headings, found, n=len(held_out.row), note=note)
    return scores


def one_hot(columns: list[Categories]) -> FloatArray:
    """Return indicators of every value of every column, ``(n, values)``; zeros where a value is unknown."""
    indicators = [column.codes[:, None] == np.arange(len(column.names)) for column in columns]
    return np.hstack(indicators).astype(np.float64)


PROBE = BiasProbe("background_only", background_only)
