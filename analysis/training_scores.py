"""Scores of what was trained by gradient, part by part, and the loss that knowing nothing of an image gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.scoring import HeldOut, Score, score_classes, score_held_out
from analysis.zero_shot.multi_label import score_sets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from analysis.arrays import FloatArray, IntArray

SCHEMA = {
    "part": pl.String,
    "label": pl.String,  # null: all
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
    "seed": pl.Int64,
}


def score_parts(
    targets: IntArray,
    logits: FloatArray,
    groups: IntArray,
    parts: Mapping[str, IntArray],
    names: Sequence[str],
    *,
    seed: int,
) -> pl.DataFrame:
    """Score the logits of every part; of several labels, those whose logit is above 0 are predicted, as published.

    Parameters
    ----------
    targets
        ``(n,)`` class codes, or for several labels ``(n, classes)`` zeros and ones.
    logits
        ``(n, classes)``.
    groups
        ``(n,)`` group codes, resampled for the intervals.
    parts
        Rows of each part by its name.
    names
        Of the classes.
    seed
        Seed of the resamples.

    Returns
    -------
    polars.DataFrame
        Columns of `SCHEMA`; a value that is undefined is null, and its note says why.
    """
    rows = [
        (part, *score, seed)
        for part, member in parts.items()
        for score in _scores(targets[member], logits[member], groups[member], tuple(names), seed)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def prior_loss(targets: IntArray, classes: int, train: IntArray, validation: IntArray) -> float:
    """Return the mean loss on `validation` of predicting the frequencies that the labels have in `train`.

    The loss is that of training: cross-entropy of codes ``(n,)``, or the mean binary cross-entropy of ``(n, classes)``.
    Frequencies are of one more image with and one more without each label, so that none is 0.
    """
    if targets.ndim == 1:
        counts = np.bincount(targets[train], minlength=classes) + 1.0
        return float(-np.log(counts / counts.sum())[targets[validation]].mean())
    share = (targets[train].sum(axis=0) + 1) / (len(train) + 2)
    there = targets[validation].astype(np.bool_)
    return float(-np.where(there, np.log(share), np.log1p(-share)).mean())


def _scores(
    targets: IntArray, logits: FloatArray, groups: IntArray, names: tuple[str, ...], seed: int
) -> Iterator[tuple[object, ...]]:
    """Yield label, metric, value, ends of the interval, n and note of every score of a part."""
    if targets.ndim == 2:
        predicted, true = logits > 0, targets.astype(np.bool_)
        for each in score_sets(logits, predicted, true, groups, "all", names, seed):
            yield each.label, each.metric, each.value, *each.interval, each.n, each.note
        return
    rows = np.arange(len(targets))
    one_model = np.zeros(len(targets), dtype=np.int64)
    held_out = HeldOut(rows, one_model, targets, logits.argmax(axis=1), groups)
    classes = len(names)
    whole = score_held_out(held_out, n_classes=classes, n_folds=1, seed=seed, decisions=logits.astype(np.float64))
    for score in whole:
        # Of one model, the mean over folds is its own score.
        if score.fold is None:
            yield None, *_said(score, "the part has too few classes")
    for code, score in score_classes(held_out, n_classes=classes, n_folds=1, seed=seed):
        yield names[code], *_said(score, "the class does not occur or is never predicted")


def _said(score: Score, reason: str) -> tuple[object, ...]:
    note = f"undefined: {reason}" if score.value is None else None
    return score.metric, score.value, *score.interval, score.n, note
