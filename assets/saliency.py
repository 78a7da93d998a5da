"""``saliency``: where in an image an encoder finds what it answers, and how much of that lies on the background."""

import base64
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from PIL import Image

from analysis.class_directions import ClassDirections
from analysis.figures import mapped_images, saliency_figure, saliency_scores_figure
from analysis.saliency import box_coverage, rank_correlation, score_map, summarise
from assets import display
from assets.answering import answered_by, class_directions
from assets.covering import identifying_boxes
from assets.embeddings import loaded_encoder
from assets.features import Features, group_parameters, read_features
from assets.progress import Progress
from assets.regions import BACKGROUND, LESION, Regions, known_regions, regions_version
from assets.registry import get_dataset
from assets.sampling import sampled
from assets.step import Cell, Check, Made, Step
from pipelines.readers import reader_of
from pipelines.saliency.grad_cam import Target
from pipelines.saliency.maps import GRAD_CAM, ROLLOUT, Asked, Mapper, Seen, mapper
from pipelines.wanted import Wanted, open_wanted
from store.results import write_results
from store.runs import data_version
from store.schema import SALIENCY, SALIENCY_MAPS, SALIENCY_SCORES, CounterstainError
from store.staged import StagedFindings

SECONDS_BETWEEN_STAGES = 15.0
BATCH_SIZE = 8
# Images whose maps are kept as pictures, and those shown in the UI.
MAPS_KEPT = 24
SHEET_IMAGES = 6
MAP_SIDE_PX = 64
CALIBRATION_IMAGES = 8
MAX_CORRELATION = 0.5
# Of a transformer some maps are empty: what speaks for a class may all be weighted negatively.
MAX_EMPTY = 0.25
_KEYS = ("method", "weights", "asked", "class")
_VALUES = ("energy", "area", "hit", "iou", "correlation")


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, "images": cell.project.saliency_images, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    try:
        found, about = _found(cell, features)
    except _UndefinedError as error:
        found, about = {}, {"why not": str(error)}
    rows = _rows(found)
    groups = dict(zip(features.images["image_id"], features.groups.tolist(), strict=True))
    scores = summarise(rows, groups, seed=cell.project.seed)
    if not found:
        nothing = {"metric": "energy", "n": 0, "note": f"undefined: {about['why not']}"}
        scores = pl.DataFrame([nothing], schema=scores.schema)
    scores = scores.with_columns(pl.lit(cell.project.seed).alias("seed"))
    maps = _maps(found)
    write_results(cell.warehouse, SALIENCY_MAPS, maps, **names)
    write_results(cell.warehouse, SALIENCY_SCORES, scores, **names)
    write_results(cell.warehouse, SALIENCY, rows, **names)
    StagedFindings(cell.warehouse, "saliency", cell.dataset, cell.encoder, "").clear()
    metadata: dict[str, Any] = {**about, "scores": display.table(scores.drop("seed"), 200)}
    if maps.height:
        metadata["contact sheet"] = _sheet(cell, maps)
    drawn = scores.filter(pl.col("metric") == "energy / area", pl.col("value").is_not_null())
    if drawn.height:
        figure = saliency_scores_figure(
            drawn.with_columns(pl.lit(cell.encoder).alias("encoder")), title=f"{cell}: what the evidence lies on"
        )
        metadata["evidence by region"] = display.picture(figure, "Share of the evidence against share of the area")
    return Made(
        rows=rows.height,
        data_version=data_version(cell.warehouse, "saliency", **names),
        tables=("saliency", "saliency_scores", "saliency_maps"),
        summary=_headline(scores),
        metadata=metadata,
        checks=_checks(rows),
    )


class _UndefinedError(Exception):
    """Why a cell has no maps: a finding, not a failure."""


