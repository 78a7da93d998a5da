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
    return telling_images(tables["neighbors"], tables["findings"])


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    """Draw one sheet for each attribute, or frames would mix what is shared."""
    lists = tables.of_cell("neighbors", cell.dataset, cell.encoder)
    if lists.is_empty():
        return []
    if cell.severity >= _CELLS:
        return [Words(f"Shown of the {_CELLS} cells that backgrounds lead most.", note=True)]
    blocks: list[Block] = []
    for attribute in sheet_attributes(lists, seen_backgrounds(tables["findings"], cell.dataset, cell.encoder)):
        shown = telling_neighbors(lists, attribute)
        uri = neighbors_picture(shown, tables, cell.dataset, attribute) if shown.height else None
        if uri:
            blocks += [
                Heading(attribute),
                Words(
                    f"The images whose nearest neighbours most often share {in_words(attribute)} and not the label: "
                    "chosen to show the failure where it is worst, not how common it is."
                ),
                Picture(
                    uri,
                    f"Images of {cell.dataset} and their nearest neighbours under {cell.encoder}, by {attribute}",
                ),
            ]
    return blocks or [Words("No image has a near neighbour that shares a background and not the label.", note=True)]


PART = Part(
    name="neighbors",
    title="Most telling neighbours",
    place=50,
    make=_make,
    tables=("neighbors", "findings", "images"),
    asset="neighbor_audits",
    what="neighbours",
    images=_images,
)
