"""How far a background moves the answer among images of one label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.permutation import EXPECTATION, permute_codes
from analysis.zero_shot.table import NO_INTERVAL, Number

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray


def answer_shift(
    predicted: IntArray, labels: IntArray, background: IntArray, groups: IntArray, *, name: str, seed: int
) -> Number:
    """Share of answers that would have to change for images of one label to be answered alike in every background.

    Within a label y and a background b, half the sum of absolute differences between the shares of the answers there
    and those among all images of the label; averaged over images. 0: the background does not move the answer. Few
    images differ by chance: `expected` is the mean over permutations of the background within label, and the p-value
    theirs.

    Parameters
    ----------
    predicted, labels
        ``(n,)`` codes.
    background
        ``(n,)`` codes, unknown where -1.
    groups
        ``(n,)`` group codes, which are permuted as a whole.
    name
        Of the background.
    seed
        Seed of the permutations.

    Returns
    -------
    Number
        Stratum `name`, metric ``answer_shift``, in [0, 1].
    """
    known = background >= 0
    answers, y, b, g = (column[known] for column in (predicted, labels, background, groups))
    n = int(known.sum())
    if n == 0 or len(np.unique(b)) < 2:
        return Number(name, None, "answer_shift", None, NO_INTERVAL, n, "undefined: fewer than two values are known")
    shape = (int(y.max()) + 1, int(b.max()) + 1, int(answers.max()) + 1)
    value = _shift(answers, y, b, shape)
    permuted = permute_codes(b, g, seed=seed, within=y)
    if not permuted.varies:
        return Number(name, None, "answer_shift", value, NO_INTERVAL, n, permuted.describe())
    count = permuted.permutations if permuted.testable else EXPECTATION
    chance = np.array([_shift(answers, y, column, shape) for column in permuted.first(count)])
    # With a margin for the last digits: equal arrangements must count as equal.
    p_value = float((1 + (chance >= value - 1e-9).sum()) / (1 + len(chance))) if permuted.testable else None
    return Number(name, None, "answer_shift", value, NO_INTERVAL, n, permuted.describe(), float(chance.mean()), p_value)


def _shift(answers: IntArray, labels: IntArray, background: IntArray, shape: tuple[int, int, int]) -> float:
    cell = np.ravel_multi_index((labels, background, answers), shape)
    counts: FloatArray = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
    images = counts.sum(axis=2, keepdims=True)
    of_label = counts.sum(axis=1, keepdims=True)
    share = np.divide(of_label, of_label.sum(axis=2, keepdims=True), out=np.zeros_like(of_label), where=of_label > 0)
    return float(np.abs(counts - images * share).sum() / 2 / images.sum())
