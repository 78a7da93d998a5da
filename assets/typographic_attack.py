"""``typographic_attack``: whether an encoder's answer becomes the class whose name is written into the image."""

from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from analysis.class_directions import ClassDirections
from analysis.figures import AttackedImage, attack_figure
from analysis.results import AuditResult
from analysis.typographic import CONTROL, DIFFERENCE, FLIPPED, Attack, measure_attack
from assets import display
from assets.answering import answered_by, class_directions
from assets.covering import identifying_boxes
from assets.embeddings import loaded_encoder
from assets.features import Features, group_parameters, read_features
from assets.progress import Progress
from assets.regions import TEXT, known_regions, regions_version
from assets.registry import get_dataset
from assets.sampling import sampled
from assets.step import Cell, Made, Step
from pipelines.readers import reader_of
from pipelines.typographic import Attacked, attack, neutral_word, written
from pipelines.wanted import Wanted
from store.results import write_results
from store.runs import data_version
from store.schema import TYPOGRAPHIC_ANSWERS, TYPOGRAPHIC_ATTACK, CounterstainError

# Images whose pictures are at hand, and those shown in the UI.
PICTURED_IMAGES = 48
SHEET_IMAGES = 6


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, "images": cell.project.attacked_images, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    seed, names = cell.project.seed, {"dataset": cell.dataset, "encoder": cell.encoder}
    answers = pl.DataFrame(schema=_columns_of(TYPOGRAPHIC_ANSWERS.schema.empty_table()))
    metadata: dict[str, object] = {}
    by, reason = None, _why_not(cell)
    if reason is None:
        try:
            directions = class_directions(cell, features)
        except ValueError as error:
            reason = f"there is no class to ask for: {error}"
        else:
            by = answered_by(directions)
            attacked = _attacked(cell, features, directions)
            answers = _answers(features, directions, attacked)
            metadata["examples"] = _sheet(cell, answers, attacked, by)
    if reason is None:
        groups = dict(zip(features.images["image_id"], features.groups.tolist(), strict=True))
        results = _results(answers, groups, seed)
    else:
        results = [(None, AuditResult.undefined(FLIPPED, reason, n=0))]
    rows = [(planted, by, r.metric, r.value, r.ci_low, r.ci_high, r.n, r.note, seed) for planted, r in results]
    scores = pl.DataFrame(rows, schema=_columns_of(TYPOGRAPHIC_ATTACK.schema.empty_table()), orient="row")
    write_results(cell.warehouse, TYPOGRAPHIC_ANSWERS, answers, **names)
    write_results(cell.warehouse, TYPOGRAPHIC_ATTACK, scores, **names)
    return Made(
        rows=scores.height,
        data_version=data_version(cell.warehouse, "typographic_attack", **names),
        tables=("typographic_attack", "typographic_answers"),
        summary={
            metric: value
            for metric, value in scores.filter(pl.col("planted").is_null()).select("metric", "value").iter_rows()
            if value is not None and metric in (FLIPPED, CONTROL, DIFFERENCE)
        },
        metadata={**metadata, "flips": display.table(scores.drop("seed"), 100)},
    )


def _why_not(cell: Cell) -> str | None:
    if cell.encoder not in cell.project.encoder_specs():
        return "the vectors were imported: there is no encoder to encode a changed image"
    return None


def _attacked(cell: Cell, features: Features, directions: ClassDirections) -> list[Attacked]:
    images = sampled(cell, features, cell.project.attacked_images)
    wanted = {
        uri: Wanted(image_id, content)
        for uri, image_id, content in images.select("uri", "image_id", "content_hash").iter_rows()
    }
    # The first of the sample, of which none names anybody.
    hidden = identifying_boxes(cell)
    pictured = [image_id for image_id in images["image_id"] if image_id not in hidden][:PICTURED_IMAGES]
    dataset = get_dataset(cell.warehouse, cell.dataset)
    progress = Progress(f"{cell.encoder}: images attacked", len(wanted))
    found = []
    for one in attack(
        loaded_encoder(cell),
        reader_of(dataset).read(dataset),
        wanted,
        directions.classes,
        {image_id: regions[TEXT] for image_id, regions in known_regions(cell).items() if TEXT in regions},
        seed=cell.project.seed,
        pictured=frozenset(pictured),
        workers=cell.project.workers,
    ):
        found.append(one)
        progress.advance(1)
    if progress.done < len(wanted):
        raise CounterstainError(
            f"{len(wanted) - progress.done} images of {cell.dataset!r} are no longer where they were read from: "
            "materialize `images` again."
        )
    return found


