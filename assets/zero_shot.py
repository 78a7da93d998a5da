"""``zero_shot``: what an encoder answers when it is asked for the classes in words."""

import polars as pl

from analysis.figures import confusion_figure, over_prediction_figure, reliability_figure
from analysis.metadata import attribute_columns
from analysis.zero_shot.evaluate import Images, Prompts, ZeroShot, evaluate, undefined
from assets import display
from assets.features import (
    Features,
    embeddings_version,
    group_parameters,
    read_features,
    texts_version,
    user_errors,
    why_undefined,
)
from assets.step import Cell, Check, Made, Step
from assets.texts import label_is_a_set
from store.results import write_results
from store.runs import data_version
from store.schema import ALL_LABELS, ZERO_SHOT_PREDICTIONS, ZERO_SHOT_RELIABILITY, ZERO_SHOT_SCORES
from store.texts import TextMatrix, read_text_vectors

_TABLES = (ZERO_SHOT_SCORES, ZERO_SHOT_PREDICTIONS, ZERO_SHOT_RELIABILITY)
_SINGLE = "highest cosine"


def _inputs(cell: Cell) -> dict[str, str]:
    return {**embeddings_version(cell), **texts_version(cell)}


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    texts = read_text_vectors(cell.warehouse, cell.encoder, cell.dataset)
    if reason := why_undefined(cell, texts):
        return _write(cell, undefined(reason, seed=cell.project.seed), pl.Series([], dtype=pl.String), reason)
    assert texts is not None
    # Images may have sets of labels alone.
    features = read_features(cell, unlabelled=True)
    with user_errors(cell):
        found = evaluate(_images(cell, features), _prompts(texts), seed=cell.project.seed)
    return _write(cell, found, features.images["image_id"], None)


def _images(cell: Cell, features: Features) -> Images:
    attributes = attribute_columns(features.images)
    # Where the label itself is the list of all labels, it is no class.
    all_chosen = label_is_a_set(cell)
    label_sets = features.labels if all_chosen else attributes.get(ALL_LABELS)
    return Images(
        vectors=features.vectors,
        labels=[None] * len(features.labels) if all_chosen else features.labels,
        label_sets=label_sets,
        splits=features.images["split"].to_list(),
        groups=features.groups,
        backgrounds=features.backgrounds,
    )


def _prompts(texts: TextMatrix) -> dict[str, Prompts]:
    prompts = texts.texts.with_row_index("row").filter(kind="prompt")
    return {
        str(name): Prompts(
            vectors=texts.vectors[rows["row"].to_numpy()],
            labels=rows["label"].to_list(),
            negative=rows["negative"].to_numpy(),
            scale=texts.logit_scale,
            bias=texts.logit_bias,
        )
        for (name,), rows in sorted(prompts.group_by("prompt_set"))
    }


def _write(cell: Cell, found: ZeroShot, image_ids: pl.Series, reason: str | None) -> Made:
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    predictions = found.predictions
    if reason is None:
        predictions = predictions.with_columns(image_ids.gather(predictions["row"]).alias("image_id"))
    else:
        predictions = predictions.with_columns(pl.lit(None, pl.String).alias("image_id"))
    frames = (found.scores, predictions.drop("row"), found.reliability)
    for table, frame in zip(_TABLES, frames, strict=True):
        write_results(cell.warehouse, table, frame, **names)
    whole = found.scores.filter(split="all", stratum="all").filter(pl.col("label").is_null())
    headline = whole.filter(metric="accuracy", rule=_SINGLE).drop_nulls("value")
    return Made(
        rows=found.scores.height,
        data_version=data_version(cell.warehouse, ZERO_SHOT_SCORES.name, **names),
        tables=tuple(table.name for table in _TABLES),
        summary={f"accuracy, {row['prompt_set']}": row["value"] for row in headline.iter_rows(named=True)},
        metadata={"note": f"undefined: {reason}"} if reason else _shown(cell, found, whole),
        checks={"above_chance": _above_chance(found, headline)},
    )


def _shown(cell: Cell, found: ZeroShot, whole: pl.DataFrame) -> dict[str, object]:
    named = f"{cell.dataset} x {cell.encoder}"
    columns = ("prompt_set", "rule", "metric", "value", "ci_low", "ci_high", "n", "note")
    shown: dict[str, object] = {"scores": display.table(whole.select(columns), max_rows=60)}
    moved = found.scores.filter(metric="answer_shift", split="all").drop_nulls("value")
    if moved.height:
        said = moved.select("prompt_set", "stratum", "value", "expected", "p_value", "n", "note")
        shown["does a background move the answer"] = display.table(said)
    if found.reliability.height:
        png = reliability_figure(found.reliability, title=f"Reliability: {named}")
        shown["reliability"] = display.picture(png, f"Reliability of zero-shot answers: {named}")
    over = found.scores.filter(metric="over_prediction", split="all", stratum="all").drop_nulls("value")
    for (name,), rows in over.group_by("prompt_set", maintain_order=True):
        png = over_prediction_figure(rows, title=f"Predicted over true: {named}, {name}")
        shown[f"over-prediction, {name}"] = display.picture(
            png, f"Images said to have a label over those that do: {named}"
        )
    single = found.predictions.filter(rule=_SINGLE)
    if single.height:
        protocols = single.with_columns(pl.col("prompt_set").alias("protocol"))
        png = confusion_figure(protocols, title=f"Zero-shot answers: {named}")
        shown["confusion"] = display.picture(png, f"Confusion of zero-shot answers: {named}")
    return shown


def _above_chance(found: ZeroShot, headline: pl.DataFrame) -> Check:
    """Compare the best prompt set with always answering the largest class."""
    truth = found.predictions.filter(rule=_SINGLE)
    if truth.is_empty():
        return Check(True, "no answers that name one class")
    one = truth.filter(prompt_set=truth["prompt_set"][0])["truth"]
    largest = float(one.value_counts(normalize=True, name="share").select(pl.col("share").max()).item())
    best = headline.sort("value", descending=True).row(0, named=True)
    low = best["value"] if best["ci_low"] is None else best["ci_low"]
    return Check(
        low > largest,
        f"accuracy {best['value']:.3f} ({best['prompt_set']}, from {low:.3f}); the largest class alone {largest:.3f}",
    )


STEP = Step(
    name="zero_shot",
    description="The classes asked for in words, by every prompt set: single-label and multi-label rules as published "
    "and as they should be, calibration, over-prediction, and whether a background moves the answer. Undefined for "
    "an encoder without a text side.",
    group="analysis",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings", "text_embeddings"),
    code_version="2",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={"above_chance": "The best prompt set is right more often than the largest class alone, interval and all."},
)
