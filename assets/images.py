"""``images``: a data set's images described, and its rejects."""

from collections.abc import Iterator
from dataclasses import asdict

import polars as pl
import pyarrow as pa

from analysis.figures import image_grid_figure
from assets import display
from assets.covering import covered, identifying_boxes, searched
from assets.progress import Progress
from assets.registry import get_dataset
from assets.step import Cell, Check, Made, Step
from pipelines.ingest import Ingest
from pipelines.readers import reader_of
from store.images import read_metadata, write_images
from store.maintenance import build_indexes
from store.runs import data_version
from store.schema import REJECTS, CounterstainError

MAX_REJECTED_SHARE = 0.01
SHEET_IMAGES = 24


def _inputs(cell: Cell) -> dict[str, str]:
    dataset = get_dataset(cell.warehouse, cell.dataset)
    return {"source": reader_of(dataset).fingerprint(dataset)}


def _parameters(cell: Cell) -> dict[str, object]:
    dataset = asdict(get_dataset(cell.warehouse, cell.dataset))
    return {name: str(value) for name, value in dataset.items()}


def _make(cell: Cell) -> Made:
    ingest = Ingest(get_dataset(cell.warehouse, cell.dataset), cell.project.workers)
    boxes = identifying_boxes(cell)
    write_images(cell.warehouse, cell.dataset, (covered(batch, boxes) for batch in _readable(ingest)))
    rejects = pa.Table.from_pylist(ingest.rejects, schema=REJECTS.schema)
    cell.warehouse.replace_partition(REJECTS, rejects, dataset=cell.dataset)
    build_indexes(cell.warehouse, "images")
    images = read_metadata(cell.warehouse, cell.dataset)
    classes = images["label"].value_counts(sort=True)
    rejected = len(ingest.rejects) / (len(ingest.rejects) + images.height)
    copies = images.height - images["content_hash"].n_unique()
    metadata: dict[str, object] = {"labels": display.table(classes)}
    # No picture before it is known what to cover on it.
    known = images.join(_searched(cell), on="image_id", how="semi")
    if known.height:
        metadata["contact sheet"] = _contact_sheet(cell, known)
    if about := reader_of(get_dataset(cell.warehouse, cell.dataset)).about:
        facts = {name: getattr(about, name) for name in ("title", "citation", "licence", "obtain")}
        facts["known background"] = "; ".join(about.confounders)
        metadata["publication"] = display.table(pl.DataFrame({"what": list(facts), "known": list(facts.values())}))
    if ingest.rejects:
        metadata["rejected files"] = display.table(pl.DataFrame(ingest.rejects).select("uri", "reason"))
    return Made(
        rows=images.height,
        data_version=data_version(cell.warehouse, "images", dataset=cell.dataset),
        tables=("images", "rejects"),
        summary={
            "rejects": len(ingest.rejects),
            "classes": classes["label"].drop_nulls().len(),
            "exact copies": copies,
        },
        metadata=metadata,
        checks={
            "files_readable": Check(
                rejected <= MAX_REJECTED_SHARE, f"{len(ingest.rejects)} rejected, {rejected:.1%} of the files"
            ),
            "labels_known": Check(
                images["label"].null_count() == 0, f"{images['label'].null_count()} of {images.height} without a label"
            ),
            "as_published": _as_published(cell, images),
        },
    )


def _readable(ingest: Ingest) -> Iterator[pa.RecordBatch]:
    """Yield the batches, and raise before anything is replaced where no image could be read at all."""
    progress = Progress("images read")
    for batch in ingest.batches():
        progress.advance(batch.num_rows)
        yield batch
    if not progress.done:
        reasons = "; ".join(f"{reject['uri']}: {reject['reason']}" for reject in ingest.rejects[:3])
        raise CounterstainError(f"data set {ingest.dataset.name!r}: none of its files could be read ({reasons}).")


def _searched(cell: Cell) -> pl.DataFrame:
    return searched(cell.warehouse).filter(dataset=cell.dataset).select("image_id").collect()


def _as_published(cell: Cell, images: pl.DataFrame) -> Check:
    """Compare the number of images, and of each class under the usual label, with those of the publisher."""
    dataset = get_dataset(cell.warehouse, cell.dataset)
    about = reader_of(dataset).about
    if about is None:
        return Check(True, f"the reader {dataset.reader!r} expects no number of images")
    found = dict(images["label"].drop_nulls().value_counts().iter_rows())
    differing = [] if images.height == about.images else [f"{images.height} images of {about.images}"]
    if about.is_usual(dataset.label) and isinstance(about.classes, int) and len(found) != about.classes:
        differing.append(f"{len(found)} classes of {about.classes}")
    if about.is_usual(dataset.label) and not isinstance(about.classes, int):
        names = sorted({*found, *about.classes})
        counts = [(name, found.get(name, 0), about.classes.get(name, 0)) for name in names]
        differing += [f"{name}: {here} of {there}" for name, here, there in counts if here != there]
    return Check(not differing, "; ".join(differing) or f"{about.images} images, as published")


def _contact_sheet(cell: Cell, images: pl.DataFrame) -> object:
    chosen = images.sample(min(SHEET_IMAGES, images.height), seed=cell.project.seed, shuffle=True)
    rows = cell.warehouse.frame("images").filter(
        (pl.col("dataset") == cell.dataset) & pl.col("image_id").is_in(chosen["image_id"].to_list())
    )
    shown = rows.select("thumbnail", "label").sort("label").collect()
    tiles = [(data, label or "unknown") for data, label in shown.iter_rows()]
    png = image_grid_figure(tiles, title=f"{cell.dataset}: {len(tiles)} of {images.height} images")
    return display.picture(png, f"Images of {cell.dataset}")


STEP = Step(
    name="images",
    description="Every image of a data set: content hash, size, label, groups, what is known of its "
    "background, thumbnail.",
    group="data",
    kinds=frozenset({"python", "lancedb"}),
    scope="dataset",
    upstream=(),
    code_version="1",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={
        "files_readable": f"At most {MAX_REJECTED_SHARE:.0%} of the files were rejected.",
        "labels_known": "Every image has a label.",
        "as_published": "A known data set has as many images, and of each class, as its publisher says.",
    },
)
