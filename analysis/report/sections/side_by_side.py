"""One layout of the same images per encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.report.blocks import Picture, Words
from analysis.report.layouts import encoders_picture
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables


def _make(tables: ReportTables) -> Sequence[Block]:
    points = tables["layouts"]
    datasets = [] if points.is_empty() else points["dataset"].unique().sort().to_list()
    drawn = [(dataset, encoders_picture(tables, dataset)) for dataset in datasets]
    pictures = [Picture(uri, f"UMAP layouts of {dataset} under each encoder") for dataset, uri in drawn if uri]
    if not pictures:
        return []
    words = Words("One UMAP layout of the same images per encoder, coloured by label and turned alike.", note=True)
    return [words, *pictures]


# Two encoders are needed: where there is one, nothing is missing.
SECTION = Section(
    name="side-by-side", title="Encoders side by side", place=30, make=_make, tables=("layouts", "images")
)
