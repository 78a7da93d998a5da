"""Planned contrasts: sets of encoders compared over the same images, data set by data set.

The study asks whether features are better where training was *contextually enriched*: by medical images, by language,
by a large language model. Each question is one difference of two sets' mean scores, fixed beforehand and paired by
data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from analysis.arrays import encode
from analysis.bias_probes.held_out import BALANCED, estimate
from analysis.scoring import HeldOut
from analysis.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.arrays import FloatArray

METRIC = "balanced_accuracy"
# Protocol of the scores that the study itself published.
STUDY = "study"
MAX_FLIPS = 2**16
# Two differences have an interval wider than any difference can be.
MIN_DATASETS = 3
SCHEMA = {
    "contrast": pl.String,
    "target": pl.String,
    "protocol": pl.String,
    "dataset": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "p_value": pl.Float64,
    "p_adjusted": pl.Float64,
    "n": pl.Int64,
    "seed": pl.Int64,
    "note": pl.String,
}
_KEYS = ("target", "protocol")


@dataclass(frozen=True)
class EncoderFacts:
    """What a contrast asks of an encoder.

    Attributes
    ----------
    group
        Its row group in the study: ``medical``, ``one modality``, ``general``, ``no language`` or ``control``.
    text_side
        Whether it was trained together with a text encoder.
    language_model
        Whether a large language model took part in its training.
    """

    group: str
    text_side: bool
    language_model: bool

    @property
    def language(self) -> bool:
        """Whether it was trained with language."""
        return self.text_side or self.language_model


@dataclass(frozen=True)
class Contrast:
    """One planned question.

    Attributes
    ----------
    name, question
        As they are stored, and in words.
    side
        True for an encoder of the first set, False for one of the second, None for neither.
    """

    name: str
    question: str
    side: Callable[[EncoderFacts], bool | None]


def _language_model(encoder: EncoderFacts) -> bool | None:
    return encoder.language_model if encoder.language and encoder.group != "control" else None


def _medical(encoder: EncoderFacts) -> bool | None:
    return encoder.group in ("medical", "one modality") if encoder.language and encoder.group != "control" else None


def _language(encoder: EncoderFacts) -> bool | None:
    return encoder.language if encoder.group != "control" else None


PLANNED = (
    Contrast("language_model", "with a large language model, against with other text", _language_model),
    Contrast("medical", "trained on medical images and text, against on general ones", _medical),
    Contrast("language", "trained with language, against without", _language),
    Contrast("trained", "trained, against untrained", lambda encoder: encoder.group != "control"),
)


class _Sides(NamedTuple):
    first: list[str]
    second: list[str]


def planned_contrasts(
    predictions: pl.DataFrame,
    facts: dict[str, EncoderFacts],
    *,
    seed: int,
    published: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Compare sets of encoders, on every data set and over all of them.

    The label's balanced accuracy tells which features are better, that of a background attribute which show more of
    what they should not need. Encoders are what they are, not assigned at random: sets differ in more than their name
    (size, data, resolution), and a contrast is no cause.

    Parameters
    ----------
    predictions
        Out-of-fold predictions with columns ``dataset``, ``encoder``, ``target``, ``protocol``, ``image_id``,
        ``group``, ``seed``, ``fold``, ``truth`` and ``predicted``. Folds of different seeds are different folds.
    facts
        By encoder; encoders not in it enter no contrast.
    seed
        Seed of the resamples.
    published
        The study's own scores, with columns ``dataset``, ``encoder`` and ``accuracy``: the same questions are asked of
        them, under the protocol ``study``.

    Returns
    -------
    polars.DataFrame
        Columns of `SCHEMA`. A row with a data set is the first set's mean score less the second's there, with an
        interval over resampled groups, paired as all encoders are scored on the same draw; `n` counts images. A row
        whose data set is null is the mean over data sets; three or more have Student's interval and the exact p-value
        of flipping signs, data sets being the units; `n` counts these. ``p_adjusted`` is adjusted over all such rows
        (Benjamini & Hochberg). What there is too little for is null, and the note says why.
    """
    # Sums are the same to the last digit whatever the order given; the label comes first.
    ordered = predictions.sort(pl.col("target") != "label", *_KEYS, "dataset", "encoder", "image_id", "seed", "fold")
    rows: list[dict[str, object]] = []
    for contrast in PLANNED:
        by_dataset = [
            _on_dataset(contrast, dict(zip((*_KEYS, "dataset"), key, strict=True)), part, facts, seed)
            for key, part in ordered.group_by([*_KEYS, "dataset"], maintain_order=True)
        ]
        if published is not None:
            by_dataset += [_of_study(contrast, part, facts) for part in published.partition_by("dataset")]
        found = [row for row in by_dataset if row is not None]
        if not found:
            reason = "undefined: no data set has scores of encoders on both sides"
            rows.append({"contrast": contrast.name, "target": "label", "metric": METRIC, "n": 0, "note": reason})
        rows += found
        for keys in dict.fromkeys((row["target"], row["protocol"]) for row in found):
            alike = [row for row in found if (row["target"], row["protocol"]) == keys]
            rows.append(_over_datasets(contrast, dict(zip(_KEYS, keys, strict=True)), alike, seed))
    frame = pl.DataFrame(rows, schema=SCHEMA).with_columns(seed=pl.lit(seed, pl.Int64))
    return _adjust(frame)


