"""Scores published by the study, and ours beside them.

``scores.csv`` holds the 272 cells of the study's table: 17 encoders × 8 data sets × accuracy and F, in percent, each a
mean and a standard deviation over folds. ``encoder`` is the name of the same encoder here.

References
----------
Takeda & Sakai, IFMIA 2025, poster IF250081; arXiv:2601.14774.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files

import polars as pl

CITATION = "Takeda & Sakai, arXiv:2601.14774"

# What is known to be wrong with the published numbers, or to stand between them and ours.
_COPIED = "doubtful: the published column equals that of {} for every model but FLAIR, surely a copying error"
_DOUBTFUL = {"brainmr": _COPIED.format("BreastUS"), "breastus": _COPIED.format("BrainMR")}
# Data sets whose published column is no evidence.
DOUBTFUL = frozenset(_DOUBTFUL)
_OF_DATASET = {
    "hicervix": "the 29 published classes count every node of the tree; its training part names 26",
    "isic2019": "the 9 published classes count UNK, which has no image",
}
_OF_ENCODER = {
    "clip_vit_l14": "CLIP's second row is L/14 in one version of the paper and H/14 in another, with the same numbers",
    "uni": "the published table says B/16; the public checkpoint is ViT-L/16",
}
_ALIASES = {"clip_vit_h14": "clip_vit_l14"}
# The published F of BreakHis is above the accuracy for every model, as no macro F1 of two such classes can be; it fits
# the F1 of the larger class, which is what it is taken for, and compared with.
_F_OF_ONE_CLASS = {"breakhis": "malignant"}

_OURS = ("dataset", "encoder", "metric", "value", "ci_low", "ci_high", "n")
_SCHEMA = {
    "dataset": pl.String,
    "encoder": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "value_cv": pl.Float64,
    "n": pl.Int64,
    "published": pl.Float64,
    "published_std": pl.Float64,
    "difference": pl.Float64,
    "published_low": pl.Float64,
    "published_high": pl.Float64,
    "published_dataset": pl.String,
    "published_model": pl.String,
    "group": pl.String,
    "doubtful": pl.Boolean,
    "note": pl.String,
}


@dataclass(frozen=True)
class Column:
    """The published column that a data set is compared with.

    Attributes
    ----------
    dataset
        The study's data set.
    note
        What stands between the two, if anything.
    images
        How many images there are here; None where that is not known.
    """

    dataset: str
    note: str = ""
    images: int | None = None


def published_scores() -> pl.DataFrame:
    """Return the published cells: encoder, model, group, dataset, metric, mean and standard deviation in [0, 1].

    The published F is ``macro_f1``; that of BreakHis is ``f1``, of its class malignant.
    """
    raw = _raw()
    averaged = pl.when(pl.col("dataset").is_in(list(_F_OF_ONE_CLASS))).then(pl.lit("f1")).otherwise(pl.lit("macro_f1"))
    model = pl.concat_str("model", "backbone", separator=" ")
    return raw.select(
        "encoder",
        pl.when(pl.col("model") == pl.col("backbone")).then(pl.col("model")).otherwise(model).alias("published_model"),
        "group",
        pl.col("dataset").alias("published_dataset"),
        pl.when(pl.col("metric") == "f1").then(averaged).otherwise(pl.col("metric")).alias("metric"),
        (pl.col("mean_percent") / 100).alias("published"),
        (pl.col("std_percent") / 100).alias("published_std"),
    )


def _raw() -> pl.DataFrame:
    return pl.read_csv((files(__package__) / "scores.csv").read_bytes())


def compare(scores: pl.DataFrame, columns: Mapping[str, Column]) -> pl.DataFrame:
    """Return our scores beside the published ones, with the difference and what to think of it.

    Ours is the published protocol's score of the label: the five fold models on the held-out 20 %, and ``value_cv`` in
    cross-validation.

    Parameters
    ----------
    scores
        Rows of ``probe_scores``.
    columns
        The published column of each data set that has one.

    Returns
    -------
    polars.DataFrame
        A row per data set, encoder and metric (``accuracy``, ``macro_f1`` or ``f1``): those measured, then the
        published cells that nothing here was measured for, their `value` null. `published_low` and `published_high` are
        the range over the published encoders.
    """
    published = published_scores()
    sizes = dict(_raw().select("dataset", "n_images").unique().iter_rows())
    ours = _ours(scores, columns)
    theirs = published.rename({"encoder": "published_encoder"})
    measured = ours.join(
        theirs, on=["published_encoder", "published_dataset", "metric"], how="left", maintain_order="left"
    )
    theirs = pl.concat([_asked_of(theirs, dataset, column) for dataset, column in _all(columns).items()])
    keys = ["dataset", "published_encoder", "metric"]
    unmeasured = theirs.join(ours, on=keys, how="anti").with_columns(pl.col("published_encoder").alias("encoder"))
    span = published.group_by("published_dataset", "metric").agg(
        pl.col("published").min().alias("published_low"), pl.col("published").max().alias("published_high")
    )
    both = pl.concat([measured, unmeasured], how="diagonal_relaxed").join(
        span, on=["published_dataset", "metric"], how="left", maintain_order="left"
    )
    noted = both.with_columns(
        (pl.col("value") - pl.col("published")).alias("difference"),
        pl.col("published_dataset").is_in(list(_DOUBTFUL)).alias("doubtful"),
        pl.struct(pl.all()).map_elements(lambda row: _note(row, columns, sizes), pl.String).alias("note"),
    )
    return noted.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())


def _all(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return the columns asked for, and under their own names those of the study that nothing was asked of."""
    taken = {column.dataset for column in columns.values()}
    rest = published_scores()["published_dataset"].unique(maintain_order=True)
    return {**columns, **{name: Column(name) for name in rest if name not in taken}}


