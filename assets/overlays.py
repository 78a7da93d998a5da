"""``overlays``: words, callipers, arrows, coloured marks and artefacts of every image, found and told to its flags."""

import time
from dataclasses import asdict

import dagster as dg
import polars as pl

from analysis.figures import Found, MarkedImage, marked_images_figure
from assets import display
from assets.backgrounds import terms_of
from assets.covering import cover_stored
from assets.progress import Progress
from assets.registry import get_dataset
from assets.step import Cell, Check, Made, Step
from pipelines.overlays import detect
from pipelines.overlays.detectors import detectors_fingerprint
from pipelines.overlays.identifying import WITHHELD
from pipelines.readers import reader_of
from pipelines.wanted import Wanted
from store.images import read_metadata
from store.overlays import OverlayPartition
from store.runs import data_version
from store.schema import CounterstainError

SECONDS_BETWEEN_STAGES = 15.0
MIN_AGREEMENT = 0.95
SHEET_IMAGES = 24


def _inputs(cell: Cell) -> dict[str, str]:
    # The flags that this step fills in are not among what it reads.
    return {"images": data_version(cell.warehouse, "images", columns=["content_hash"], dataset=cell.dataset)}


def _parameters(cell: Cell) -> dict[str, object]:
    return {"detectors": detectors_fingerprint(terms_of(cell.project))}


def _make(cell: Cell) -> Made:
    searched, failed = _search(cell)
    cover_stored(cell)
    names = {"dataset": cell.dataset}
    items = cell.warehouse.frame("overlays").filter(**names).collect()
    found = cell.warehouse.frame("image_attributes").filter(**names).collect()
    images = read_metadata(cell.warehouse, cell.dataset)
    withheld = items.filter(pl.col("possible_identifying"))["image_id"].n_unique()
    summary = {
        "searched now": searched,
        "share with text": _share(found["text_overlay"]),
        "share with marks": _share(found["annotation"]),
        "images with possibly identifying text": withheld,
        "images that could not be searched": found["text_overlay"].null_count(),
    }
    metadata = {
        "found": display.table(
            items.group_by("kind")
            .agg(pl.col("image_id").n_unique().alias("images"), pl.len().alias("items"))
            .sort("kind")
        ),
        "words": display.table(
            _shown_text(items).filter(kind="word")["text"].value_counts(sort=True, name="lines"), max_rows=20
        ),
        "artefacts": display.table(_artefacts(found)),
    }
    if failed:
        metadata["could not be searched"] = display.table(
            pl.DataFrame(failed, schema=["image_id", "why"], orient="row")
        )
    if items.height:
        metadata["contact sheet"] = _contact_sheet(cell, items)
    return Made(
        rows=items.height,
        data_version=data_version(cell.warehouse, "overlays", **names),
        tables=("overlays", "image_attributes", "images"),
        summary=summary,
        metadata=metadata,
        checks={
            "agrees_with_what_was_given": _agreement(images.join(found, on="image_id", suffix="_found")),
            "nothing_identifying": Check(withheld == 0, f"{withheld} images with possibly identifying text"),
        },
        fingerprint=detectors_fingerprint(terms_of(cell.project)),
    )


def _search(cell: Cell) -> tuple[int, list[tuple[str, str]]]:
    """Look at what was not looked at yet, stage it as it comes, and commit.

    Returns the number of images looked at, and on which of them a detector failed, with what it said.
    """
    terms = terms_of(cell.project)
    partition = OverlayPartition(cell.warehouse, cell.dataset, detectors_fingerprint(terms))
    images = read_metadata(cell.warehouse, cell.dataset)
    dataset = get_dataset(cell.warehouse, cell.dataset)
    missing = set(images["image_id"]) - partition.searched_ids()
    rows = images.filter(pl.col("image_id").is_in(list(missing))).select("uri", "image_id", "content_hash")
    wanted = {uri: Wanted(image_id, content) for uri, image_id, content in rows.iter_rows()}
    progress = Progress("images searched for overlays", len(wanted))
    failed = []
    staged, waiting = time.monotonic(), []
    sources = reader_of(dataset).read(dataset)
    for found in detect.detect(sources, wanted, terms, workers=cell.project.workers) if wanted else ():
        waiting.append((_row(found), [asdict(item) for item in found.items]))
        progress.advance(1)
        if found.failed:
            failed.append((found.image_id, found.failed))
        if len(waiting) >= cell.project.stage_size or time.monotonic() - staged > SECONDS_BETWEEN_STAGES:
            partition.stage(waiting)
            staged, waiting = time.monotonic(), []
    if waiting:
        partition.stage(waiting)
    if progress.done < len(wanted):
        raise CounterstainError(
            f"{len(wanted) - progress.done} images of {cell.dataset!r} are no longer where they were read from: "
            "materialize `images` again."
        )
    partition.commit()
    return progress.done, failed


