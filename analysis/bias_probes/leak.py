"""How much of the published score is owed to groups that lie on both sides of the split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import ACCURACY, MACRO_F1, TooFewError, estimate

if TYPE_CHECKING:
    from analysis.bias_probes.case import BiasScore, Case

METRICS = {"accuracy": ACCURACY, "macro_f1": MACRO_F1}


def leak(case: Case) -> list[BiasScore]:
    """Take the grouped score of the label from the published one.

    Both are cross-validated means over folds. Either protocol holds out another fifth for test, so about two
    thirds of the images are scored by both: whole groups are resampled over the images of both, which pairs the
    scores as far as they share groups.

    Parameters
    ----------
    case
        Uses the predictions of both probes.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``leak``, stratum ``all``; above 0 where leaving groups whole costs score.
    """
    headings = [Heading("label", "leak", "all", metric) for metric in METRICS]
    try:
        parts = [case.reference(protocol).held_out for protocol in ("published", "grouped")]
    except TooFewError as error:
        return undefined(headings, error)
    found = estimate(
        parts, lambda scores: (scores[0] - scores[1])[:, list(METRICS.values())], seed=case.seed, by_fold=True
    )
    both = set(parts[0].row.tolist()) & set(parts[1].row.tolist())
    n = len(set(parts[0].row.tolist()) | set(parts[1].row.tolist()))
    note = f"published less grouped, cross-validated; {len(both)} of {n} images scored under both"
    return report(headings, found, n=n, note=note)


PROBE = BiasProbe("leak", leak)
