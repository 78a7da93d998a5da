"""One training from end to end: what it needs, the training, and, of a new encoder, what became of the background."""

from dataclasses import dataclass

import polars as pl

from assets import materializing
from assets.finetuning import training_name
from assets.finetuning_shift import HELD_OUT, side_by_side
from assets.project import Project


@dataclass(frozen=True)
class Finetuned:
    """What a training came to.

    Attributes
    ----------
    name
        Of the training, and of the encoder it made.
    scores
        Held-out scores of all classes together.
    shift
        The background before and after, on held-out images; None of a linear head, which leaves the encoder as it is.
    """

    name: str
    scores: pl.DataFrame
    shift: pl.DataFrame | None


def finetune(project: Project, dataset: str, encoder: str) -> Finetuned:
    """Train as the settings say, or go on where a training was killed; nothing is done twice.

    Raises
    ------
    CounterstainError
        If there is no such data set or encoder, or the training cannot be done.
    """
    name = training_name(project, dataset, encoder)
    with materializing.dagster_instance(project) as instance:
        materializing.materialize(project, instance, [dataset], [encoder], "finetuning")
        tuned = project.finetune_mode == "full"
        if tuned:
            materializing.materialize(project, instance, [dataset], [name], "finetuning_shift")
    warehouse = project.open()
    scores = warehouse.frame("finetuning_scores").filter(pl.col("label").is_null(), training=name, part="test")
    shown = scores.select("training", "metric", "value", "ci_low", "ci_high", "n", "note").collect()
    if not tuned:
        return Finetuned(name, _rounded(shown), None)
    shift = warehouse.frame("finetuning_shift").filter(dataset=dataset, encoder=name, images=HELD_OUT).collect()
    return Finetuned(name, _rounded(shown), side_by_side(shift).drop("images"))


def _rounded(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.Float64).round(3))
