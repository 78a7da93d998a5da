"""Linear probes: what a linear classifier reads out of frozen features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import Categories, encode, require_aligned
from analysis.linear_svc import FoldModel, fit_folds
from analysis.scoring import HeldOut, Score, score_classes, score_held_out
from analysis.splits import Split, split_images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.arrays import BoolArray, Categorical, FloatArray, IntArray

FOLDS = 5
PENALTY = 100.0

SCORES_SCHEMA = {
    "target": pl.String,
    "protocol": pl.String,
    "split": pl.String,
    "fold": pl.Int32,
    "stratum": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int64,
    "seed": pl.Int64,
}
PREDICTIONS_SCHEMA = {
    "row": pl.Int64,
    "target": pl.String,
    "protocol": pl.String,
    "split": pl.String,
    "fold": pl.Int32,
    "truth": pl.String,
    "predicted": pl.String,
    "margin": pl.Float64,
    "correct": pl.Boolean,
    "seed": pl.Int64,
}


@dataclass(frozen=True)
class ProbeResult:
    """Scores and predictions of one probe.

    Attributes
    ----------
    scores
        Columns of `SCORES_SCHEMA`. `fold` is null for the mean over folds and repeats, which has the first repeat's
        `seed`, and as interval the mean of the repeats' bounds; `stratum` is ``all``, ``attribute=value``, or for
        the scores of one class (``precision``, ``recall``, ``f1``; no row per fold) ``target=name``. `value` is null
        for ``auroc`` of a part where one class occurs, and for the precision of a class never predicted.
    predictions
        Columns of `PREDICTIONS_SCHEMA`: out-of-fold (``cv``, every image that is not test, once) and on
        the test part (``test``, every test image once per fold model). `row` counts the rows given;
        `margin` is the decision value of the true class less the best other, so above 0 where correct.
    note
        Choices and what went wrong: folds whose solver was stopped or whose model predicts one class only, images
        left out.
    """

    scores: pl.DataFrame
    predictions: pl.DataFrame
    note: str


@dataclass(frozen=True)
class _Fold:
    """One fitted fold: its model and what it predicts for its own held-out part and for the test part."""

    model: FoldModel
    predictions: dict[str, tuple[IntArray, FloatArray]]


def probe(
    vectors: FloatArray,
    labels: Categorical,
    groups: IntArray,
    *,
    protocol: str,
    target: str,
    seed: int,
    strata: Mapping[str, Categorical] | None = None,
    folds: int = FOLDS,
    repeats: int = 1,
) -> ProbeResult:
    """Fit and score the study's linear SVM.

    A fifth of the images is held out for test; the rest is cross-validated, and the models of the folds
    are scored on the test part too. Features are standardised on the part that a model is fitted on, and
    ``C = 100 / N`` with N the images in that part (the study does not say which N it means). Labels may
    be a background attribute: the scores then say how well the background can be decoded.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite features, unnormalised.
    labels
        ``(n,)`` strings; None (unknown) leaves the image out.
    groups
        ``(n,)`` group codes, resampled for intervals; kept whole in the ``grouped`` protocol.
    protocol
        ``published`` (random, stratified) or ``grouped`` (no group straddles a split).
    target
        What the labels are, for the report.
    seed
        Seed of splits and resamples.
    strata
        Attributes ``(n,)`` by name; each value is scored on its own, unknown values are not.
    folds
        Number of folds.
    repeats
        Times the whole is done, with seeds ``seed``, ``seed + 1``, …: one split of some thousand images moves the
        score by a point.

    Returns
    -------
    ProbeResult
        Scores, predictions and a note.

    Raises
    ------
    ValueError
        If lengths differ, a vector is not finite, there is one class, or a class is too small for the
        folds; the message says what to do.

    References
    ----------
    Takeda & Sakai, arXiv:2601.14774.
    """
    categories = encode(labels, what=f"labels of {target}")
    columns = {name: encode(values, what=f"stratum {name!r}") for name, values in (strata or {}).items()}
    n = len(vectors)
    require_aligned(n, labels=categories.codes, groups=groups, **{name: c.codes for name, c in columns.items()})
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"vector {int(np.argmin(finite))} is not finite ({int((~finite).sum())} such rows): "
            "encode these images again or leave them out"
        )
    done = [
        _probe_once(vectors, categories, columns, groups, protocol, target, seed + repeat, folds)
        for repeat in range(repeats)
    ]
    return ProbeResult(
        _summarise(pl.concat(result.scores for result in done), seed),
        pl.concat(result.predictions for result in done),
        "; ".join(dict.fromkeys(result.note for result in done)),
    )


def _probe_once(
    vectors: FloatArray,
    categories: Categories,
    columns: Mapping[str, Categories],
    groups: IntArray,
    protocol: str,
    target: str,
    seed: int,
    folds: int,
) -> ProbeResult:
    n = len(vectors)
    known = np.flatnonzero(categories.known)
    labelled = Categories(categories.codes[known], categories.names)
    split = split_images(labelled, groups[known], protocol=protocol, folds=folds, seed=seed)
    fitted = _fit(vectors[known], labelled.codes, split)
    keys = {"target": target, "protocol": protocol}
    scores: list[dict[str, object]] = []
    predictions = []
    for part in ("cv", "test"):
        held_out, decisions = _collect(fitted, part, labelled.codes, known, groups)
        predictions.append(_predictions(held_out, decisions, labelled.names, {**keys, "split": part, "seed": seed}))
        for stratum, member in _strata(columns, n):
            kept = member[held_out.row]
            drawn = score_held_out(
                _select(held_out, kept),
                n_classes=len(labelled.names),
                n_folds=folds,
                seed=seed,
                decisions=decisions[kept],
            )
            scores.extend(_row(score, {**keys, "split": part, "stratum": stratum, "seed": seed}) for score in drawn)
        scores.extend(
            _row(score, {**keys, "split": part, "stratum": f"{target}={labelled.names[code]}", "seed": seed})
            for code, score in score_classes(held_out, n_classes=len(labelled.names), n_folds=folds, seed=seed)
        )
    return ProbeResult(
        pl.DataFrame(scores, schema=SCORES_SCHEMA),
        pl.concat(predictions),
        _note(fitted, n - len(known), protocol, labelled.names),
    )


def _summarise(scores: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Join the repeats' means over folds into one; the scores of single folds stay."""
    keys = ["target", "protocol", "split", "stratum", "metric"]
    means = scores.filter(pl.col("fold").is_null()).group_by(keys, maintain_order=True)
    summary = means.agg(pl.mean("value", "ci_low", "ci_high"), pl.min("n"))
    single = scores.filter(pl.col("fold").is_not_null())
    return pl.concat([summary.with_columns(seed=pl.lit(seed, pl.Int64)), single], how="diagonal").select(scores.columns)


