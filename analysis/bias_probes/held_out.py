"""Dividing by group, predicting what was held out, and scoring several such predictions on common resamples."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from analysis.bootstrap import Interval, bootstrap_sums
from analysis.linear_svc import fit_folds
from analysis.probes import FOLDS, PENALTY
from analysis.scoring import HeldOut, classification_scores, mean_defined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.arrays import BoolArray, FloatArray, IntArray

# Fewer groups cannot stand in every fold.
MIN_GROUPS = FOLDS
# Columns of `classification_scores`.
ACCURACY, MACRO_F1, BALANCED = range(3)

Folds: TypeAlias = "Sequence[tuple[IntArray, IntArray]]"


class TooFewError(ValueError):
    """The design has too few images or groups for a number; the message says of what."""


class Estimate(NamedTuple):
    """A value, NaN where undefined, and its interval over resampled groups."""

    value: float
    interval: Interval


def grouped_folds(rows: IntArray, codes: IntArray, groups: IntArray, names: Sequence[str], *, seed: int) -> Folds:
    """Divide images into folds that no group straddles, stratified as far as the groups allow.

    Parameters
    ----------
    rows
        ``(m,)`` the images to divide.
    codes
        ``(m,)`` what to stratify by, in ``0 .. len(names)-1``.
    groups
        ``(m,)`` group codes.
    names
        What the codes stand for, for the error message.
    seed
        Seed of the division. The order of rows and of names has no influence.

    Returns
    -------
    list of pairs
        Of `rows`, those to fit on and those held out, for each of `FOLDS` folds.

    Raises
    ------
    TooFewError
        If a code has fewer than `MIN_GROUPS` groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    counts = [np.unique(groups[codes == code]).size for code in range(len(names))]
    scarcest = int(np.argmin(counts))
    if counts[scarcest] < MIN_GROUPS:
        raise TooFewError(f"{counts[scarcest]} groups of {names[scarcest]}, and {MIN_GROUPS} are needed")
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return [(rows[fit], rows[held_out]) for fit, held_out in splitter.split(rows, codes, groups)]


def restrict(folds: Folds, member: BoolArray) -> Folds:
    """Keep the images that are members ``(n,)``."""
    return [(fit[member[fit]], held_out[member[held_out]]) for fit, held_out in folds]


def match_sizes(
    rng: np.random.Generator, first: IntArray, second: IntArray, groups: IntArray
) -> tuple[IntArray, IntArray]:
    """Draw from two sets of rows as many images of as many groups, the most that both have.

    Images of one group tell less than those of many: equal numbers of images alone would favour the set that
    has more groups.
    """
    n_groups = min(np.unique(groups[rows]).size for rows in (first, second))
    drawn = []
    for rows in (first, second):
        kept = rng.permutation(np.unique(groups[rows]))[:n_groups]
        drawn.append(rng.permutation(rows[np.isin(groups[rows], kept)]))
    size = min(map(len, drawn))
    return np.sort(drawn[0][:size]), np.sort(drawn[1][:size])


def predict_held_out(
    vectors: FloatArray,
    codes: IntArray,
    groups: IntArray,
    folds: Folds,
    *,
    penalty: float = PENALTY,
    sample_weight: FloatArray | None = None,
) -> HeldOut:
    """Fit the linear SVM to each fold's part, standardised on it, and predict what was held out.

    Parameters
    ----------
    vectors
        ``(n, d)``.
    codes, groups
        ``(n,)``; codes of the images in `folds` are ≥ 0.
    folds
        Rows to fit on and rows to predict.
    penalty
        C times the number of images fitted on.
    sample_weight
        ``(folds, n)`` weights of the images' losses in each fold.

    Returns
    -------
    HeldOut
        Predictions, fold by fold.

    Raises
    ------
    TooFewError
        If some part lacks a code that another one has.

    Warns
    -----
    ConvergenceWarning
        If the solver was stopped.
    """
    present = np.unique(codes[np.concatenate([fit for fit, _ in folds])])
    for number, (fit, _) in enumerate(folds):
        if len(present) < 2 or not np.isin(present, codes[fit]).all():
            raise TooFewError(f"fold {number} would be fitted without one of the classes")
    parts = [fit for fit, _ in folds]
    models = fit_folds(vectors, codes, parts, [penalty / len(fit) for fit in parts], sample_weight=sample_weight)
    rows = np.concatenate([held_out for _, held_out in folds])
    fold = np.repeat(np.arange(len(folds)), [len(held_out) for _, held_out in folds])
    predicted = np.concatenate(
        [model.predict(vectors[held_out]) for model, (_, held_out) in zip(models, folds, strict=True)]
    )
    return HeldOut(rows, fold, codes[rows], predicted.astype(np.int64), groups[rows])


