"""The shared vocabulary: tables, columns, keys, names and the error that speaks to a user.

Everything that crosses from one package to another is described here. Importing this module loads pyarrow and
nothing heavier.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1
SCHEMA_VERSION_KEY = b"counterstain_schema"

EMBEDDINGS_PREFIX = "embeddings__"
STAGING_PREFIX = "staging__"
TEXT_EMBEDDINGS_PREFIX = "text_embeddings__"

_DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ENCODER_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


class CounterstainError(Exception):
    """Something the user can put right; the message names the thing and the remedy."""


@dataclass(frozen=True)
class TableSpec:
    """A table's Arrow schema, the columns that identify a row, and those that identify a partition."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    partition: tuple[str, ...]


def check_dataset_name(name: str) -> str:
    """Return `name`, or raise `CounterstainError` where it could not be a partition key everywhere."""
    if not _DATASET_NAME.fullmatch(name) or ".." in name:  # Dagster refuses three dots
        raise CounterstainError(
            f"{name!r} cannot name a data set: use 1 to 64 letters, digits, '_', '-' or single '.', "
            "beginning with a letter or digit."
        )
    return name


def check_encoder_name(name: str) -> str:
    """Return `name`, or raise `CounterstainError` where it could not be part of a table's name in SQL."""
    if not _ENCODER_NAME.fullmatch(name):
        raise CounterstainError(
            f"{name!r} cannot name an encoder: use 1 to 64 lower-case letters, digits or '_', "
            "beginning with a letter or digit."
        )
    return name


def _table(name: str, fields: list[pa.Field], key: tuple[str, ...], partition: tuple[str, ...]) -> TableSpec:
    """Declare a table; key columns become Lance's primary key, so that racing first writers leave no duplicate."""
    keyed = [
        f.with_nullable(False).with_metadata(
            {"lance-schema:unenforced-primary-key:position": str(key.index(f.name) + 1)}
        )
        if f.name in key
        else f
        for f in fields
    ]
    metadata = {SCHEMA_VERSION_KEY: str(SCHEMA_VERSION).encode()}
    return TableSpec(name, pa.schema(keyed, metadata=metadata), key, partition)


_TIME = pa.timestamp("us", tz="UTC")
BOX = pa.list_(pa.int32(), 4)  # x0, y0, x1, y1 in px, half-open

# What is known of an image beside its pixels. Searches filter on these, so every embeddings table carries them too.
METADATA_FIELDS = [
    pa.field("label", pa.string()),
    pa.field("split", pa.string()),
    pa.field("patient", pa.string()),
    pa.field("slide", pa.string()),
    pa.field("modality", pa.string()),
    pa.field("view", pa.string()),
    pa.field("text_overlay", pa.bool_()),
    pa.field("text_overlay_source", pa.string()),  # given | detected | corrected
    pa.field("overlay_text", pa.string()),
    pa.field("annotation", pa.bool_()),
    pa.field("annotation_source", pa.string()),
    pa.field("annotation_kinds", pa.list_(pa.string())),
    pa.field("attributes", pa.string()),  # every other column of the source, one JSON object of strings
]
METADATA_COLUMNS = tuple(f.name for f in METADATA_FIELDS)
# What a source may say of an image, and what a user may correct afterwards.
GIVEN_COLUMNS = tuple(
    c for c in METADATA_COLUMNS if c not in ("text_overlay_source", "annotation_source", "attributes")
)
# A correction so named says which group of duplicates an image is in; the table ``duplicates`` follows it.
GROUP_CORRECTION = "duplicate_group"
# An attribute so named is a further label: chosen by ``--label``, and never read as background.
LABEL_PREFIX = "label:"
# The attribute ``label:all`` has all labels of an image that may have several or none, joined by this.
ALL_LABELS = LABEL_PREFIX + "all"
LABEL_SEPARATOR = ";"
# An attribute so named is a further text on the image, beside its caption; numbered ones (``text:caption_2``) are of
# one kind. None is ever read as background.
TEXT_PREFIX = "text:"
# Columns whose images must not straddle a split, beside those a data set names for itself.
GROUP_COLUMNS = ("patient", "slide")
# Background columns that every analysis stratifies by where they vary, beside a data set's own attributes.
BACKGROUND_COLUMNS = ("text_overlay", "annotation", "view", "slide")

