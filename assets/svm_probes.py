"""``svm_probes``: what a linear classifier reads out of a cell's features: the label, and the background."""

from collections.abc import Iterable

import polars as pl

from analysis.bias_probes import bias_probes
from analysis.figures import confusion_figure
from analysis.probes import ProbeResult, probe
from assets import display
from assets.features import Features, embeddings_version, group_parameters, read_features, user_errors
from assets.step import Cell, Check, Made, Step, log
from store.results import write_results
from store.runs import data_version
from store.schema import PROBE_PREDICTIONS, PROBE_SCORES

_SCORE_COLUMNS = [f.name for f in PROBE_SCORES.schema if f.name not in ("dataset", "encoder", "row")]
_PREDICTION_COLUMNS = [f.name for f in PROBE_PREDICTIONS.schema if f.name not in ("dataset", "encoder", "row")]


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, "repeats": cell.project.repeats, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    from threadpoolctl import threadpool_limits

    # The fits are many and small: threads cost more than they bring, and their number would change the last digits.
    with threadpool_limits(1, user_api="blas"):
        return _probe_cell(cell)


def _probe_cell(cell: Cell) -> Made:
    features = read_features(cell)
    log.info("  label, published protocol")
    with user_errors(cell):
        published = _probe(cell, features, "label", features.labels, "published")
    results = {("label", "published"): published}
    # Whether a data set has enough groups, or enough images of an attribute, is a finding and not a failure.
    undefined: list[dict[str, object]] = []
    for target, values in {"label": features.labels, **features.backgrounds}.items():
        log.info("  %s, grouped protocol", target)
        try:
            results[target, "grouped"] = _probe(cell, features, target, values, "grouped")
        except ValueError as error:
            undefined.append({"target": target, "protocol": "grouped", "note": f"undefined: {error}"})
    log.info("  bias probes")
    with user_errors(cell):
        bias = bias_probes(
            features.vectors,
            features.labels,
            features.groups,
            features.backgrounds,
            seed=cell.project.seed,
            grouped=results.get(("label", "grouped")),
            published=published,
        )
    scores = pl.concat([_scores(results.values(), undefined, cell.project.seed), bias.select(_SCORE_COLUMNS)])
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    write_results(cell.warehouse, PROBE_SCORES, scores, **names)
    predictions = _predictions(results.values(), features.images["image_id"])
    write_results(cell.warehouse, PROBE_PREDICTIONS, predictions, **names)
    whole = scores.filter(
        pl.col("fold").is_null(), pl.col("protocol").is_in(["published", "grouped"]), stratum="all", metric="accuracy"
    )
    headline = whole.filter(target="label", protocol="published")
    by_split = {row["split"]: row for row in headline.iter_rows(named=True)}
    known = pl.Series(features.labels, dtype=pl.String).drop_nulls()
    majority = known.value_counts(normalize=True, name="share").select(pl.col("share").max()).item()
    return Made(
        rows=scores.height,
        data_version=data_version(cell.warehouse, "probe_scores", **names),
        tables=("probe_scores", "probe_predictions"),
        summary={f"published {split} accuracy": row["value"] for split, row in by_split.items()},
        metadata={
            "accuracy": display.table(whole.select("target", "protocol", "split", "value", "ci_low", "ci_high", "n")),
            "confusion": display.picture(
                confusion_figure(
                    predictions.filter(target="label", split="cv"),
                    title=f"{cell.dataset}, {cell.encoder}: predicted, in % of the class",
                ),
                "Confusion matrices",
            ),
            "bias probes": display.table(
                bias.select("protocol", "target", "stratum", "metric", "value", "ci_low", "ci_high", "n"), max_rows=200
            ),
        },
        checks={
            "above_chance": Check(
                by_split["cv"]["ci_low"] > majority,
                f"label accuracy at least {by_split['cv']['ci_low']:.3f}; the largest class alone gives {majority:.3f}",
            )
        },
    )


def _probe(cell: Cell, features: Features, target: str, values: list[str | None], protocol: str) -> ProbeResult:
    strata = {name: column for name, column in features.backgrounds.items() if name != target}
    return probe(
        features.vectors,
        values,
        features.groups,
        protocol=protocol,
        target=target,
        seed=cell.project.seed,
        strata=strata,
        repeats=cell.project.repeats if target == "label" else 1,
    )


def _scores(results: Iterable[ProbeResult], undefined: list[dict[str, object]], seed: int) -> pl.DataFrame:
    defined = [result.scores.with_columns(pl.lit(result.note).alias("note")) for result in results]
    rows = [{"split": "cv", "stratum": "all", "metric": "accuracy", "seed": seed, **row} for row in undefined]
    return pl.concat([*defined, pl.DataFrame(rows, schema=defined[0].schema)]).select(_SCORE_COLUMNS)


def _predictions(results: Iterable[ProbeResult], image_ids: pl.Series) -> pl.DataFrame:
    rows = pl.concat(result.predictions for result in results)
    return rows.with_columns(image_ids.gather(rows["row"]).alias("image_id")).select(_PREDICTION_COLUMNS)


STEP = Step(
    name="svm_probes",
    description="The study's linear SVM on the label, as published and with groups kept together, by background "
    "stratum; the same probe on each background attribute: how well an encoder shows what it should not need; and the "
    "bias probes: transfer between strata, confounding walk, controls, erasure, reweighting.",
    group="analysis",
    kinds=frozenset({"scikitlearn", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="3",
    inputs=embeddings_version,
    parameters=_parameters,
    make=_make,
    checks={"above_chance": "The label's accuracy is above the largest class's share, interval and all."},
)