def _fit(vectors: FloatArray, codes: IntArray, split: Split) -> list[_Fold]:
    """Fit the models of all folds, and let each decide on its own held-out part and on the test part."""
    from sklearn.exceptions import ConvergenceWarning

    parts = [fit for fit, _ in split.folds]
    with warnings.catch_warnings():
        # Reported in the result's note instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        models = fit_folds(vectors, codes, parts, [PENALTY / len(part) for part in parts])
    return [
        _Fold(model, {"cv": (held_out, _decide(model, vectors[held_out])), "test": (split.test, _decide(model, test))})
        for test in [vectors[split.test]]
        for model, (_, held_out) in zip(models, split.folds, strict=True)
    ]


def _decide(model: FoldModel, vectors: FloatArray) -> FloatArray:
    """Return decision values ``(n, classes)``; of two classes, the second's are the first's negated."""
    scores = model.decision_function(vectors)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1) / 2


def _collect(
    fitted: list[_Fold], part: str, codes: IntArray, known: IntArray, groups: IntArray
) -> tuple[HeldOut, FloatArray]:
    """Predictions of all folds for one part, and their decision values ``(m, classes)``."""
    parts = [fold.predictions[part] for fold in fitted]
    rows = np.concatenate([rows for rows, _ in parts])
    decisions = np.concatenate([values for _, values in parts])
    fold = np.repeat(np.arange(len(parts)), [len(rows) for rows, _ in parts])
    image = known[rows]
    return HeldOut(image, fold, codes[rows], decisions.argmax(axis=1), groups[image]), decisions


def _select(held_out: HeldOut, member: BoolArray) -> HeldOut:
    return HeldOut(
        held_out.row[member],
        held_out.fold[member],
        held_out.truth[member],
        held_out.predicted[member],
        held_out.group[member],
    )


def _strata(columns: Mapping[str, Categories], n: int) -> list[tuple[str, BoolArray]]:
    """Name and ``(n,)`` members of every stratum; first that of all images."""
    named = [
        (f"{attribute}={name}", column.codes == code)
        for attribute, column in columns.items()
        for code, name in enumerate(column.names)
    ]
    return [("all", np.ones(n, dtype=np.bool_)), *named]


def _row(score: Score, keys: dict[str, str | int]) -> dict[str, object]:
    return {
        **keys,
        "fold": score.fold,
        "metric": score.metric,
        "value": score.value,
        "ci_low": score.interval.low,
        "ci_high": score.interval.high,
        "n": score.n,
    }


def _predictions(
    held_out: HeldOut, decisions: FloatArray, names: tuple[str, ...], keys: dict[str, str | int]
) -> pl.DataFrame:
    pairs = np.arange(len(decisions))
    others = decisions.copy()
    others[pairs, held_out.truth] = -np.inf
    margin = decisions[pairs, held_out.truth] - others.max(axis=1)
    classes = pl.Series(names, dtype=pl.String)
    return pl.DataFrame(
        {
            "row": held_out.row,
            "fold": held_out.fold,
            "truth": classes.gather(held_out.truth),
            "predicted": classes.gather(held_out.predicted),
            "margin": margin,
            "correct": held_out.truth == held_out.predicted,
        }
    ).select(
        (pl.lit(keys[name]) if name in keys else pl.col(name)).cast(dtype).alias(name)
        for name, dtype in PREDICTIONS_SCHEMA.items()
    )


def _note(fitted: list[_Fold], unlabelled: int, protocol: str, names: tuple[str, ...]) -> str:
    parts = [f"{protocol} split; C = {PENALTY:g} / images fitted on"]
    stopped = [str(number) for number, fold in enumerate(fitted) if not fold.model.converged]
    if stopped:
        gap = max(float((fold.model.gap / fold.model.objective).max()) for fold in fitted)
        parts.append(
            f"solver stopped in folds {', '.join(stopped)}, at most {gap:.1e} of the objective above its minimum"
        )
    for number, fold in enumerate(fitted):
        predicted = np.unique(np.concatenate([values.argmax(axis=1) for _, values in fold.predictions.values()]))
        if len(predicted) == 1:
            parts.append(f"degenerate: fold {number} predicts {names[predicted[0]]} only")
    if unlabelled:
        parts.append(f"{unlabelled} images without a label left out")
    return "; ".join(parts)
