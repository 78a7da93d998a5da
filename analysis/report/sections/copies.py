"""Files that are there twice, and those that could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup

from analysis.report.blocks import Lines, Table, Words
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.tables import ReportTables

COPIES_SHOWN = 20
REJECTS_SHOWN = 40
_DISAGREE = Markup('<span class="badge warn">labels disagree</span>')


def _make(tables: ReportTables) -> Sequence[Block]:
    if tables["images"].is_empty():
        return []
    return [*_copies(exact_copies(tables["images"])), *_rejects(tables["rejects"])]


def _copies(copies: list[dict[str, Any]]) -> list[Block]:
    if not copies:
        return [Words("No picture is in a data set twice.")]
    rows: list[list[Value]] = [
        [
            copy["dataset"],
            Lines(copy["uri"], code=True),
            Lines([*(label or "unknown" for label in copy["label"]), *([_DISAGREE] if copy["disagree"] else [])]),
        ]
        for copy in copies[:COPIES_SHOWN]
    ]
    are = " is" if len(copies) == 1 else "s are"
    return [
        Words(
            f"{len(copies):,} picture{are} in a data set more than once, byte for byte. Copies count as one group, so "
            "none straddles a grouped split; the published protocol does not spare them."
        ),
        Table(["Data set", "Files", "Labels"], rows),
        *_more(len(copies) - COPIES_SHOWN),
    ]


def _rejects(rejects: pl.DataFrame) -> list[Block]:
    if rejects.is_empty():
        return [Words("Every file could be read.")]
    n = rejects.height
    rows: list[list[Value]] = [
        [dataset, Lines([uri], code=True), Lines([reason])]
        for dataset, uri, reason in rejects.head(REJECTS_SHOWN).select("dataset", "uri", "reason").iter_rows()
    ]
    verb = "file could not be read and is" if n == 1 else "files could not be read and are"
    return [
        Words(f"{n:,} {verb} left out."),
        Table(["Data set", "File", "Reason"], rows),
        *_more(n - REJECTS_SHOWN),
    ]


def _more(count: int) -> list[Block]:
    return [Words(f"{count:,} more are not listed.", note=True)] if count > 0 else []


def exact_copies(images: pl.DataFrame) -> list[dict[str, Any]]:
    """Return pictures that a data set holds more than once: uris, labels, and whether the labels disagree."""
    if images.is_empty() or "content_hash" not in images.columns:
        return []
    copies = (
        images.filter(pl.col("content_hash").is_not_null())
        .sort("dataset", "uri")
        .group_by("dataset", "content_hash", maintain_order=True)
        .agg("uri", "label", disagree=pl.col("label").drop_nulls().n_unique() > 1)
        .filter(pl.col("uri").list.len() > 1)
    )
    return list(copies.sort("disagree", descending=True, maintain_order=True).iter_rows(named=True))


SECTION = Section(
    name="copies", title="Copies and rejects", place=75, make=_make, tables=("images", "rejects"), asset="images",
    what="images",
)  # fmt: skip
