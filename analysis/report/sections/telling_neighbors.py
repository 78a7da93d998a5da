"""Images with neighbours that share a background and not the label, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.report.blocks import Heading, Picture, Words
from analysis.report.pictures import neighbors_picture
from analysis.report.section import Part
from analysis.report.summary import in_words
from analysis.report.tables import seen_backgrounds, sheet_attributes, telling_images, telling_neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.section import CellPlace, ImageKey
    from analysis.report.tables import ReportTables

# Cells with such sheets, those that backgrounds lead first.
_CELLS = 24


def _images(tables: ReportTables) -> list[ImageKey]:
    return telling_images(tables)


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    """Draw one sheet for each attribute, or frames would mix what is shared."""
    lists = tables.of_cell("neighbors", cell.dataset, cell.encoder)
    if lists.is_empty():
        return []
    if cell.severity >= _CELLS:
        return [Words(f"Shown of the {_CELLS} cells that backgrounds lead most.", note=True)]
    blocks: list[Block] = []
    unseen = False
    pairs = tables.of_cell("telling_neighbors", cell.dataset, cell.encoder)
    for attribute in sheet_attributes(pairs, seen_backgrounds(tables["findings"], cell.dataset, cell.encoder)):
        shown = telling_neighbors(lists, pairs, attribute)
        uri = neighbors_picture(shown, tables, cell.dataset, attribute) if shown.height else None
        unseen |= bool(shown.height and not uri)
        if uri:
            blocks += [
                Heading(attribute),
                Words(
                    f"Images nearer to one of another label that shares their value of {_named(attribute)} than to any "
                    "of their own label, rare values before common ones: chosen to show the failure where it is worst, "
                    "not how common it is."
                ),
                Picture(
                    uri,
                    f"Images of {cell.dataset} and their nearest neighbours under {cell.encoder}, by {attribute}",
                ),
            ]
    if unseen and not blocks:
        return [Words("There are some, and no picture of them: none is shown before overlays were searched for.")]
    return blocks or [
        Words("No image is nearer to one that shares a background than to one that shares the label.", note=True)
    ]


def _named(attribute: str) -> str:
    words = in_words(attribute)
    return attribute if words == attribute.replace("_", " ") else f"{attribute} ({words})"


PART = Part(
    name="neighbors",
    title="Most telling neighbours",
    place=50,
    make=_make,
    tables=("neighbors", "telling_neighbors", "findings", "images"),
    asset="neighbor_audits",
    what="neighbours",
    images=_images,
)