def select(held_out: HeldOut, member: BoolArray) -> HeldOut:
    """Keep the predictions that are members ``(m,)``."""
    return HeldOut(*(column[member] for column in _columns(held_out)))


def concatenate(parts: Sequence[HeldOut]) -> HeldOut:
    """Join predictions of different divisions, whose folds stay apart."""
    offsets = np.cumsum([0, *(int(part.fold.max()) + 1 for part in parts)])
    shifted = [
        HeldOut(part.row, part.fold + offset, part.truth, part.predicted, part.group)
        for part, offset in zip(parts, offsets.tolist(), strict=False)
    ]
    return HeldOut(*(np.concatenate(column) for column in zip(*map(_columns, shifted), strict=True)))


def estimate(
    parts: Sequence[HeldOut],
    statistic: Callable[[list[FloatArray]], FloatArray],
    *,
    seed: int,
    by_fold: bool = False,
) -> list[Estimate]:
    """Score several sets of predictions on the same resampled groups.

    A difference of two sets is thereby paired wherever they share groups.

    Parameters
    ----------
    parts
        Predictions, at least one image each.
    statistic
        Maps the sets' scores, each ``(r, metrics)`` in the order of `classification_scores`, to ``(r, s)``.
    seed
        Seed of the resamples.
    by_fold
        True to score fold by fold and take the mean, as `probe` does, so that the numbers compare to its own. Else
        all folds are scored as one: a fold that holds out no image of a rare class would lift the balanced
        accuracy of guessing above one over the number of classes.

    Returns
    -------
    list of Estimate
        One for each of the `s` numbers. Intervals cover which images were seen, not what another training
        set would have changed.
    """
    from scipy.sparse import coo_matrix, hstack

    names = np.unique(np.concatenate([part.group for part in parts]))
    shapes, sums = [], []
    for part in parts:
        classes = int(max(part.truth.max(), part.predicted.max())) + 1
        fold = part.fold if by_fold else np.zeros_like(part.fold)
        shapes.append((int(fold.max()) + 1, classes, classes))
        cell = np.ravel_multi_index((fold, part.truth, part.predicted), shapes[-1])
        group = np.searchsorted(names, part.group)
        size = (len(names), int(np.prod(shapes[-1])))
        # Sparse: a group's images fall into few of the cells.
        sums.append(coo_matrix((np.ones(len(cell)), (group, cell)), shape=size))
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()

    def score(drawn: FloatArray) -> FloatArray:
        return statistic(
            [
                mean_defined(classification_scores(drawn[:, start:end].reshape(-1, *shape)))
                for shape, start, end in zip(shapes, ends[:-1], ends[1:], strict=True)
            ]
        )

    joined = hstack(sums).tocsr()
    values = score(np.asarray(joined.sum(axis=0)).reshape(1, -1))[0]
    intervals = bootstrap_sums(joined, score, seed=seed)
    return [Estimate(float(value), interval) for value, interval in zip(values, intervals, strict=True)]


def _columns(held_out: HeldOut) -> tuple[IntArray, ...]:
    return held_out.row, held_out.fold, held_out.truth, held_out.predicted, held_out.group