IMAGES = _table(
    "images",
    [
        pa.field("dataset", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("content_hash", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("format", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("overlay_boxes", pa.list_(BOX)),
        pa.field("lesion_box", BOX),
        pa.field("thumbnail", pa.binary()),
        *METADATA_FIELDS,
    ],
    key=("dataset", "image_id"),
    partition=("dataset",),
)
REJECTS = _table(
    "rejects",
    [pa.field("dataset", pa.string()), pa.field("uri", pa.string()), pa.field("reason", pa.string())],
    key=("dataset", "uri"),
    partition=("dataset",),
)
DATASETS = _table(
    "datasets",
    [
        pa.field("dataset", pa.string()),
        pa.field("reader", pa.string()),
        pa.field("root", pa.string()),
        pa.field("label", pa.string()),
        pa.field("groups", pa.list_(pa.string())),
        pa.field("registered_at", _TIME),
    ],
    key=("dataset",),
    partition=("dataset",),
)
IMPORTED_ENCODERS = _table(
    "imported_encoders",
    [
        pa.field("encoder", pa.string()),
        pa.field("dimension", pa.int32()),
        pa.field("source", pa.string()),
        pa.field("imported_at", _TIME),
    ],
    key=("encoder",),
    partition=("encoder",),
)
OVERLAYS = _table(
    "overlays",
    [
        pa.field("dataset", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("item", pa.int32()),
        pa.field("kind", pa.string()),  # word | logo | scale | calliper | arrow | box | colour
        pa.field("text", pa.string()),
        pa.field("term", pa.string()),
        pa.field("box", BOX),
        pa.field("confidence", pa.float32()),
        pa.field("possible_identifying", pa.bool_()),
    ],
    key=("dataset", "image_id", "item"),
    partition=("dataset",),
)
# What was detected of an image as a whole; the flags among it reach ``images`` where nobody gave or corrected them.
IMAGE_ATTRIBUTES = _table(
    "image_attributes",
    [
        pa.field("dataset", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("fingerprint", pa.string()),  # the detectors and their terms
        pa.field("text_overlay", pa.bool_()),
        pa.field("overlay_text", pa.string()),
        pa.field("overlay_boxes", pa.list_(BOX)),
        pa.field("annotation", pa.bool_()),
        pa.field("annotation_kinds", pa.list_(pa.string())),
        pa.field("aspect", pa.float32()),  # width / height
        pa.field("dark_corners", pa.int32()),  # how many of four
        pa.field("frame_share", pa.float32()),  # of the area, within a uniform frame
        pa.field("ruler", pa.bool_()),  # ticks at even distances along an edge
        pa.field("coloured", pa.bool_()),  # as a whole, not by a mark
        pa.field("jpeg_quality", pa.int32()),  # null where it is no JPEG
    ],
    key=("dataset", "image_id"),
    partition=("dataset",),
)
DUPLICATES = _table(
    "duplicates",
    [
        pa.field("dataset", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("other_id", pa.string()),
        pa.field("duplicate_group", pa.string()),  # the least image id of all that hang together
        pa.field("kind", pa.string()),  # exact | near | corrected
        pa.field("distance", pa.float32()),  # null where a person says so
        pa.field("same_label", pa.bool_()),
    ],
    key=("dataset", "image_id", "other_id"),
    partition=("dataset",),
)
CORRECTIONS = _table(
    "corrections",
    [
        pa.field("dataset", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("column", pa.string()),
        pa.field("value", pa.string()),  # JSON
        pa.field("corrected_at", _TIME),
    ],
    key=("dataset", "image_id", "column"),
    partition=("dataset",),
)
# A selection that a person kept under a name; in SQL the name is a table of its images.
NAMED_VIEWS = _table(
    "named_views",
    [
        pa.field("name", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("image_ids", pa.list_(pa.string())),
        pa.field("predicate", pa.string()),  # that chose them, in words or SQL
        pa.field("saved_at", _TIME),
    ],
    key=("name",),
    partition=("name",),
)
RUNS = _table(
    "runs",
    [
        pa.field("run_id", pa.string()),
        pa.field("asset", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("encoder", pa.string()),
        pa.field("code_version", pa.string()),
        pa.field("data_version", pa.string()),
        pa.field("inputs", pa.string()),  # JSON: upstream partition → its data version
        pa.field("parameters", pa.string()),  # JSON
        pa.field("fingerprint", pa.string()),  # the encoder's weights and preprocessing
        pa.field("summary", pa.string()),  # JSON: what came out, in a few numbers
        pa.field("table_versions", pa.string()),  # JSON: table → Lance version after the write
        pa.field("rows", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("finished_at", _TIME),
    ],
    key=("run_id", "asset", "dataset", "encoder"),
    partition=("run_id", "asset", "dataset", "encoder"),
)


def _result_table(name: str, fields: list[pa.Field], partition: tuple[str, ...] = ("dataset", "encoder")) -> TableSpec:
    """Declare a table of findings: a row is identified by its place within its partition."""
    ids = [pa.field("dataset", pa.string()), pa.field("encoder", pa.string()), pa.field("row", pa.int32())]
    return _table(name, ids + fields, key=("dataset", "encoder", "row"), partition=partition)


_INTERVAL = [pa.field("ci_low", pa.float64()), pa.field("ci_high", pa.float64())]

LAYOUTS = _result_table(
    "layouts",
    [
        pa.field("n_neighbors", pa.int32()),
        pa.field("min_dist", pa.float64()),
        pa.field("image_id", pa.string()),
        pa.field("x", pa.float32()),
        pa.field("y", pa.float32()),
    ],
)
LAYOUT_QUALITY = _result_table(
    "layout_quality",
    [
        pa.field("n_neighbors", pa.int32()),
        pa.field("n_neighbors_requested", pa.int32()),
        pa.field("min_dist", pa.float64()),
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("seed", pa.int64()),
    ],
)
LAYOUT_CLUSTERS = _result_table(
    "layout_clusters",
    [
        pa.field("cluster", pa.int32()),
        pa.field("n", pa.int64()),
        pa.field("layouts", pa.int32()),  # that show it
        pa.field("layouts_in_all", pa.int32()),
        pa.field("coassignment", pa.float64()),
        pa.field("n_neighbors_low", pa.int32()),
        pa.field("n_neighbors_high", pa.int32()),
        pa.field("min_dist_low", pa.float64()),
        pa.field("min_dist_high", pa.float64()),
        pa.field("attribute", pa.string()),  # what describes it best; the label is one
        pa.field("attribute_value", pa.string()),
        pa.field("phi", pa.float64()),  # null: no value agrees with it by 0.3 or more
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
)
LAYOUT_CLUSTER_MEMBERS = _result_table(
    "layout_cluster_members",
    [
        pa.field("cluster", pa.int32()),
        pa.field("image_id", pa.string()),
        pa.field("layouts", pa.int32()),  # that show the cluster with the image in it
    ],
)
LAYOUT_ASSOCIATIONS = _result_table(
    "layout_associations",
    [
        pa.field("n_neighbors", pa.int32()),
        pa.field("min_dist", pa.float64()),
        pa.field("attribute", pa.string()),  # the label is one
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("shown", pa.bool_()),
        pa.field("n_clusters", pa.int32()),
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
)
PROBE_SCORES = _result_table(
    "probe_scores",
    [
        pa.field("target", pa.string()),
        pa.field("protocol", pa.string()),
        pa.field("split", pa.string()),
        pa.field("fold", pa.int32()),  # null: the summary over folds
        pa.field("stratum", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("n", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),
    ],
)
PROBE_PREDICTIONS = _result_table(
    "probe_predictions",
    [
        pa.field("image_id", pa.string()),
        pa.field("target", pa.string()),
        pa.field("protocol", pa.string()),
        pa.field("split", pa.string()),
        pa.field("fold", pa.int32()),
        pa.field("truth", pa.string()),
        pa.field("predicted", pa.string()),
        pa.field("margin", pa.float64()),
        pa.field("correct", pa.bool_()),
        pa.field("seed", pa.int64()),
    ],
)
NEIGHBORS = _result_table(
    "neighbors",
    [
        pa.field("image_id", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("neighbor_id", pa.string()),
        pa.field("distance", pa.float32()),
        pa.field("same_label", pa.bool_()),
        pa.field("same_background", pa.list_(pa.string())),  # the background attributes both images share
    ],
)
NEIGHBOR_AUDITS = _result_table(
    "neighbor_audits",
    [
        pa.field("audit", pa.string()),
        pa.field("confounder", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("k", pa.int32()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("p_value", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
)
OVERLAY_SHIFT = _result_table(
    "overlay_shift",
    [
        pa.field("intervention", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
)
OVERLAY_SHIFT_EXAMPLES = _result_table(
    "overlay_shift_examples",
    [
        pa.field("image_id", pa.string()),
        pa.field("intervention", pa.string()),
        pa.field("shift", pa.float64()),  # cosine distance of the image as stored and as changed
        pa.field("picture", pa.binary()),  # a small PNG; none of an image with what may identify someone
    ],
)
SALIENCY = _result_table(
    "saliency",
    [
        pa.field("image_id", pa.string()),
        pa.field("method", pa.string()),
        pa.field("weights", pa.string()),  # trained | random
        pa.field("asked", pa.string()),  # label | answer: the score of which class; vector: of none
        pa.field("class", pa.string()),
        pa.field("region", pa.string()),  # lesion | background | text | marks; null: the map as a whole
        pa.field("energy", pa.float64()),  # share of the map inside: 1 of the whole; null where it is empty
        pa.field("area", pa.float64()),
        pa.field("hit", pa.float64()),
        pa.field("iou", pa.float64()),
        pa.field("correlation", pa.float64()),  # with the map of random weights
    ],
)
SALIENCY_SCORES = _result_table(
    "saliency_scores",
    [
        pa.field("method", pa.string()),
        pa.field("weights", pa.string()),
        pa.field("asked", pa.string()),
        pa.field("region", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("expected", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
)
SALIENCY_MAPS = _result_table(
    "saliency_maps",
    [
        pa.field("image_id", pa.string()),
        pa.field("method", pa.string()),
        pa.field("weights", pa.string()),
        pa.field("asked", pa.string()),
        pa.field("class", pa.string()),
        pa.field("map", pa.binary()),  # a greyscale PNG over the model's input, white where the map is highest
        pa.field("picture", pa.binary()),  # a PNG of that input
        pa.field("boxes", pa.string()),  # JSON: region → boxes, as shares of the input's width and height
    ],
)
TYPOGRAPHIC_ATTACK = _result_table(
    "typographic_attack",
    [
        pa.field("planted", pa.string()),  # null: over all classes
        pa.field("answered_by", pa.string()),  # texts | probe
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
)
TYPOGRAPHIC_ANSWERS = _result_table(
    "typographic_answers",
    [
        pa.field("image_id", pa.string()),
        pa.field("label", pa.string()),
        pa.field("planted", pa.string()),
        pa.field("neutral_word", pa.string()),
        pa.field("before", pa.string()),
        pa.field("after", pa.string()),
        pa.field("control", pa.string()),  # the answer with the neutral word
    ],
)
NEIGHBOR_AUDIT_VALUES = _result_table(
    "neighbor_audit_values",
    [
        pa.field("image_id", pa.string()),
        pa.field("audit", pa.string()),
        pa.field("confounder", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
    ],
)
TELLING_NEIGHBORS = _result_table(
    "telling_neighbors",
    [
        pa.field("confounder", pa.string()),
        pa.field("value", pa.string()),  # of the background attribute, which both images share
        pa.field("image_id", pa.string()),
        pa.field("label", pa.string()),
        pa.field("neighbor_id", pa.string()),
        pa.field("neighbor_label", pa.string()),
        pa.field("distance", pa.float64()),
        pa.field("match_distance", pa.float64()),  # of the nearest image that shares the label
        pa.field("score", pa.float64()),
    ],
)
NEAR_DUPLICATES = _result_table(
    "near_duplicates",
    [
        pa.field("image_id", pa.string()),
        pa.field("other_id", pa.string()),
        pa.field("distance", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("same_label", pa.bool_()),
        pa.field("same_split", pa.bool_()),
    ],
)
ENCODER_AGREEMENT = _result_table(
    "encoder_agreement",
    [
        pa.field("other_encoder", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("k", pa.int32()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("expected", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
    partition=(),
)
CALIBRATION = _result_table(
    "calibration",
    [
        pa.field("world", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("strength", pa.float64()),
        pa.field("association", pa.float64()),
        pa.field("images", pa.int32()),
        pa.field("repetitions", pa.int32()),
        pa.field("rejected", pa.float64()),  # share of repetitions with p <= alpha; null where there is no test
        pa.field("rejected_ci_low", pa.float64()),
        pa.field("rejected_ci_high", pa.float64()),
        pa.field("alpha", pa.float64()),
        pa.field("mean", pa.float64()),
        pa.field("mean_expected", pa.float64()),
        pa.field("undefined", pa.float64()),  # share of sets without p (or value); not among the repetitions
        pa.field("seed", pa.int64()),
    ],
    partition=(),
)
# What an encoder's training touched of a data set: a score on images like those trained on says less.
EXPOSURE = _result_table(
    "exposure",
    [
        pa.field("seen", pa.string()),  # data set | modality | unknown (nobody says); null: neither, as far as is known
    ],
    partition=(),
)
CALIBRATION_INTERVALS = _result_table(
    "calibration_intervals",
    [
        pa.field("world", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("images", pa.int32()),
        pa.field("settings", pa.int32()),
        pa.field("intervals", pa.int32()),
        pa.field("covered", pa.float64()),  # share of intervals that hold the metric's mean over sets of their setting
        pa.field("covered_ci_low", pa.float64()),
        pa.field("covered_ci_high", pa.float64()),
        pa.field("level", pa.float64()),
        pa.field("mean_width", pa.float64()),
        pa.field("without", pa.float64()),  # share of sets with a value and no interval
        pa.field("seed", pa.int64()),
    ],
    partition=(),
)
LEADERBOARD = _result_table(
    "leaderboard",
    [
        pa.field("protocol", pa.string()),
        pa.field("split", pa.string()),
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("n", pa.int64()),
        pa.field("rank", pa.int32()),
    ],
    partition=(),  # made over all cells, replaced as a whole
)

ENCODER_CONTRASTS = _table(
    "encoder_contrasts",
    [
        pa.field("row", pa.int32()),
        pa.field("contrast", pa.string()),
        pa.field("target", pa.string()),
        pa.field("protocol", pa.string()),
        pa.field("dataset", pa.string()),  # null: over all data sets
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("p_value", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),
    ],
    key=("row",),
    partition=(),
)

PUBLISHED_COMPARISON = _result_table(
    "published_comparison",
    [
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),  # null: not measured here
        *_INTERVAL,
        pa.field("value_cv", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("published", pa.float64()),  # null: not in the study
        pa.field("published_std", pa.float64()),
        pa.field("difference", pa.float64()),
        pa.field("published_low", pa.float64()),
        pa.field("published_high", pa.float64()),
        pa.field("published_dataset", pa.string()),
        pa.field("published_model", pa.string()),
        pa.field("group", pa.string()),
        pa.field("doubtful", pa.bool_()),
        pa.field("note", pa.string()),
    ],
    partition=(),
)


def _training_table(name: str, fields: list[pa.Field]) -> TableSpec:
    """Declare a table of what trainings by gradient gave: a partition for each, by its name."""
    names = ("dataset", "encoder", "training")
    ids = [*(pa.field(each, pa.string()) for each in names), pa.field("row", pa.int32())]
    return _table(name, ids + fields, key=(*names, "row"), partition=names)


FINETUNING_EPOCHS = _training_table(
    "finetuning_epochs",
    [
        pa.field("epoch", pa.int32()),
        pa.field("train_loss", pa.float64()),  # while the weights moved
        pa.field("validation_loss", pa.float64()),
        pa.field("learning_rate", pa.float64()),  # of the last step
        pa.field("kept", pa.bool_()),  # the epoch whose weights were kept
    ],
)
FINETUNING_SCORES = _training_table(
    "finetuning_scores",
    [
        pa.field("mode", pa.string()),  # linear | full
        pa.field("part", pa.string()),  # train | validation | test
        pa.field("label", pa.string()),  # null: all
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("n", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),
    ],
)
FINETUNING_IMAGES = _training_table(
    "finetuning_images",
    [
        pa.field("image_id", pa.string()),
        pa.field("part", pa.string()),  # null: without a label, in no part
        pa.field("truth", pa.string()),
        pa.field("predicted", pa.string()),
        pa.field("margin", pa.float64()),  # logit of the true class less the best other; null for several labels
        pa.field("correct", pa.bool_()),
    ],
)
FINETUNING_SHIFT = _result_table(
    "finetuning_shift",
    [
        pa.field("base", pa.string()),
        pa.field("images", pa.string()),  # test | all
        pa.field("moment", pa.string()),  # before | after
        pa.field("confounder", pa.string()),  # null: the label itself
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("expected", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("note", pa.string()),
        pa.field("seed", pa.int64()),
    ],
)

# Column types a cell of text may be parsed to.
_COLUMN_TYPES = {f.name: f.type for f in IMAGES.schema}
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_cell(column: str, text: str | None) -> object:
    """Return a cell of a user's table as the type of `column` of ``images``; empty is None.

    Flags are written true/false, 1/0 or yes/no; lists of words are joined by ``;``; boxes are JSON.

    Raises
    ------
    CounterstainError
        If the text cannot be read as that type.
    """
    if text is None or not text.strip():
        return None
    text = text.strip()
    kind = _COLUMN_TYPES[column]
    if pa.types.is_boolean(kind):
        if text.lower() not in _FLAGS:
            raise CounterstainError(
                f"column {column!r}: {text!r} is not a flag; write true or false (or leave it empty)."
            )
        return _FLAGS[text.lower()]
    if column == "annotation_kinds":
        return [word.strip() for word in text.split(";") if word.strip()]
    if column in ("lesion_box", "overlay_boxes"):
        return _parse_boxes(column, text)
    return text


def _parse_boxes(column: str, text: str) -> list[object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    boxes = [value] if column == "lesion_box" else value
    if not isinstance(boxes, list) or not all(map(_is_box, boxes)):
        shape = "[x0, y0, x1, y1]" if column == "lesion_box" else "[[x0, y0, x1, y1], …]"
        raise CounterstainError(f"column {column!r}: {text[:80]!r} is not {shape} in whole pixels.")
    return list(value)


def _is_box(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 4 and all(type(edge) is int and abs(edge) < 2**31 for edge in value)
    )


FINDINGS = _result_table(
    "findings",
    [
        pa.field("confounder", pa.string()),  # null: the label itself
        pa.field("verdict", pa.string()),
        pa.field("sentence", pa.string()),
        pa.field("decodability", pa.float64()),
        pa.field("decodability_expected", pa.float64()),
        pa.field("decodability_ci_low", pa.float64()),
        pa.field("decodability_ci_high", pa.float64()),
        pa.field("agreement", pa.float64()),
        pa.field("agreement_expected", pa.float64()),
        pa.field("agreement_ci_low", pa.float64()),
        pa.field("agreement_ci_high", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("robustness_index", pa.float64()),
        pa.field("robustness_ci_low", pa.float64()),
        pa.field("robustness_ci_high", pa.float64()),
        pa.field("association", pa.float64()),  # Cramér's V of background and label
        pa.field("n", pa.int64()),
    ],
    partition=(),
)

TEXTS = _table(
    "texts",
    [
        pa.field("dataset", pa.string()),
        pa.field("text_id", pa.string()),
        pa.field("kind", pa.string()),  # prompt | caption | findings | … what a reader gives
        pa.field("text", pa.string()),
        pa.field("image_ids", pa.list_(pa.string())),  # the images it was written on; none for a prompt
        pa.field("prompt_set", pa.string()),  # null but for prompts, as all that follow
        pa.field("prompt_version", pa.string()),  # digest of the set as it was read
        pa.field("label", pa.string()),
        pa.field("negative", pa.bool_()),  # says that the label is not there
        pa.field("template", pa.string()),
    ],
    key=("dataset", "text_id"),
    partition=("dataset",),
)
_OF_PROMPTS = [pa.field("prompt_set", pa.string()), pa.field("rule", pa.string())]
ZERO_SHOT_SCORES = _result_table(
    "zero_shot_scores",
    [
        *_OF_PROMPTS,
        pa.field("split", pa.string()),  # all | test
        pa.field("stratum", pa.string()),
        pa.field("label", pa.string()),  # null: over all labels
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("expected", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),
    ],
)
ZERO_SHOT_PREDICTIONS = _result_table(
    "zero_shot_predictions",
    [
        pa.field("image_id", pa.string()),
        *_OF_PROMPTS,
        pa.field("truth", pa.string()),  # several labels are joined by ;
        pa.field("predicted", pa.string()),
        pa.field("probability", pa.float64()),  # of the predicted label; null where there may be several
        pa.field("correct", pa.bool_()),
    ],
)
ZERO_SHOT_RELIABILITY = _result_table(
    "zero_shot_reliability",
    [
        *_OF_PROMPTS,
        pa.field("bin_low", pa.float64()),
        pa.field("bin_high", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("confidence", pa.float64()),  # the mean of the bin
        pa.field("accuracy", pa.float64()),
    ],
)
RETRIEVAL_SCORES = _result_table(
    "retrieval_scores",
    [
        pa.field("kind", pa.string()),  # of the texts
        pa.field("direction", pa.string()),  # image to text | text to image
        pa.field("metric", pa.string()),
        pa.field("k", pa.int32()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("expected", pa.float64()),
        pa.field("n", pa.int64()),
        pa.field("candidates", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),
    ],
)
RETRIEVAL_RANKS = _result_table(
    "retrieval_ranks",
    [
        pa.field("kind", pa.string()),
        pa.field("direction", pa.string()),
        pa.field("query_id", pa.string()),  # image_id or text_id
        pa.field("rank", pa.int32()),  # of the first that belongs to it
        pa.field("average_precision", pa.float64()),
    ],
)
SEPARABILITY = _result_table(
    "separability",
    [
        pa.field("target", pa.string()),  # the label, or a background attribute
        pa.field("metric", pa.string()),
        pa.field("value", pa.float64()),
        *_INTERVAL,
        pa.field("n", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("note", pa.string()),
    ],
)

TABLES: Mapping[str, TableSpec] = {
    t.name: t
    for t in (
        DATASETS, IMAGES, REJECTS, OVERLAYS, IMAGE_ATTRIBUTES, DUPLICATES, OVERLAY_SHIFT, OVERLAY_SHIFT_EXAMPLES,
        CORRECTIONS, IMPORTED_ENCODERS, LAYOUTS, LAYOUT_QUALITY, LAYOUT_CLUSTERS,
        LAYOUT_CLUSTER_MEMBERS, LAYOUT_ASSOCIATIONS, PROBE_SCORES, PROBE_PREDICTIONS, NEIGHBORS, NEIGHBOR_AUDITS,
        NEIGHBOR_AUDIT_VALUES, TELLING_NEIGHBORS, NEAR_DUPLICATES, ENCODER_AGREEMENT, CALIBRATION,
        CALIBRATION_INTERVALS, EXPOSURE,
        LEADERBOARD, ENCODER_CONTRASTS, PUBLISHED_COMPARISON, FINDINGS, NAMED_VIEWS, RUNS, TEXTS, ZERO_SHOT_SCORES,
        ZERO_SHOT_PREDICTIONS, ZERO_SHOT_RELIABILITY, RETRIEVAL_SCORES, RETRIEVAL_RANKS, SEPARABILITY,
        FINETUNING_EPOCHS, FINETUNING_SCORES, FINETUNING_IMAGES, FINETUNING_SHIFT,
        SALIENCY, SALIENCY_SCORES, SALIENCY_MAPS, TYPOGRAPHIC_ATTACK, TYPOGRAPHIC_ANSWERS,
    )
}  # fmt: skip


def embeddings_table(encoder: str, dimension: int) -> TableSpec:
    """Declare the table of one encoder's vectors, ``(dimension,)`` float32 each, joined with `METADATA_FIELDS`."""
    return _table(
        EMBEDDINGS_PREFIX + check_encoder_name(encoder),
        [
            pa.field("dataset", pa.string()),
            pa.field("image_id", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
            pa.field("fingerprint", pa.string(), nullable=False),
            *METADATA_FIELDS,
        ],
        key=("dataset", "image_id"),
        partition=("dataset",),
    )


def staged_overlays_table() -> TableSpec:
    """Declare the table of images searched for overlays but not yet committed; a run that died resumes from it."""
    fields = [IMAGE_ATTRIBUTES.schema.field(name).with_metadata(None) for name in IMAGE_ATTRIBUTES.schema.names]
    fields.append(pa.field("items", pa.string()))  # JSON: the image's rows of ``overlays``
    # No encoder's name has a hyphen.
    return _table(STAGING_PREFIX + "overlays-found", fields, ("dataset", "image_id", "fingerprint"), ("dataset",))


def text_embeddings_table(encoder: str, dimension: int) -> TableSpec:
    """Declare the table of one encoder's vectors of texts, ``(dimension,)`` float32 each."""
    return _table(
        TEXT_EMBEDDINGS_PREFIX + check_encoder_name(encoder),
        [
            pa.field("dataset", pa.string()),
            pa.field("text_id", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
            pa.field("fingerprint", pa.string(), nullable=False),
            pa.field("logit_scale", pa.float64(), nullable=False),
            pa.field("logit_bias", pa.float64(), nullable=False),
        ],
        key=("dataset", "text_id"),
        partition=("dataset",),
    )


def staged_findings_table(asset: str) -> TableSpec:
    """Declare the table of what an asset found on single images and has not committed; a run that died goes on."""
    fields = [pa.field(name, pa.string()) for name in ("dataset", "encoder", "image_id", "fingerprint", "found")]
    return _table(
        f"{STAGING_PREFIX}{asset}-found",
        fields,
        key=("dataset", "encoder", "image_id", "fingerprint"),
        partition=("dataset", "encoder"),
    )


def staging_table(encoder: str, dimension: int) -> TableSpec:
    """Declare the table of vectors encoded but not yet committed; a run that died resumes from it."""
    keep = ("dataset", "image_id", "vector", "fingerprint")
    schema = embeddings_table(encoder, dimension).schema
    fields = [schema.field(name).with_metadata(None) for name in keep]
    return _table(STAGING_PREFIX + encoder, fields, key=("dataset", "image_id", "fingerprint"), partition=("dataset",))
