"""``finetuning_shift``: the background in an encoder before and after fine-tuning, on images that were held out."""

import numpy as np
import polars as pl

from analysis.figures import tuning_shift_figure
from analysis.tuning_shift import tuning_shift
from assets import display
from assets.features import embeddings_version, group_parameters, read_features, user_errors
from assets.step import Cell, Made, Step
from assets.training_sets import part_of
from store.results import write_results
from store.runs import data_version
from store.schema import FINETUNING_SHIFT, CounterstainError

HELD_OUT, ALL = "test", "all"


def base_of(cell: Cell) -> str:
    """Return the encoder that a cell's encoder was fine-tuned from; raises `CounterstainError` where it was not."""
    spec = cell.project.encoder_specs().get(cell.encoder)
    if spec is None or "base" not in spec.arguments:
        raise CounterstainError(
            f"{cell.encoder!r} was not fine-tuned here: `counterstain finetune DATA_SET ENCODER --mode full` makes "
            "such an encoder."
        )
    return str(spec.arguments["base"])


def _inputs(cell: Cell) -> dict[str, str]:
    base = Cell(cell.project, cell.warehouse, cell.dataset, base_of(cell))
    before = {f"base {name}": version for name, version in embeddings_version(base).items()}
    trained = data_version(
        cell.warehouse, "finetuning_images", columns=["image_id", "part"], training=cell.encoder
    )  # fmt: skip
    return embeddings_version(cell) | before | {"parts": trained}


def _parameters(cell: Cell) -> dict[str, object]:
    return {"k": cell.project.k, "seed": cell.project.seed, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    base = base_of(cell)
    after = read_features(cell)
    before = read_features(Cell(cell.project, cell.warehouse, cell.dataset, base))
    parts = part_of(cell)
    # A data set that nothing was trained on is held out as a whole. An image in no part, for want of a label, is not
    # held out where others of its group were trained on.
    seen = np.array([parts.get(image_id, HELD_OUT) != HELD_OUT for image_id in after.images["image_id"]])
    held_out = ~np.isin(after.groups, after.groups[seen])
    members = {HELD_OUT: held_out} if held_out.all() else {HELD_OUT: held_out, ALL: np.ones_like(held_out)}
    frames = []
    for name, member in members.items():
        rows = np.flatnonzero(member)
        with user_errors(cell):
            found = tuning_shift(
                before.vectors[rows],
                after.vectors[rows],
                [after.labels[row] for row in rows],
                after.groups[rows],
                {key: [values[row] for row in rows] for key, values in after.backgrounds.items()},
                k=min(cell.project.k, len(rows) - 1),
                seed=cell.project.seed,
            )
        frames.append(found.with_columns(pl.lit(name).alias("images"), pl.lit(base).alias("base")))
    found = pl.concat(frames).with_columns(pl.lit(cell.project.seed, pl.Int64).alias("seed"))
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    write_results(cell.warehouse, FINETUNING_SHIFT, found, **names)
    drawn = found.filter(images=HELD_OUT)
    title = f"{cell.dataset}: {base}, and fine-tuned ({int(held_out.sum())} held-out images)"
    return Made(
        rows=found.height,
        data_version=data_version(cell.warehouse, "finetuning_shift", **names),
        tables=("finetuning_shift",),
        summary={"held-out images": int(held_out.sum()), "images": len(held_out)},
        metadata={
            "before and after, held-out images": display.table(side_by_side(drawn), 200),
            "picture": display.picture(tuning_shift_figure(drawn, title=title), "Before and after fine-tuning"),
            "before and after, all images": display.table(side_by_side(found.filter(images=ALL)), 200),
        },
    )


def side_by_side(found: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each metric and attribute: before and after with their intervals, as people read them."""
    shown = found.with_columns(_written("value", "ci_low", "ci_high").alias("shown"))
    keys = ["images", "metric", "confounder"]
    before, after = (
        shown.filter(moment=moment).select(*keys, "value", "n", pl.col("shown").alias(moment), pl.col("note"))
        for moment in ("before", "after")
    )
    both = before.join(after, on=keys, how="full", coalesce=True, nulls_equal=True, maintain_order="left_right")
    change = (pl.col("value_right") - pl.col("value")).round(3).alias("change")
    undefined = pl.coalesce("note_right", "note")
    note = pl.when(pl.col("value").is_null() | pl.col("value_right").is_null()).then(undefined).alias("note")
    return both.select(*keys, "before", "after", change, pl.coalesce("n", "n_right").alias("n"), note)


def _written(value: str, low: str, high: str) -> pl.Expr:
    number = pl.col(value).round(2).cast(pl.String)
    ends = pl.format(" [{}, {}]", pl.col(low).round(2), pl.col(high).round(2)).fill_null("")
    return pl.when(pl.col(value).is_null()).then(pl.lit("–")).otherwise(number + ends)


STEP = Step(
    name="finetuning_shift",
    description="What fine-tuning did to the background: agreement of neighbours, robustness index, decodability and "
    "gap within label before and after, on images held out from training, and on all images for comparison.",
    group="analysis",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="1",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    on_request=True,
)
