"""``overlay_shift``: how far an encoder moves an image when only its overlay is changed."""

import dagster as dg
import numpy as np
import polars as pl

from analysis.arrays import encode as encode_column
from analysis.figures import image_grid_figure
from analysis.neighbors import unit_vectors
from analysis.shifts import SHIFT, References, measure_shift, reference_distances
from assets import display
from assets.covering import identifying_boxes
from assets.embeddings import loaded_encoder
from assets.features import Features, embeddings_version, group_parameters, read_features
from assets.progress import Progress
from assets.registry import get_dataset
from assets.step import Cell, Check, Made, Step
from pipelines.overlays.interventions import INTERVENTIONS, Changed, Subject, encode_changed
from pipelines.readers import reader_of
from pipelines.wanted import Wanted
from store.images import read_metadata
from store.results import write_results
from store.runs import data_version
from store.schema import OVERLAY_SHIFT, OVERLAY_SHIFT_EXAMPLES, CounterstainError

# Images with words, and as many without any overlay, that are changed.
IMAGES = 32
# Encoding the same pixels twice differs by rounding alone.
MAX_NOISE = 1e-3
SHEET_IMAGES = 4
# Images with words, and without, whose pictures are kept for the report: those that moved most.
EXAMPLES = 3


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, "images": IMAGES, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    changed = _changed(cell)
    references = _references(cell, features)
    loadable = cell.encoder in cell.project.encoder_specs()
    rows = _rows(features, changed, references, cell.project.seed, loadable=loadable)
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    write_results(cell.warehouse, OVERLAY_SHIFT, rows, **names)
    noise = rows.filter(intervention="unchanged", metric=SHIFT)["value"].item()
    metadata = {"shift": display.table(rows.drop("seed"))}
    # Their pictures are of the image itself, with what may identify someone on it.
    hidden = identifying_boxes(cell)
    shown = [one for one in changed if one.image_id not in hidden]
    write_results(cell.warehouse, OVERLAY_SHIFT_EXAMPLES, _examples(features, shown), **names)
    removed = [one for one in shown if "text removed" in one.pictures]
    planted = [one for one in shown if "text removed" not in one.pictures]
    if planted:
        metadata["words and callipers planted"] = _sheet(cell, planted, images_across=1)
    if removed:
        metadata["words removed"] = _sheet(cell, removed, images_across=2)
    return Made(
        rows=rows.height,
        data_version=data_version(cell.warehouse, "overlay_shift", **names),
        tables=("overlay_shift", "overlay_shift_examples"),
        summary={
            f"{intervention}: {metric}": value
            for intervention, metric, value in rows.select("intervention", "metric", "value").iter_rows()
            if value is not None and metric != SHIFT
        },
        metadata=metadata,
        checks={
            "still_when_unchanged": Check(
                noise is None or noise <= MAX_NOISE,
                "nothing was encoded" if noise is None else f"the same image encoded again is {noise:.2g} away",
            )
        },
    )


def _changed(cell: Cell) -> list[Changed]:
    """Change and encode a sample of the images; none where the vectors came from elsewhere."""
    if cell.encoder not in cell.project.encoder_specs():
        return []
    subjects = _subjects(cell)
    dataset = get_dataset(cell.warehouse, cell.dataset)
    progress = Progress(f"{cell.encoder}: images changed", len(subjects))
    changed = []
    for one in encode_changed(
        loaded_encoder(cell),
        reader_of(dataset).read(dataset),
        subjects,
        seed=cell.project.seed,
        workers=cell.project.workers,
    ):
        changed.append(one)
        progress.advance(1)
    if progress.done < len(subjects):
        raise CounterstainError(
            f"{len(subjects) - progress.done} images of {cell.dataset!r} are no longer where they were read from: "
            "materialize `images` again."
        )
    return changed


def _subjects(cell: Cell) -> dict[str, Subject]:
    """Choose images with words whose place is known, and images without any overlay."""
    named = pl.col("dataset") == cell.dataset
    boxes = cell.warehouse.frame("images").filter(named).select("image_id", "overlay_boxes").collect()
    detected = cell.warehouse.frame("image_attributes").filter(named).select("image_id", "overlay_boxes").collect()
    images = (
        read_metadata(cell.warehouse, cell.dataset)
        .join(boxes, on="image_id")
        .join(detected, on="image_id", how="left", suffix="_detected")
        .with_columns(pl.coalesce("overlay_boxes", "overlay_boxes_detected").alias("boxes"))
    )
    with_words = images.filter(pl.col("text_overlay") & (pl.col("boxes").list.len() > 0))
    bare = images.filter(~pl.col("text_overlay").fill_null(False), ~pl.col("annotation").fill_null(False))
    bare = bare.with_columns(pl.lit(None).cast(images.schema["boxes"]).alias("boxes"))
    chosen = pl.concat(
        part.sample(min(IMAGES, part.height), seed=cell.project.seed, shuffle=True) for part in (with_words, bare)
    )
    return {
        uri: Subject(Wanted(image_id, content), tuple(tuple(box) for box in found or ()))
        for uri, image_id, content, found in chosen.select("uri", "image_id", "content_hash", "boxes").iter_rows()
    }


