"""What the report is made from, and which pictures it wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

# Images shown with their neighbours, per data set and encoder.
QUERIES = 4
NEIGHBORS_SHOWN = 6
# Attributes shown so, of each.
SHEETS = 2
SEEN = ("background leads", "background is visible")


# Whose rows make a data set × encoder known.
_OF_CELLS = ("findings", "probe_scores", "neighbor_audits", "neighbors", "leaderboard", "layouts")


@dataclass(frozen=True)
class ReportTables:
    """Tables as read from the store; an empty one leaves its part of the report out, which then says so.

    Attributes
    ----------
    frames
        By the table's name: those that `report_tables` names. ``findings`` is of `analysis.verdicts.verdicts`;
        ``images`` has at least ``dataset``, ``image_id``, ``uri`` and ``label``, and no pictures: of the other columns
        ``content_hash`` finds copies, and background columns and ``attributes`` colour layouts.
    thumbnails
        JPEG or PNG by data set and image id, of the images that `wanted_images` names.
    """

    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    thumbnails: Mapping[tuple[str, str], bytes] = field(default_factory=dict)

    def __getitem__(self, name: str) -> pl.DataFrame:
        """Return the table `name`, without a row or column where there is none."""
        return self.frames.get(name, pl.DataFrame())

    def cells(self) -> list[tuple[str, str]]:
        """Return data set and encoder of every cell that some table knows."""
        known: set[tuple[str, str]] = set()
        for frame in map(self.__getitem__, _OF_CELLS):
            if not frame.is_empty():
                known.update(frame.select("dataset", "encoder").unique().iter_rows())
        return sorted(known)

    def of_dataset(self, name: str, dataset: str) -> pl.DataFrame:
        """Return one data set's rows of the table `name`; no rows where there is no such table yet."""
        frame = self[name]
        return frame if frame.is_empty() else frame.filter(dataset=dataset)

    def of_cell(self, name: str, dataset: str, encoder: str) -> pl.DataFrame:
        """Return one cell's rows of the table `name`; no rows where there is no such table yet."""
        frame = self[name]
        return frame if frame.is_empty() else frame.filter(dataset=dataset, encoder=encoder)


def telling_images(tables: ReportTables) -> list[tuple[str, str]]:
    """Name the images with telling neighbours, and these, by data set and image id, each pair once, sorted."""
    neighbors = tables["neighbors"]
    if neighbors.is_empty():
        return []
    wanted: set[tuple[str, str]] = set()
    for dataset, encoder in neighbors.select("dataset", "encoder").unique().iter_rows():
        lists = neighbors.filter(dataset=dataset, encoder=encoder)
        pairs = tables.of_cell("telling_neighbors", dataset, encoder)
        for attribute in sheet_attributes(pairs, seen_backgrounds(tables["findings"], dataset, encoder)):
            shown = telling_neighbors(lists, pairs, attribute)
            wanted.update((dataset, image_id) for column in ("image_id", "neighbor_id") for image_id in shown[column])
    return sorted(wanted)


def seen_backgrounds(findings: pl.DataFrame, dataset: str, encoder: str) -> list[str]:
    """Return the attributes that lead a cell, by its verdicts; where none leads, those that are visible."""
    if findings.is_empty():
        return []
    rows = findings.filter(pl.col("confounder").is_not_null(), dataset=dataset, encoder=encoder)
    by_verdict = (rows.filter(verdict=verdict)["confounder"].to_list() for verdict in SEEN)
    return next(filter(None, by_verdict), [])


def sheet_attributes(pairs: pl.DataFrame, seen: list[str]) -> list[str]:
    """Choose the attributes whose neighbours are shown: the first that are seen; where none is, the most telling one.

    Parameters
    ----------
    pairs
        One cell's rows of ``telling_neighbors``.
    seen
        Attributes that lead or are visible, most severe first.

    Returns
    -------
    list
        `SHEETS` names at most; none where no image is nearer to one of its background than to one of its label.
    """
    if pairs.is_empty():
        return []
    known = set(pairs["confounder"])
    if chosen := [name for name in seen if name in known]:
        return chosen[:SHEETS]
    return pairs.sort("score", "confounder", descending=[True, False])["confounder"].head(1).to_list()


def telling_neighbors(lists: pl.DataFrame, pairs: pl.DataFrame, attribute: str) -> pl.DataFrame:
    """Return the nearest neighbours of the images that the most telling pairs of an attribute begin with.

    Parameters
    ----------
    lists, pairs
        One cell's rows of ``neighbors`` and ``telling_neighbors``.
    attribute
        The attribute.

    Returns
    -------
    polars.DataFrame
        Rows of `lists`, the most telling image first, then by rank, with a column ``shared``: whether the pair shares
        the attribute.
    """
    queries = (
        pairs.filter(confounder=attribute)
        .sort("score", "image_id", descending=[True, False])
        .select(pl.col("image_id").unique(maintain_order=True))
        .head(QUERIES)
        .with_row_index("order")
    )
    near = lists.filter(pl.col("rank") <= NEIGHBORS_SHOWN)
    near = near.with_columns(shared=pl.col("same_background").list.contains(attribute))
    return near.join(queries, on="image_id").sort("order", "rank").drop("order")