def _answers(features: Features, directions: ClassDirections, attacked: list[Attacked]) -> pl.DataFrame:
    """Return what was answered about each image, with the name of each class on it."""
    row_of = {image_id: i for i, image_id in enumerate(features.images["image_id"])}
    rows = np.array([row_of[one.image_id] for one in attacked], dtype=np.int64)
    names = np.array(directions.classes, dtype=object)
    before = names[directions.answers(np.stack([one.before for one in attacked]), rows)]
    frames = []
    for code, planted in enumerate(directions.classes):
        after = names[directions.answers(np.stack([one.planted[code] for one in attacked]), rows)]
        control = names[directions.answers(np.stack([one.neutral[code] for one in attacked]), rows)]
        frames.append(
            pl.DataFrame(
                {
                    "image_id": [one.image_id for one in attacked],
                    "label": [features.labels[row] for row in rows],
                    "planted": [planted] * len(attacked),
                    "neutral_word": [neutral_word(planted, directions.classes)] * len(attacked),
                    "before": before.tolist(),
                    "after": after.tolist(),
                    "control": control.tolist(),
                },
                schema=_columns_of(TYPOGRAPHIC_ANSWERS.schema.empty_table()),
            )
        )
    return pl.concat(frames)


def _results(answers: pl.DataFrame, groups: dict[str, int], seed: int) -> list[tuple[str | None, AuditResult]]:
    """Measure over all classes, then class by class."""
    classes = answers["planted"].unique(maintain_order=True).to_list()
    code = {name: i for i, name in enumerate(classes)}

    def measured(rows: pl.DataFrame) -> list[AuditResult]:
        columns = {
            name: np.array([code[value] for value in rows[name]], dtype=np.int64)
            for name in ("planted", "before", "after", "control")
        }
        truth = np.array([-1 if value is None else code[value] for value in rows["label"]], dtype=np.int64)
        of_group = np.array([groups[image_id] for image_id in rows["image_id"]], dtype=np.int64)
        return measure_attack(Attack(**columns, truth=truth, groups=of_group), seed=seed)

    parts: list[tuple[str | None, pl.DataFrame]] = [(None, answers)]
    parts += [(name, answers.filter(planted=name)) for name in classes]
    return [(name, result) for name, part in parts for result in measured(part)]


def _columns_of(empty: Any) -> pl.Schema:
    return pl.DataFrame(empty).drop("dataset", "encoder", "row").schema


def _sheet(cell: Cell, answers: pl.DataFrame, attacked: list[Attacked], by: str) -> dg.MarkdownMetadataValue:
    """Draw images as they are, attacked, and with the neutral word; those whose answer flipped first."""
    pictures = {one.image_id: one.pictures for one in attacked if one.pictures is not None}
    candidates = answers.filter(
        pl.col("before") != pl.col("planted"), pl.col("image_id").is_in(list(pictures))
    ).with_columns(flipped=pl.col("after") == pl.col("planted"))
    # A class after the other, so that each is seen.
    turns = candidates.with_columns(pl.int_range(pl.len()).over("planted", "flipped").alias("turn"))
    chosen = turns.sort(["flipped", "turn", "planted"], descending=[True, False, False])
    shown = []
    for row in chosen.unique("image_id", keep="first", maintain_order=True).head(SHEET_IMAGES).iter_rows(named=True):
        original, changed = pictures[row["image_id"]]
        name, neutral = changed[row["planted"]]
        shown.append(
            AttackedImage(
                (original, name, neutral),
                ("", written(row["planted"]), row["neutral_word"]),
                (row["before"], row["after"], row["control"]),
                row["planted"],
                row["label"],
            )
        )
    if not shown:
        return dg.MetadataValue.md("no image that may be shown was given another class than a planted one")
    title = f"{cell}: answers by {by}, before and after"
    return display.picture(attack_figure(shown, title=title), f"Typographic attack on {cell}")


STEP = Step(
    name="typographic_attack",
    description="The name of each class is written into a corner of an image: how often the encoder's answer (by texts "
    "where it has a text side, else by a linear probe fitted without the image) becomes that class, against a neutral "
    "word in the same box.",
    group="analysis",
    kinds=frozenset({"torch", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="1",
    inputs=regions_version,
    parameters=_parameters,
    make=_make,
    # Takes several passes of the model for each image.
    on_request=True,
)
