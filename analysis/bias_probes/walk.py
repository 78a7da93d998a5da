"""How a probe degrades as its training set walks from balanced to fully confounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import Estimate, TooFewError, grouped_folds, predict_held_out
from analysis.bootstrap import bootstrap_sums

if TYPE_CHECKING:
    from analysis.arrays import Categories, FloatArray, IntArray
    from analysis.bias_probes.case import BiasScore, Case
    from analysis.bias_probes.held_out import Folds

CRAMERS_V = (0.0, 0.25, 0.5, 0.75, 1.0)
REPEATS = 2
CHANCE = 0.5
# Images per class in a training set: a multiple of 8 makes every association exact.
STEP, MIN_PER_CLASS = 8, 16


@dataclass(frozen=True)
class Walk:
    """Training sets and test sets of every iteration.

    Attributes
    ----------
    rows, cell
        ``(m,)`` images and their cell ``2 * class + value``.
    folds
        ``iterations * len(CRAMERS_V)`` parts, the associations of an iteration one after another; their test
        sets are the same.
    per_class
        Images of each class in every training set.
    """

    rows: IntArray
    cell: IntArray
    folds: Folds
    per_class: int


def walk(case: Case) -> list[BiasScore]:
    """Train on sets of one size, in which label and background are ever more associated; test on a balanced one.

    With m images per class, ``m (1 + V) / 2`` of them have the background that goes with the class and the rest
    the other one, which makes Cramér's V of the training set exactly V. The sets are nested: each step
    exchanges images. The background goes with the class as it does in the data. The test set holds as many
    images of each of the four cells, none of whose groups is trained on. One iteration for each of five folds,
    divided twice. From accuracies A[V, i]:

        apd = mean_i(mean_{V>0}(A[V, i] / A[0, i]) - 1)
        nipd = trapezium over V of (Ā[V] - Ā[0]) / (Ā[0] - ½)

    Parameters
    ----------
    case
        Attributes with two values, and the two commonest classes.

    Returns
    -------
    list of BiasScore
        Target ``label``, protocol ``walk``: ``accuracy`` in stratum ``attribute:V=0.50``; ``apd`` and ``nipd`` in
        stratum ``attribute``, 0 where the background does no harm. The latter divides by the skill of the
        balanced probe, and is undefined unless that probe's interval is above chance. Intervals keep the
        training sets.

    References
    ----------
    PathoROB, arXiv:2507.17845, for APD; PyPI `croma` 1.0.1 for both.
    """
    return [score for name, column in case.backgrounds.items() for score in _walk(case, name, column)]


def _walk(case: Case, name: str, column: Categories) -> list[BiasScore]:
    headings = [
        *(Heading("label", "walk", f"{name}:V={v:.2f}", "accuracy") for v in CRAMERS_V),
        *(Heading("label", "walk", name, metric) for metric in ("apd", "nipd")),
    ]
    try:
        design, classes = design_walk(case, column)
        sums = _sums(case, design)
    except TooFewError as error:
        return undefined(headings[-2:], error)
    [values] = summarise(sums.sum(axis=0)[None])
    flat = sums.reshape(len(sums), -1)
    intervals = bootstrap_sums(flat, lambda drawn: summarise(drawn.reshape(-1, *sums.shape[1:])), seed=case.seed)
    found = [Estimate(float(value), interval) for value, interval in zip(values, intervals, strict=True)]
    tested = np.unique(np.concatenate([held_out for _, held_out in design.folds])).size
    note = f"{classes}; {2 * design.per_class} images fitted on, {sums.shape[2]} iterations"
    scores = report(headings, found, n=tested, note=note)
    value, (low, _) = found[0]
    if low is None or low <= CHANCE:
        reason = f"the balanced probe, {value:.3f}, is not above chance by its interval; {note}"
        scores[-1:] = undefined(headings[-1:], reason, n=tested)
    return scores


def design_walk(case: Case, column: Categories) -> tuple[Walk, str]:
    """Draw the training and test sets, and name the pairing; TooFewError where a cell is too small."""
    if len(column.names) != 2:
        raise TooFewError(f"the attribute has {len(column.names)} values, and the walk is between two")
    known = case.labels.known & column.known
    counts = np.bincount(case.labels.codes[known], minlength=len(case.labels.names))
    classes = np.sort(np.argsort(-counts, kind="stable")[:2])
    rows = np.flatnonzero(known & np.isin(case.labels.codes, classes))
    cell = 2 * np.searchsorted(classes, case.labels.codes[rows]) + column.codes[rows]
    names = [f"{case.labels.names[label]} with {value}" for label in classes for value in column.names]
    sizes = np.bincount(cell, minlength=len(names))
    # The cells that grow with V, those on the diagonal or the others.
    growing = np.array([0, 3] if sizes[0] * sizes[3] >= sizes[1] * sizes[2] else [1, 2])
    divisions = [
        fold
        for repeat in range(REPEATS)
        for fold in grouped_folds(np.arange(len(rows)), cell, case.groups[rows], names, seed=case.seed + repeat)
    ]
    room = np.min([np.bincount(cell[fit], minlength=4) for fit, _ in divisions], axis=0)
    room[np.setdiff1d(np.arange(4), growing)] *= 2
    per_class = int(room.min()) // STEP * STEP
    if per_class < MIN_PER_CLASS:
        scarcest = int(room.argmin())
        raise TooFewError(
            f"{sizes[scarcest]} images of {names[scarcest]} allow training sets of {per_class} images per class, "
            f"and {MIN_PER_CLASS} are needed"
        )
    rng = np.random.default_rng(case.seed)
    folds = [part for fit, held_out in divisions for part in _steps(rng, cell, fit, held_out, growing, per_class)]
    pairing = f"{names[growing[0]]}, {names[growing[1]]} at V=1"
    return Walk(rows, cell, [(rows[fit], rows[test]) for fit, test in folds], per_class), pairing


def _steps(
    rng: np.random.Generator, cell: IntArray, fit: IntArray, held_out: IntArray, growing: IntArray, per_class: int
) -> Folds:
    """Nested training sets of one iteration, and its balanced test set."""
    tests = [held_out[cell[held_out] == code] for code in range(4)]
    size = min(map(len, tests))
    if size == 0:
        raise TooFewError("a fold holds out no image of one of the cells")
    test = np.sort(np.concatenate([rng.permutation(part)[:size] for part in tests]))
    queues = [rng.permutation(fit[cell[fit] == code]) for code in range(4)]
    parts = []
    for v in CRAMERS_V:
        counts = [round(per_class * (1 + v if code in growing else 1 - v) / 2) for code in range(4)]
        chosen = np.concatenate([queue[:count] for queue, count in zip(queues, counts, strict=True)])
        parts.append((np.sort(chosen), test))
    return parts


def _sums(case: Case, design: Walk) -> FloatArray:
    """Hits at every V, then images, of each group: ``(groups, 1 + len(CRAMERS_V), iterations, 4)``."""
    held_out = predict_held_out(case.vectors, case.labels.codes, case.groups, design.folds)
    cell = design.cell[np.searchsorted(design.rows, held_out.row)]
    names, group = np.unique(held_out.group, return_inverse=True)
    iterations = len(design.folds) // len(CRAMERS_V)
    iteration, step = np.divmod(held_out.fold, len(CRAMERS_V))
    sums = np.zeros((len(names), 1 + len(CRAMERS_V), iterations, 4))
    np.add.at(sums, (group, step, iteration, cell), held_out.truth == held_out.predicted)
    first = step == 0
    np.add.at(sums, (group[first], len(CRAMERS_V), iteration[first], cell[first]), 1)
    return sums


def summarise(sums: FloatArray) -> FloatArray:
    """Mean accuracy at every V, APD and nIPD.

    Parameters
    ----------
    sums
        ``(r, 1 + len(CRAMERS_V), iterations, 4)`` hits at every V and images, by cell.

    Returns
    -------
    ndarray
        ``(r, len(CRAMERS_V) + 2)``. Cells weigh alike, also where a resample holds more of one; iterations
        whose test set it misses, or whose baseline is 0, are left out. NaN where none is left.
    """
    hits, images = sums[:, :-1], sums[:, -1:]
    present = images > 0
    recall = np.divide(hits, images, out=np.zeros(hits.shape), where=np.broadcast_to(present, hits.shape))
    cells = present.sum(axis=-1)
    tested = cells[:, 0] > 0
    accuracy = recall.sum(axis=-1) / np.maximum(cells, 1)
    mean = _mean_where(accuracy, tested[:, None])
    based = tested & (accuracy[:, 0] > 0)
    ratio = accuracy[:, 1:].mean(axis=1) / np.where(based, accuracy[:, 0], 1)
    apd = _mean_where(ratio, based) - 1
    skill = mean[:, 0] - CHANCE
    fall = np.full(mean.shape, np.nan)
    np.divide(mean - mean[:, :1], skill[:, None], out=fall, where=skill[:, None] > 0)
    nipd = np.sum(np.diff(CRAMERS_V) * (fall[:, 1:] + fall[:, :-1]) / 2, axis=1)
    result: FloatArray = np.column_stack([mean, apd, nipd])
    return result


def _mean_where(values: FloatArray, kept: FloatArray) -> FloatArray:
    """Mean over the last axis of the values kept; NaN where none is."""
    kept = np.broadcast_to(kept, values.shape)
    total, count = np.where(kept, values, 0).sum(axis=-1), kept.sum(axis=-1)
    mean: FloatArray = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


PROBE = BiasProbe("walk", walk)
