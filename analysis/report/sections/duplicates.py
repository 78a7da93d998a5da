"""Images of a data set that are copies of each other, or look the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import SheetRow, Tile, neighbors_figure
from analysis.report.blocks import Column, Picture, Table, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import ImageKey
    from analysis.report.tables import ReportTables

# Groups drawn of each data set, and images of each group; data sets drawn, those with mixed groups first.
_GROUPS = 4
_IMAGES = 6
_DATASETS = 6


def _make(tables: ReportTables) -> Sequence[Block]:
    pairs = tables["duplicates"]
    made = {row["dataset"] for row in tables["runs"].iter_rows(named=True) if row["asset"] == "duplicates"}
    if pairs.is_empty():
        return [Words("No two images look the same.")] if made else []
    images = tables["images"]
    groups = duplicate_groups(pairs)
    blocks: list[Block] = [
        Words(
            "Images with the same bytes, or that look the same by a threshold that each data set sets itself. Like a "
            "patient's, they never straddle a grouped split; the published protocol does not spare them. A group of "
            "several labels says that a label is wrong, or that the label is not in the picture."
        ),
        _table(pairs, groups, images, made),
    ]
    for dataset in _drawn(groups):
        uri = _sheet(tables, dataset, groups)
        if uri:
            blocks.append(Picture(uri, f"Groups of duplicates in {dataset}, those of several labels first"))
    return blocks


def duplicate_groups(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return a row per group: data set, ``duplicate_group``, ``members`` (sorted ids), and whether labels are mixed."""
    both = pl.concat([pairs, pairs.with_columns(image_id="other_id")])
    return (
        both.group_by("dataset", "duplicate_group")
        .agg(
            members=pl.col("image_id").unique().sort(),
            mixed=(~pl.col("same_label")).any().fill_null(False),
        )
        .sort(["dataset", "mixed", "duplicate_group"], descending=[False, True, False])
    )


def _table(pairs: pl.DataFrame, groups: pl.DataFrame, images: pl.DataFrame, made: set[str]) -> Table:
    columns: list[str | Column] = [
        "Data set",
        Column("Groups", numeric=True),
        Column("Images in them", numeric=True),
        Column("Of all images", numeric=True),
        Column("Pairs alike\nto the byte", numeric=True),
        Column("Pairs that\nlook the same", numeric=True),
        Column("Groups of\nseveral labels", numeric=True),
    ]
    totals = {} if images.is_empty() else dict(images.group_by("dataset").len().iter_rows())
    rows: list[list[Value]] = []
    for dataset in sorted(made | set(pairs["dataset"])):
        own, of_groups = pairs.filter(dataset=dataset), groups.filter(dataset=dataset)
        within = int(of_groups["members"].list.len().sum())
        exact = own.filter(kind="exact").height
        share = f"{within / totals[dataset]:.0%}" if totals.get(dataset) else None
        mixed = int(of_groups["mixed"].sum())
        rows.append([dataset, of_groups.height, within, share, exact, own.height - exact, mixed])
    return Table(columns, rows)


def _drawn(groups: pl.DataFrame) -> list[str]:
    counts = groups.group_by("dataset").agg(pl.col("mixed").sum(), pl.len())
    return counts.sort(["mixed", "len", "dataset"], descending=[True, True, False])["dataset"].head(_DATASETS).to_list()


def _images(tables: ReportTables) -> list[ImageKey]:
    if tables["duplicates"].is_empty():
        return []
    groups = duplicate_groups(tables["duplicates"])
    return [
        (dataset, image_id)
        for dataset in _drawn(groups)
        for members in groups.filter(dataset=dataset).head(_GROUPS)["members"]
        for image_id in members[:_IMAGES]
    ]


def _sheet(tables: ReportTables, dataset: str, groups: pl.DataFrame) -> str | None:
    own = groups.filter(dataset=dataset)
    images = tables.of_dataset("images", dataset)
    labels = {} if images.is_empty() else dict(images.select("image_id", "label").iter_rows())
    rows = []
    for members in own.head(_GROUPS)["members"]:
        known = [
            (tables.thumbnails[dataset, i], labels.get(i))
            for i in members[:_IMAGES]
            if (dataset, i) in tables.thumbnails
        ]
        if len(known) < 2:
            continue
        (first, label), *others = known
        tiles = (Tile(data, other or "unknown", *_shared(label, other)) for data, other in others)
        rows.append(SheetRow(Tile(first, label or "unknown"), tuple(tiles)))
    if not rows:
        return None
    title = f"{dataset}: {len(rows)} of {own.height} groups"
    png = neighbors_figure(rows, title=title, background="the picture", query="one of a group")
    return data_uri(png, photographs=True)


def _shared(label: str | None, other: str | None) -> tuple[bool | None, bool | None]:
    """Return whether two that look the same share the label, and whether only the picture."""
    return (None, None) if label is None or other is None else (label == other, True)


SECTION = Section(
    name="duplicates",
    title="Duplicates",
    place=70,
    make=_make,
    tables=("duplicates", "images", "runs"),
    asset="duplicates",
    what="search for duplicates",
    images=_images,
)
