"""Whether what is learnt of the label on one background holds on another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import (
    ACCURACY,
    BALANCED,
    MIN_GROUPS,
    TooFewError,
    concatenate,
    estimate,
    grouped_folds,
    match_sizes,
    predict_held_out,
)

if TYPE_CHECKING:
    from analysis.arrays import Categories, FloatArray, IntArray
    from analysis.bias_probes.case import BiasScore, Case
    from analysis.bias_probes.held_out import Folds

MAX_VALUES = 6
DRAWS = 3
METRICS = {"accuracy": ACCURACY, "balanced_accuracy": BALANCED}


def transfer(case: Case) -> list[BiasScore]:
    """Train on the images of one background, test on those of another.

    For each value of an attribute, its images are tested on by a model of all other values' images and by one of
    the value's own. Both models see as many images of as many groups of every class, drawn from the same folds, and
    are tested on the same held-out images, none of whose groups was trained on: the drop is due to the background.
    The sets are drawn `DRAWS` times. Intervals keep them: where they hold few groups, which the note tells, another
    set of patients may change a drop by more than its interval.

    Parameters
    ----------
    case
        Divided anew for each value, by group and stratified by class and side.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``transfer``. Stratum ``attribute:from→to`` (of more than two values
        ``attribute:others→to``) has the scores across, and ``transfer_drop``, balanced accuracy of staying less
        that of going across; ``attribute:to→to`` has the scores of staying. Classes with fewer than `MIN_GROUPS`
        groups on either side are left out, and named; of attributes with many values the `MAX_VALUES`
        commonest are tested on.
    """
    scores = []
    for name, column in case.backgrounds.items():
        counts = np.bincount(column.codes[column.known & case.labels.known], minlength=len(column.names))
        for value in np.sort(np.argsort(-counts, kind="stable")[:MAX_VALUES]).tolist():
            scores += _transfer_to(case, name, column, value)
    return scores


def _transfer_to(case: Case, name: str, column: Categories, value: int) -> list[BiasScore]:
    to = column.names[value]
    source = column.names[1 - value] if len(column.names) == 2 else "others"
    across, staying = f"{name}:{source}→{to}", f"{name}:{to}→{to}"
    headings = [
        *(Heading("label", "transfer", across, metric) for metric in METRICS),
        *(Heading("label", "transfer", staying, metric) for metric in METRICS),
        Heading("label", "transfer", across, "transfer_drop"),
    ]
    try:
        rows, left_out = _comparable(case, column, value)
        inside = column.codes == value
        # Class and side: 2 * class + (inside).
        side = 2 * case.labels.codes + inside
        _, stratum = np.unique(side[rows], return_inverse=True)
        names = [f"{case.labels.names[code // 2]} with {to if code % 2 else source}" for code in np.unique(side[rows])]
        folds = grouped_folds(rows, stratum, case.groups[rows], names, seed=case.seed)
        draws = [_matched(side, case.groups, folds, case.seed + draw) for draw in range(DRAWS)]
        parts = [
            concatenate([predict_held_out(case.vectors, case.labels.codes, case.groups, each) for each in same])
            for same in zip(*draws, strict=True)
        ]
    except TooFewError as error:
        return undefined(headings, error)

    def scores(found: list[FloatArray]) -> FloatArray:
        columns = list(METRICS.values())
        drop = found[1][:, [BALANCED]] - found[0][:, [BALANCED]]
        return np.hstack([found[0][:, columns], found[1][:, columns], drop])

    trained = [fit for same in draws for fit, _ in same[1]]
    sizes = [len(fit) for fit in trained]
    n_groups = min(np.unique(case.groups[fit]).size for fit in trained)
    note = f"{min(sizes)} to {max(sizes)} images fitted on, of {n_groups} groups or more{left_out}"
    found = estimate(parts, scores, seed=case.seed)
    return report(headings, found, n=np.unique(parts[0].row).size, note=note)


def _comparable(case: Case, column: Categories, value: int) -> tuple[IntArray, str]:
    """Images of the classes that occur on both sides in enough groups, and a note on the other classes."""
    known = case.labels.known & column.known
    inside = column.codes == value
    kept, scarce = [], []
    for label, name in enumerate(case.labels.names):
        of_label = known & (case.labels.codes == label)
        groups = min(np.unique(case.groups[of_label & side]).size for side in (inside, ~inside))
        if groups >= MIN_GROUPS:
            kept.append(label)
        else:
            scarce.append(f"{name} ({groups} groups)")
    left_out = f"too few groups on one side of {', '.join(scarce)}"
    if len(kept) < 2:
        raise TooFewError(left_out)
    rows = np.flatnonzero(known & np.isin(case.labels.codes, kept))
    return rows, f"; {left_out}" if scarce else ""


def _matched(side: IntArray, groups: IntArray, folds: Folds, seed: int) -> tuple[Folds, Folds]:
    """Training parts from outside and from inside, matched in every class, and tested on the same inside."""
    rng = np.random.default_rng(seed)
    crossing, staying = [], []
    for fit, held_out in folds:
        test = held_out[side[held_out] % 2 == 1]
        pairs = [
            match_sizes(rng, fit[side[fit] == 2 * label], fit[side[fit] == 2 * label + 1], groups)
            for label in np.unique(side[fit] // 2).tolist()
        ]
        crossing.append((np.concatenate([outside for outside, _ in pairs]), test))
        staying.append((np.concatenate([inside for _, inside in pairs]), test))
    return crossing, staying


PROBE = BiasProbe("transfer", transfer)
