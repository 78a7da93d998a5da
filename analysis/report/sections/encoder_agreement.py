"""Which encoders share neighbours and spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import agreement_figure
from analysis.report.blocks import Picture, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables


def _make(tables: ReportTables) -> Sequence[Block]:
    rows = tables["encoder_agreement"]
    if rows.is_empty():
        one = len({encoder for _, encoder in tables.cells()}) == 1
        return [Words("There is one encoder, and none to compare it with.", note=True)] if one else []
    return [
        Words(
            "How many of an image's neighbours two encoders have in common, and how alike their spaces are as a whole "
            "(CKA). Two models that share neighbours will share mistakes."
        ),
        Picture(data_uri(agreement_figure(rows)), "Neighbours that encoders have in common, and CKA"),
    ]


SECTION = Section(
    name="agree", title="Which encoders agree", place=60, make=_make, tables=("encoder_agreement",),
    asset="encoder_agreement", what="agreement of encoders",
)  # fmt: skip