def _references(cell: Cell, features: Features) -> References:
    row_of = {image_id: i for i, image_id in enumerate(features.images["image_id"])}
    near = cell.warehouse.frame("duplicates").filter(dataset=cell.dataset, kind="near").collect()
    first, second = (
        np.array([row_of[i] for i in near[name] if i in row_of], dtype=np.int64) for name in ("image_id", "other_id")
    )
    return reference_distances(features.vectors, encode_column(features.labels, what="labels").codes, first, second)


def _rows(
    features: Features, changed: list[Changed], references: References, seed: int, *, loadable: bool
) -> pl.DataFrame:
    unmoved = (
        {} if loadable else {"unmoved": "the vectors were imported: there is no encoder to encode a changed image"}
    )
    row_of = {image_id: i for i, image_id in enumerate(features.images["image_id"])}
    rows = []
    for intervention in INTERVENTIONS:
        moved = [one for one in changed if intervention.name in one.vectors]
        place = np.array([row_of[one.image_id] for one in moved], dtype=np.int64)
        after = np.array([one.vectors[intervention.name] for one in moved], dtype=np.float32)
        results = measure_shift(
            features.vectors[place], after, features.groups[place], references, seed=seed, **unmoved
        )
        rows += [(intervention.name, r.metric, r.value, r.ci_low, r.ci_high, r.n, r.note, seed) for r in results]
    columns = pl.DataFrame(OVERLAY_SHIFT.schema.empty_table()).drop("dataset", "encoder", "row").schema
    return pl.DataFrame(rows, schema=columns, orient="row")


def _examples(features: Features, changed: list[Changed]) -> pl.DataFrame:
    """Return the images that moved most, among those with words and among those without, each as it was changed."""
    row_of = {image_id: i for i, image_id in enumerate(features.images["image_id"])}
    rows = []
    for one in changed:
        before = unit_vectors(features.vectors[[row_of[one.image_id]]])
        shifts = {
            name: float(max(0, 1 - (unit_vectors(vector[None]) @ before.T).item()))
            for name, vector in one.vectors.items()
        }
        most = max(shift for name, shift in shifts.items() if not name.startswith("placebo"))
        rows.append((most, "text removed" in one.vectors, one, shifts))
    rows.sort(key=lambda row: (-row[0], row[2].image_id))
    chosen = [row for with_words in (True, False) for row in [r for r in rows if r[1] == with_words][:EXAMPLES]]
    return pl.DataFrame(
        [
            (one.image_id, name, shifts[name], one.pictures[name])
            for _, _, one, shifts in chosen
            for name in one.pictures
        ],
        {"image_id": pl.String, "intervention": pl.String, "shift": pl.Float64, "picture": pl.Binary},
        orient="row",
    )


def _sheet(cell: Cell, changed: list[Changed], *, images_across: int) -> dg.MarkdownMetadataValue:
    """Draw some images, each before and after what was done to it."""
    shown = changed[:SHEET_IMAGES]
    tiles = [(picture, name) for one in shown for name, picture in one.pictures.items()]
    title = f"{cell.dataset}: what was done to its images"
    png = image_grid_figure(tiles, title=title, across=images_across * len(shown[0].pictures))
    return display.picture(png, "Changed images")


STEP = Step(
    name="overlay_shift",
    description="Counterfactual pairs: images with their words painted over, or with BREAST, AXILLA, a side mark or a "
    "calliper planted, encoded again; how far each change moves them, relative to the distance between classes and "
    "between near-duplicates. Placebos do the same without a word: as much is painted over elsewhere, or a patch of "
    "a word's size is planted.",
    group="analysis",
    kinds=frozenset({"pytorch", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="3",
    inputs=embeddings_version,
    parameters=_parameters,
    make=_make,
    checks={"still_when_unchanged": f"An image encoded again is at most {MAX_NOISE:g} from its stored vector."},
)