def _asked_of(theirs: pl.DataFrame, dataset: str, column: Column) -> pl.DataFrame:
    return theirs.filter(published_dataset=column.dataset).with_columns(pl.lit(dataset).alias("dataset"))


def _ours(scores: pl.DataFrame, columns: Mapping[str, Column]) -> pl.DataFrame:
    """Return our summary scores with the names under which the study may have published them."""
    summary = scores.filter(pl.col("fold").is_null(), target="label", protocol="published")
    parts = [_one_dataset(summary, dataset, column) for dataset, column in columns.items()]
    empty = (
        scores.clear()
        .select(*_OURS)
        .with_columns(
            *(pl.lit(None, pl.String).alias(name) for name in ("published_dataset", "published_encoder")),
            pl.lit(None, pl.Float64).alias("value_cv"),
        )
    )
    return pl.concat([empty, *parts], how="diagonal")


def _one_dataset(summary: pl.DataFrame, dataset: str, column: Column) -> pl.DataFrame:
    rows = summary.filter(dataset=dataset)
    one_class = _F_OF_ONE_CLASS.get(column.dataset)
    of_f = {"stratum": f"label={one_class}", "metric": "f1"} if one_class else {"stratum": "all", "metric": "macro_f1"}
    both = pl.concat([rows.filter(stratum="all", metric="accuracy"), rows.filter(**of_f)])
    crossed = both.filter(split="cv").select("encoder", "metric", pl.col("value").alias("value_cv"))
    held_out = both.filter(split="test").select(_OURS)
    return held_out.join(crossed, on=["encoder", "metric"], how="left", maintain_order="left").with_columns(
        pl.lit(column.dataset).alias("published_dataset"),
        pl.col("encoder").replace(_ALIASES).alias("published_encoder"),
    )


def _other_size(column: Column, published: int) -> str | None:
    if column.images is None or column.images == published:
        return None
    if column.images < published:
        return f"subset: {column.images:,} of {published:,} images"
    return f"{column.images:,} images, {published:,} published"


def _note(row: Mapping[str, object], columns: Mapping[str, Column], sizes: Mapping[str, int]) -> str:
    published_dataset, encoder = str(row["published_dataset"]), str(row["published_encoder"])
    one_class = _F_OF_ONE_CLASS.get(published_dataset)
    column = columns.get(str(row["dataset"]))
    notes: Iterable[str | None] = (
        "no published row for this encoder" if row["published"] is None else None,
        "not measured here" if row["value"] is None else None,
        column.note if column else None,
        _other_size(column, sizes[published_dataset]) if column else None,
        _DOUBTFUL.get(published_dataset),
        _OF_ENCODER.get(encoder) if row["published"] is not None else None,
        _OF_DATASET.get(published_dataset),
        f"F of {one_class}: the published F is above the accuracy everywhere, so it is no macro F"
        if one_class and row["metric"] == "f1"
        else None,
    )
    return "; ".join(note for note in notes if note)
