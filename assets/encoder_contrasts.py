"""``encoder_contrasts``: planned questions about sets of encoders, paired by data set."""

from dataclasses import fields

import polars as pl

from analysis.contrasts import EncoderFacts, planned_contrasts
from analysis.figures import contrast_figure
from analysis.published import DOUBTFUL, published_scores
from assets import display
from assets.backgrounds import image_groups
from assets.leaderboard import probe_versions
from assets.step import Cell, Made, Step
from pipelines.encoders import encoder_specs
from store.images import read_metadata
from store.results import write_results
from store.runs import data_version
from store.schema import ENCODER_CONTRASTS, CounterstainError

_READ = ["dataset", "encoder", "target", "protocol", "image_id", "seed", "fold", "truth", "predicted"]


def _facts() -> dict[str, EncoderFacts]:
    """Return what contrasts ask of each model; its second feature is no second model."""
    asked = [field.name for field in fields(EncoderFacts)]
    models = [spec for spec in encoder_specs().values() if spec.variant_of is None]
    return {spec.name: EncoderFacts(**{key: getattr(spec, key) for key in asked}) for spec in models}


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, "encoders": {name: vars(facts) for name, facts in _facts().items()}}


def _make(cell: Cell) -> Made:
    predictions = cell.warehouse.frame("probe_predictions").filter(pl.col("split") == "cv").select(_READ).collect()
    if predictions.is_empty():
        raise CounterstainError("no probe predictions yet: materialize svm_probes of at least one cell first.")
    groups = pl.concat([_groups(cell, dataset) for dataset in predictions["dataset"].unique().sort()])
    joined = predictions.join(groups, on=["dataset", "image_id"], how="inner", maintain_order="left")
    found = planned_contrasts(joined, _facts(), seed=cell.project.seed, published=_published())
    write_results(cell.warehouse, ENCODER_CONTRASTS, found)
    overall = found.filter(pl.col("dataset").is_null())
    drawn = found.filter(pl.col("value").is_not_null(), target="label")
    metadata = {
        "contrasts": display.table(
            overall.select("contrast", "target", "protocol", "value", "ci_low", "ci_high", "p_adjusted", "n", "note"),
            200,
        )
    }
    if drawn.height:
        metadata["label scores"] = display.picture(contrast_figure(drawn, metric="score"), "Planned contrasts")
    return Made(
        rows=found.height,
        data_version=data_version(cell.warehouse, "encoder_contrasts"),
        tables=("encoder_contrasts",),
        summary={
            f"{row['contrast']} {row['protocol']}": row["value"]
            for row in overall.filter(pl.col("value").is_not_null(), target="label").iter_rows(named=True)
        },
        metadata=metadata,
    )


def _published() -> pl.DataFrame:
    """Return the accuracies of the study, without the columns that are no evidence."""
    scores = published_scores().filter(~pl.col("published_dataset").is_in(list(DOUBTFUL)), metric="accuracy")
    return scores.select(dataset="published_dataset", encoder="encoder", accuracy="published").sort(
        "dataset", "encoder"
    )


def _groups(cell: Cell, dataset: str) -> pl.DataFrame:
    """Group codes of a data set's images, with columns ``dataset``, ``image_id`` and ``group``."""
    images = read_metadata(cell.warehouse, dataset)
    codes = image_groups(cell.warehouse, dataset, images)
    return images.select(pl.lit(dataset).alias("dataset"), "image_id", pl.Series("group", codes))


STEP = Step(
    name="encoder_contrasts",
    description="Are features better, or more tied to the background, with language, with a large language model, with "
    "medical images, with training at all? Sets of encoders compared on the same images, paired by data set; and the "
    "same questions asked of the scores that the study published.",
    group="findings",
    kinds=frozenset({"polars", "lancedb"}),
    scope="all",
    upstream=("svm_probes",),
    code_version="2",
    inputs=probe_versions,
    parameters=_parameters,
    make=_make,
)