def _on_dataset(
    contrast: Contrast, keys: dict[str, object], part: pl.DataFrame, facts: dict[str, EncoderFacts], seed: int
) -> dict[str, object] | None:
    sides = _sides(contrast, part["encoder"].unique().sort().to_list(), facts)
    if not sides.first or not sides.second:
        return None
    encoders = [*sides.first, *sides.second]

    def difference(scores: list[FloatArray]) -> FloatArray:
        means = np.stack([score[:, BALANCED] for score in scores])
        split = len(sides.first)
        return (means[:split].mean(axis=0) - means[split:].mean(axis=0))[:, None]  # type: ignore[no-any-return]

    [found] = estimate(_held_out(part, encoders), difference, seed=seed, by_fold=True)
    return {
        "contrast": contrast.name,
        **keys,
        "metric": METRIC,
        "value": found.value,
        "ci_low": found.interval.low,
        "ci_high": found.interval.high,
        "n": part.filter(pl.col("encoder").is_in(encoders))["image_id"].n_unique(),
        "note": f"{', '.join(sides.first)} against {', '.join(sides.second)}",
    }


def _of_study(contrast: Contrast, part: pl.DataFrame, facts: dict[str, EncoderFacts]) -> dict[str, object] | None:
    """Compare published scores of one data set; nothing is known of the images behind them."""
    sides = _sides(contrast, part["encoder"].sort().to_list(), facts)
    if not sides.first or not sides.second:
        return None
    means = [part.filter(pl.col("encoder").is_in(side))["accuracy"].to_numpy().mean() for side in sides]
    return {
        "contrast": contrast.name,
        "target": "label",
        "protocol": STUDY,
        "dataset": part["dataset"][0],
        "metric": "accuracy",
        "value": float(means[0] - means[1]),
        "n": 0,
        "note": f"{', '.join(sides.first)} against {', '.join(sides.second)}; published scores, images not at hand",
    }


def _sides(contrast: Contrast, encoders: Sequence[str], facts: dict[str, EncoderFacts]) -> _Sides:
    side = {name: contrast.side(facts[name]) for name in encoders if name in facts}
    return _Sides(*([name for name, first in side.items() if first is wanted] for wanted in (True, False)))


def _held_out(part: pl.DataFrame, encoders: Sequence[str]) -> list[HeldOut]:
    """Predictions of each encoder, in codes common to all."""
    classes = encode([*part["truth"], *part["predicted"]], what="classes")
    truth, predicted = classes.codes.reshape(2, -1)
    images = part["image_id"].rank("dense").to_numpy().astype(np.int64)
    folds = pl.struct("seed", "fold").rank("dense").cast(pl.Int64) - 1
    fold = part.select(folds)["seed"].to_numpy()
    group = part["group"].to_numpy()
    member = [(part["encoder"] == encoder).to_numpy() for encoder in encoders]
    return [HeldOut(*(column[m] for column in (images, fold, truth, predicted, group))) for m in member]


def _over_datasets(
    contrast: Contrast, keys: dict[str, object], rows: list[dict[str, object]], seed: int
) -> dict[str, object]:
    """Mean over data sets, each of which counts once."""
    from scipy.stats import permutation_test, ttest_1samp

    values = np.array([row["value"] for row in rows], dtype=np.float64)
    metric = rows[0]["metric"]
    summary = {"contrast": contrast.name, **keys, "metric": metric, "value": values.mean(), "n": len(values)}
    if len(values) < MIN_DATASETS:
        return {**summary, "note": f"{contrast.question}; fewer than {MIN_DATASETS} data sets, so no interval"}
    interval = ttest_1samp(values, 0).confidence_interval() if np.ptp(values) > 0 else (values[0], values[0])
    # Exact up to 16 data sets, drawn beyond.
    rng = np.random.default_rng(seed)
    flips = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=MAX_FLIPS, rng=rng)
    note = f"{contrast.question}; p is at least {2 ** (1 - len(values)):.2g} with {len(values)} data sets"
    return {
        **summary,
        "ci_low": max(-1.0, float(interval[0])),
        "ci_high": min(1.0, float(interval[1])),
        "p_value": float(flips.pvalue),
        "note": note,
    }


def _adjust(frame: pl.DataFrame) -> pl.DataFrame:
    tested = frame["p_value"].is_not_null()
    adjusted = np.full(frame.height, math.nan)
    adjusted[tested.to_numpy()] = benjamini_hochberg(frame["p_value"].filter(tested).to_numpy())
    return frame.with_columns(p_adjusted=pl.Series(adjusted).fill_nan(None)).select(*SCHEMA)