def _row(found: detect.Found) -> dict[str, object]:
    searched = found.failed is None
    return {
        "image_id": found.image_id,
        "text_overlay": bool(found.words) if searched else None,
        "overlay_text": found.overlay_text,
        "overlay_boxes": found.overlay_boxes if searched else None,
        "annotation": bool(found.annotation_kinds) if searched else None,
        "annotation_kinds": found.annotation_kinds if searched else None,
        **asdict(found.attributes),
    }


def _share(flags: pl.Series) -> float:
    return float(flags.cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]  # the mean of floats is one


def _agreement(images: pl.DataFrame) -> Check:
    """Compare what was found with what the data set itself says of its images."""
    parts, shares = [], []
    for flag in ("text_overlay", "annotation"):
        given = images.filter((pl.col(f"{flag}_source") == "given") & pl.col(flag).is_not_null())
        if given.height:
            share = _share(given[flag] == given[f"{flag}_found"])
            shares.append(share)
            parts.append(f"{flag}: {share:.1%} of {given.height} given flags found alike")
    if not parts:
        return Check(True, "the data set gives no flags to compare with")
    return Check(min(shares) >= MIN_AGREEMENT, "; ".join(parts))


def _artefacts(found: pl.DataFrame) -> pl.DataFrame:
    quality = found["jpeg_quality"].drop_nulls()
    return pl.DataFrame(
        {
            "artefact": ["two or more dark corners", "a frame of 2 % or more", "ruler", "coloured", "JPEG"],
            "images": [
                (found["dark_corners"] >= 2).sum(),
                (found["frame_share"] >= 0.02).sum(),
                found["ruler"].sum(),
                found["coloured"].sum(),
                quality.len(),
            ],
        }
    )


def _shown_text(items: pl.DataFrame) -> pl.DataFrame:
    """Replace what may identify someone."""
    hidden = pl.when(pl.col("possible_identifying")).then(pl.lit(WITHHELD)).otherwise(pl.col("text"))
    return items.with_columns(hidden.alias("text"))


def _contact_sheet(cell: Cell, items: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Draw images on which something was found, of every kind some."""
    shuffled = _shown_text(items).sample(fraction=1, shuffle=True, seed=cell.project.seed)
    # The first of each kind, then the second of each, and so on.
    turns = shuffled.unique(["image_id", "kind"], keep="first", maintain_order=True).with_columns(
        pl.int_range(pl.len()).over("kind").alias("turn")
    )
    chosen = turns.sort("turn", "kind").unique("image_id", keep="first", maintain_order=True).head(SHEET_IMAGES)
    ids = chosen["image_id"].to_list()
    rows = cell.warehouse.frame("images").filter(pl.col("dataset") == cell.dataset, pl.col("image_id").is_in(ids))
    images = {
        image_id: (thumbnail, width, height)
        for image_id, thumbnail, width, height in rows.select("image_id", "thumbnail", "width_px", "height_px")
        .collect()
        .iter_rows()
    }
    tiles = []
    for image_id in ids:
        thumbnail, width, height = images[image_id]
        on_it = _shown_text(items).filter(image_id=image_id).sort("item")
        found = tuple(
            Found(kind, (box[0] / width, box[1] / height, box[2] / width, box[3] / height), hidden)
            for kind, box, hidden in on_it.select("kind", "box", "possible_identifying").iter_rows()
        )
        words = " ".join(on_it["text"].drop_nulls())
        tiles.append(MarkedImage(thumbnail, words or " ".join(on_it["kind"].unique(maintain_order=True)), found))
    title = f"{cell.dataset}: {len(tiles)} of {items['image_id'].n_unique()} images with something burned in"
    return display.picture(marked_images_figure(tiles, title=title), f"Overlays of {cell.dataset}")


STEP = Step(
    name="overlays",
    description="What is burned into each image: words with their terms, logos, scales, callipers, arrows, coloured "
    "marks; and its border and artefacts. Flags that nobody gave or corrected are filled in.",
    group="data",
    kinds=frozenset({"python", "lancedb"}),
    scope="dataset",
    upstream=("images",),
    code_version="1",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={
        "agrees_with_what_was_given": f"At least {MIN_AGREEMENT:.0%} of the flags that the data set gives are found.",
        "nothing_identifying": "No text looks like a person's name, a date or a record number.",
    },
)
