"""Calibration: how often the audits' tests err, what intervals cover, how metrics move, where the truth is planted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import polars as pl

from analysis.audits import audit_cell, discover_audits
from analysis.coverage import SCHEMA as COVERAGE_SCHEMA
from analysis.coverage import interval_coverage
from analysis.neighbors import cosine_neighbors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from analysis.arrays import FloatArray, IntArray

ALPHA = 0.05
# The audits that test, and the metric that each tests, by what the null hypothesis is of.
TESTS = {
    "background": {"confounder_agreement": "confounder_agreement", "robustness": "robustness_index"},
    "label": {"label_agreement": "label_agreement"},
}
SCHEMA = {
    "world": pl.String,
    "metric": pl.String,
    "strength": pl.Float64,
    "association": pl.Float64,
    "images": pl.Int32,
    "repetitions": pl.Int32,
    "rejected": pl.Float64,
    "rejected_ci_low": pl.Float64,
    "rejected_ci_high": pl.Float64,
    "alpha": pl.Float64,
    "mean": pl.Float64,
    "mean_expected": pl.Float64,
    "undefined": pl.Float64,
    "seed": pl.Int64,
}
# Neighbours listed, as where data sets are audited.
_LISTED = 100
# Distance of backgrounds at strength 1, of labels always, in standard deviations of the noise in one direction.
_BACKGROUND, _LABEL = 4.0, 3.0
_DIMENSIONS, _LABELS, _GROUP_SIZE = 32, 3, 4
# Sizes of unalike patients, and how often each is that of one without the background; with it, the other way round.
_SIZES, _OFTEN = (2, 4, 8), (0.5, 0.3, 0.2)


@dataclass(frozen=True)
class Setting:
    """One point of the grid: how conspicuous the background is, how far it goes with the label, and how many images."""

    strength: float
    association: float
    images: int


class Sample(NamedTuple):
    """Features ``(n, d)``, and codes ``(n,)`` of label, background and group."""

    vectors: FloatArray
    labels: IntArray
    background: IntArray
    groups: IntArray


class World(Protocol):
    """Draws samples whose truth is known."""

    def __call__(self, setting: Setting, seed: int) -> Sample:
        """Draw one sample; the same for the same setting and seed."""
        ...


@dataclass(frozen=True)
class Trial:
    """One world over a grid.

    Attributes
    ----------
    world
        Its name.
    draw
        Draws a sample.
    settings
        The grid.
    plants
        What the strength is of, so that nothing is there to be found at 0; audits of it alone are run.
    independent
        Whether samples of a setting share nothing: else what intervals cover cannot be told from them.
    """

    world: str
    draw: World
    settings: Sequence[Setting]
    plants: Literal["background", "label"] = "background"
    independent: bool = True


class Calibration(NamedTuple):
    """What was found: `SCHEMA`, a row per metric and setting, and `analysis.coverage.SCHEMA`, a row per metric."""

    metrics: pl.DataFrame
    intervals: pl.DataFrame


def grid(strengths: Iterable[float], associations: Iterable[float], images: Iterable[int]) -> list[Setting]:
    """Return every combination."""
    return [Setting(*point) for point in product(strengths, associations, images)]


def feature_world(*, nested: bool) -> World:
    """Return a world of Gaussian features: label, background, patient and noise add up.

    Parameters
    ----------
    nested
        Whether the background is drawn for images, so that it varies within patients, or for whole patients.
    """

    def draw(setting: Setting, seed: int) -> Sample:
        rng = np.random.default_rng(
            [seed, int(nested), round(1000 * setting.strength), round(1000 * setting.association)]
        )
        n_groups = setting.images // _GROUP_SIZE
        groups = np.repeat(np.arange(n_groups), _GROUP_SIZE)
        label_of = np.arange(n_groups) % _LABELS
        labels = label_of[groups]
        background = carriers(labels if nested else label_of, setting.association, rng)
        background = background if nested else background[groups]
        return Sample(_features(setting, labels, background, groups, rng), labels, background, groups)

    return draw


def uneven_world() -> World:
    """Return a world of features whose patients are unalike.

    Patients have 2, 4 or 8 images, those with the background more of them, and every fourth has images of two labels;
    the background is the patient's. Else as `feature_world`.
    """

    def draw(setting: Setting, seed: int) -> Sample:
        rng = np.random.default_rng([seed, 2, round(1000 * setting.strength), round(1000 * setting.association)])
        n_groups = setting.images // min(_SIZES)
        label_of = np.arange(n_groups) % _LABELS
        background_of = carriers(label_of, setting.association, rng)
        size = np.where(
            background_of == 1,
            rng.choice(_SIZES, n_groups, p=_OFTEN[::-1]),
            rng.choice(_SIZES, n_groups, p=_OFTEN),
        )
        groups = np.repeat(np.arange(n_groups), size)[: setting.images]
        of_two = rng.random(n_groups) < 0.25
        place = np.concatenate([np.arange(each) for each in size])[: setting.images]
        labels = (label_of[groups] + (of_two[groups] & (place % 2 == 1))) % _LABELS
        return Sample(
            _features(setting, labels, background_of[groups], groups, rng), labels, background_of[groups], groups
        )

    return draw


def label_world(draw: World) -> World:
    """Return a world in which what another plants is the label, and what was the label is not known."""

    def drawn(setting: Setting, seed: int) -> Sample:
        sample = draw(setting, seed)
        return sample._replace(labels=sample.background, background=np.zeros_like(sample.labels))

    return drawn


def _features(
    setting: Setting, labels: IntArray, background: IntArray, groups: IntArray, rng: np.random.Generator
) -> FloatArray:
    directions = np.linalg.qr(rng.normal(size=(_DIMENSIONS, _LABELS + 2)))[0].T
    patients = rng.normal(size=(int(groups.max()) + 1, _DIMENSIONS))
    vectors = rng.normal(size=(len(groups), _DIMENSIONS)) + patients[groups]
    vectors += _LABEL * directions[:_LABELS][labels]
    vectors += setting.strength * _BACKGROUND * directions[_LABELS:][background]
    return vectors.astype(np.float32)


def carriers(labels: IntArray, association: float, rng: np.random.Generator) -> IntArray:
    """Give a background to a share of each label that runs from ``(1 - association) / 2`` to ``(1 + association) / 2``.

    In exact numbers, every choice of carriers equally likely: ``(n,)`` of 0 and 1.
    """
    background = np.zeros(len(labels), dtype=np.int64)
    last = max(1, int(labels.max(initial=0)))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        share = 0.5 + association * (label / last - 0.5)
        background[rng.permutation(rows)[: int(np.floor(share * len(rows) + 0.5))]] = 1
    return background


def calibrate(
    trial: Trial,
    *,
    repetitions: int,
    described: int,
    k: int,
    seed: int,
    progress: Callable[[], object] | None = None,
) -> Calibration:
    """Audit many samples of every setting.

    Parameters
    ----------
    trial
        The world and its settings.
    repetitions
        Samples of a setting of strength 0, on which only the tests are run.
    described
        Samples of every setting on which all metrics are taken; where the strength is not 0, the tests too.
    k
        Neighbours that audits read.
    seed
        Of the samples, and of resamples and permutations.
    progress
        Called after every setting.

    Returns
    -------
    Calibration
        In `metrics`, `rejected` is the share of samples in which the test rejects at `alpha`, with Wilson's interval:
        at strength 0 the rate of false positives, else the power; null for what is not tested. Samples count of which
        the audit gives a p-value, and `undefined` is the share of the others. In `intervals`, how often those of a
        metric cover the truth, as `interval_coverage`; nothing where samples are not independent.
    """
    rows: list[dict[str, object]] = []
    audited: list[pl.DataFrame] = []
    for setting in trial.settings:
        found: list[pl.DataFrame] = []
        for repetition in range(max(described, repetitions if setting.strength == 0 else 0)):
            own_seed = seed + 1000 * repetition + 1
            found.append(_audited(trial, setting, k=k, seed=own_seed, whole=repetition < described))
        together = pl.concat(found) if found else pl.DataFrame()
        rows += [
            _row(trial, setting, str(metric), results, seed)
            for (metric,), results in (together.group_by("metric", maintain_order=True) if found else ())
        ]
        if found and trial.independent:
            point = (
                pl.lit(value, pl.Float64).alias(name)
                for name, value in (("strength", setting.strength), ("association", setting.association))
            )
            audited.append(together.with_columns(*point, pl.lit(setting.images, pl.Int32).alias("images")))
        if progress:
            progress()
    metrics = pl.DataFrame(rows, schema=SCHEMA)
    if not audited:
        return Calibration(metrics, pl.DataFrame(schema=COVERAGE_SCHEMA))
    return Calibration(metrics, interval_coverage(pl.concat(audited), world=trial.world, seed=seed))


def beyond_chance(null: pl.DataFrame) -> pl.DataFrame:
    """Return the settings whose rate of false positives is above its `alpha` by more than chance gives in any of them.

    Parameters
    ----------
    null
        Rows of `calibrate` of strength 0 that have a rate.

    Returns
    -------
    polars.DataFrame
        Rows whose one-sided binomial p-value is below 0.05 over the number of rows (Bonferroni).
    """
    from scipy.stats import binomtest

    p_values = [
        binomtest(round(rejected * repetitions), repetitions, alpha, alternative="greater").pvalue
        for rejected, repetitions, alpha in null.select("rejected", "repetitions", "alpha").iter_rows()
    ]
    return null.filter(pl.Series(p_values, dtype=pl.Float64) * null.height < ALPHA)


def _audited(trial: Trial, setting: Setting, *, k: int, seed: int, whole: bool) -> pl.DataFrame:
    """Audit a sample as a data set is: wholly, or by what is tested alone."""
    sample = trial.draw(setting, seed)
    neighbors = cosine_neighbors(sample.vectors, max(k, _LISTED), groups=sample.groups)
    tests = TESTS[trial.plants]
    # What is not planted has a truth that the settings do not move.
    of_background = trial.plants == "background"
    every = [name for name, audit in discover_audits().items() if audit.reads_confounder == of_background]
    frame = audit_cell(
        neighbors,
        sample.labels,
        {"background": sample.background} if of_background else {},
        sample.groups,
        k=k,
        seed=seed,
        vectors=sample.vectors,
        only=every if whole else tests,
    ).summary
    frame = frame.filter(~pl.col("metric").str.ends_with("_by_k"))
    return frame if whole else frame.filter(pl.col("metric").is_in(list(tests.values())))


def _row(trial: Trial, setting: Setting, metric: str, results: pl.DataFrame, seed: int) -> dict[str, object]:
    from scipy.stats import binomtest

    values, expected, p_values = (
        results[column].drop_nulls().to_numpy() for column in ("value", "expected", "p_value")
    )
    counted = p_values if metric in TESTS[trial.plants].values() else values
    rejected = int(np.sum(p_values <= ALPHA))
    between = binomtest(rejected, len(p_values)).proportion_ci(method="wilson") if len(p_values) else None
    return {
        "world": trial.world,
        "metric": metric,
        "strength": setting.strength,
        "association": setting.association,
        "images": setting.images,
        "repetitions": len(counted),
        "rejected": rejected / len(p_values) if len(p_values) else None,
        "rejected_ci_low": between.low if between else None,
        "rejected_ci_high": between.high if between else None,
        "alpha": ALPHA,
        "mean": float(values.mean()) if len(values) else None,
        "mean_expected": float(expected.mean()) if len(expected) else None,
        "undefined": 1 - len(counted) / results.height,
        "seed": seed,
    }