def _found(cell: Cell, features: Features) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was found by image id, and a few words about how."""
    if cell.encoder not in cell.project.encoder_specs():
        raise _UndefinedError("the vectors were imported: there is no encoder to look into")
    try:
        directions = class_directions(cell, features)
    except ValueError as error:
        raise _UndefinedError(f"there is no class to ask for: {error}") from error
    encoder = loaded_encoder(cell)
    images = sampled(cell, features, cell.project.saliency_images)
    described = [STEP.code_version, _parameters(cell), encoder.fingerprint, directions.classes, regions_version(cell)]
    described += [
        hashlib.sha256(array.tobytes()).hexdigest()
        for array in (directions.coef, directions.intercept, directions.model_of)
    ]
    fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
    staged = StagedFindings(cell.warehouse, "saliency", cell.dataset, cell.encoder, fingerprint)
    wanted = {
        uri: Wanted(image_id, content)
        for uri, image_id, content in images.select("uri", "image_id", "content_hash").iter_rows()
    }
    calibration = _calibration_images(cell, wanted)
    try:
        looking = mapper(encoder, calibration, seed=cell.project.seed)
    except CounterstainError as error:
        raise _UndefinedError(str(error)) from error
    about = {"classes asked for by": answered_by(directions), "layer": looking.layer.name}
    if looking.why_not:
        about["no attention rollout"] = looking.why_not
    _look(cell, features, directions, looking, wanted, staged)
    found = staged.read()
    return {one.image_id: found[one.image_id] for one in wanted.values()}, about


def _calibration_images(cell: Cell, wanted: Mapping[str, Wanted]) -> list[Image.Image]:
    """Open the first few of the images."""
    images = []
    dataset = get_dataset(cell.warehouse, cell.dataset)
    for source in reader_of(dataset).read(dataset):
        if source.uri in wanted:
            images.append(open_wanted(source, wanted[source.uri])[1])
        if len(images) == CALIBRATION_IMAGES:
            break
    if not images:
        raise _away(cell, len(wanted))
    return images


def _look(
    cell: Cell,
    features: Features,
    directions: ClassDirections,
    looking: Mapper,
    wanted: Mapping[str, Wanted],
    staged: StagedFindings,
) -> None:
    """Map what was not mapped yet, score it, and stage it as it comes."""
    row_of = {image_id: i for i, image_id in enumerate(features.images["image_id"])}
    rows = np.array([row_of[one.image_id] for one in wanted.values()], dtype=np.int64)
    answers = directions.answers(features.vectors[rows], rows)
    classes = {
        one.image_id: {"label": features.labels[row], "answer": directions.classes[answer]}
        for one, row, answer in zip(wanted.values(), rows, answers, strict=True)
    }
    done = staged.read().keys()
    asked = {
        uri: Asked(one, _targets(directions, row_of[one.image_id], classes[one.image_id]))
        for uri, one in wanted.items()
        if one.image_id not in done
    }
    regions = known_regions(cell)
    hidden = identifying_boxes(cell)
    # The first of the sample, of which none names anybody.
    kept = {one.image_id for one in [o for o in wanted.values() if o.image_id not in hidden][:MAPS_KEPT]}
    dataset = get_dataset(cell.warehouse, cell.dataset)
    progress = Progress(f"{cell.encoder}: images mapped", len(asked))
    waiting: dict[str, Any] = {}
    last = time.monotonic()
    sources = reader_of(dataset).read(dataset) if asked else ()
    for seen in looking.maps(sources, asked, batch_size=BATCH_SIZE, workers=cell.project.workers):
        image_id = seen.image_id
        waiting[image_id] = _scored(seen, classes[image_id], regions[image_id], keep=image_id in kept)
        progress.advance(1)
        if time.monotonic() - last > SECONDS_BETWEEN_STAGES or len(waiting) >= cell.project.stage_size:
            staged.stage(waiting)
            waiting, last = {}, time.monotonic()
    if waiting:
        staged.stage(waiting)
    if progress.done < len(asked):
        raise _away(cell, len(asked) - progress.done)


def _away(cell: Cell, count: int) -> CounterstainError:
    return CounterstainError(
        f"{count} images of {cell.dataset!r} are no longer where they were read from: materialize `images` again."
    )


def _targets(directions: ClassDirections, row: int, classes: Mapping[str, str | None]) -> dict[str, Target]:
    coef = directions.coef[directions.model_of[row]]
    named = {name for name in classes.values() if name is not None}
    return {name: Target(coef[directions.classes.index(name)], directions.by_text) for name in sorted(named)}


def _scored(seen: Seen, classes: Mapping[str, str | None], known: Regions, *, keep: bool) -> dict[str, Any]:
    """Return the rows of one image, and the pictures that are kept of it."""
    shape = seen.view.shape
    boxes = {
        region: [placed for box in found if (placed := seen.view.box(box)) is not None]
        for region, found in known.items()
    }
    # What the model is not shown is no region of what it is shown.
    regions = {region: box_coverage(placed, shape) for region, placed in boxes.items() if placed}
    if LESION in regions:
        regions[BACKGROUND] = 1 - regions[LESION]
    rows, maps = [], []
    for (method, weights, asked, name), salient in _kinds(seen, classes):
        key = dict(zip(_KEYS, (method, weights, asked, name), strict=True))
        for region, coverage in regions.items():
            score = score_map(salient, coverage)
            values = dict.fromkeys(_VALUES) if score is None else {**vars(score), "correlation": None}
            rows.append({**key, "region": region, **values})
        if (method, weights) == (GRAD_CAM, "trained"):
            whole = score_map(salient, np.ones(shape))
            values = dict.fromkeys(_VALUES) if whole is None else vars(whole)
            correlation = rank_correlation(salient, seen.control[name])
            rows.append({**key, "region": None, **values, "correlation": correlation})
        if keep:
            maps.append({**key, "map": base64.b64encode(_small(salient)).decode()})
    height, width = shape
    shares = {r: [[x0 / width, y0 / height, x1 / width, y1 / height] for x0, y0, x1, y1 in b] for r, b in boxes.items()}
    picture = base64.b64encode(seen.picture).decode() if keep else None
    return {"rows": rows, "maps": maps, "picture": picture, "boxes": shares}


def _kinds(
    seen: Seen, classes: Mapping[str, str | None]
) -> Iterator[tuple[tuple[str, str, str, str], np.ndarray[Any, np.dtype[np.float32]]]]:
    """Yield each map of an image under method, weights, what was asked for, and that class."""
    for asked, name in classes.items():
        if name is not None:
            yield (GRAD_CAM, "trained", asked, name), seen.maps[GRAD_CAM, name]
            yield (GRAD_CAM, "random", asked, name), seen.control[name]
    if (ROLLOUT, "") in seen.maps:
        yield (ROLLOUT, "trained", "vector", ""), seen.maps[ROLLOUT, ""]


def _small(salient: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    image = Image.fromarray(np.rint(salient * 255).astype(np.uint8))
    image.thumbnail((MAP_SIDE_PX, MAP_SIDE_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _rows(found: Mapping[str, Any]) -> pl.DataFrame:
    rows = [{"image_id": image_id, **row} for image_id, one in found.items() for row in one["rows"]]
    return pl.DataFrame(rows, schema=_columns_of(SALIENCY.schema.empty_table()))


def _maps(found: Mapping[str, Any]) -> pl.DataFrame:
    rows = [
        {
            "image_id": image_id,
            **one_map,
            "map": base64.b64decode(one_map["map"]),
            "picture": base64.b64decode(one["picture"]),
            "boxes": json.dumps(one["boxes"], sort_keys=True),
        }
        for image_id, one in found.items()
        for one_map in one["maps"]
    ]
    return pl.DataFrame(rows, schema=_columns_of(SALIENCY_MAPS.schema.empty_table()))


def _columns_of(empty: Any) -> pl.Schema:
    return pl.DataFrame(empty).drop("dataset", "encoder", "row").schema


def _headline(scores: pl.DataFrame) -> dict[str, float]:
    shown = scores.filter(
        pl.col("value").is_not_null(),
        pl.col("metric").is_in(["energy / area", "correlation with random weights"]),
        pl.col("asked").is_in(["answer", "vector"]),
        weights="trained",
    )
    return {
        " ".join(part for part in (method, region, metric) if part): value
        for method, region, metric, value in shown.select("method", "region", "metric", "value").iter_rows()
    }


def _checks(rows: pl.DataFrame) -> dict[str, Check]:
    asked = rows.filter(pl.col("region").is_null(), method=GRAD_CAM, weights="trained", asked="answer")
    compared = asked["correlation"]
    mean = compared.drop_nulls().mean()
    empty = asked["energy"].null_count() / max(1, asked.height)
    return {
        "maps_depend_on_the_weights": Check(
            not isinstance(mean, float) or mean <= MAX_CORRELATION,
            "no map to compare"
            if not isinstance(mean, float)
            else f"mean rank correlation of {mean:.2f} with the maps of random weights, over {compared.count()} images",
        ),
        "maps_say_something": Check(empty <= MAX_EMPTY, f"{empty:.1%} of the maps are empty"),
    }


def _sheet(cell: Cell, maps: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Draw some images with the maps of their answer beside those of random weights."""
    shown = mapped_images(maps)[:SHEET_IMAGES]
    return display.picture(saliency_figure(shown, title=f"{cell}: where the evidence lies"), f"Saliency maps of {cell}")


STEP = Step(
    name="saliency",
    description="Where the score of an image's answer, and of its label, comes from (Grad-CAM), and from where its "
    "vector was gathered (attention rollout): how much of that lies inside the lesion, on burned-in words, on marks "
    "and on the background, against the area these cover; and whether a model with random weights looks at the same.",
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
    checks={
        "maps_depend_on_the_weights": "Maps of the trained model differ from those of one with random weights: their "
        f"mean rank correlation is at most {MAX_CORRELATION:g}.",
        "maps_say_something": f"At most {MAX_EMPTY:.0%} of the maps are zero everywhere.",
    },
)
