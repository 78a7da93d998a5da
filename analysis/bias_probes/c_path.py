"""How the score depends on the weight of the loss, which the study fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import BALANCED, TooFewError, estimate, predict_held_out
from analysis.probes import PENALTY

if TYPE_CHECKING:
    from analysis.bias_probes.case import BiasScore, Case

PENALTIES = (1.0, 10.0, 100.0, 1000.0)


def c_path(case: Case) -> list[BiasScore]:
    """Label balanced accuracy of the grouped probe with C = x / N, N the images fitted on.

    Parameters
    ----------
    case
        Uses the folds of the grouped probe's first repeat, and its predictions at the study's x = 100.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``c_path``, stratum ``C=x/N``.
    """
    scores = []
    for penalty in PENALTIES:
        headings = [Heading("label", "c_path", f"C={penalty:g}/N", "balanced_accuracy")]
        try:
            held_out = case.reference("grouped").first_repeat()
            if penalty != PENALTY:
                held_out = predict_held_out(case.vectors, case.labels.codes, case.groups, case.folds(), penalty=penalty)
        except TooFewError as error:
            scores += undefined(headings, error)
            continue
        found = estimate([held_out], lambda scores: scores[0][:, [BALANCED]], seed=case.seed, by_fold=True)
        scores += report(headings, found, n=len(held_out.row), note="grouped folds")
    return scores


PROBE = BiasProbe("c_path", c_path)
