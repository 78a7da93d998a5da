"""What the words mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.report.blocks import Terms
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables

_WORDS = (
    ("Group", "Images that must not straddle a split: those of one patient, one slide, or one content."),
    (
        "Confounder",
        "An attribute of the background, such as burned-in words, a view or a scanner, that may go along with the "
        "label.",
    ),
    ("Encoder", "What turns an image into a vector of features; here taken as it is, with its own preprocessing."),
    ("Layout", "Features laid out in the plane by UMAP, to be looked at."),
    (
        "Robustness index",
        "Of neighbours that share only the label or only the background, the share that shares the label. 1: the label "
        "alone counts; 0: the background alone. SO is short for such a neighbour of the same label and other "
        "background, OS for one of other label and same background.",
    ),
    (
        "Balanced accuracy",
        "Mean over classes of the share of their images that are told right; a frequent class counts no more than a "
        "rare one.",
    ),
)


def _make(tables: ReportTables) -> Sequence[Block]:
    return [Terms(_WORDS)]


SECTION = Section(name="glossary", title="Glossary", place=99, make=_make)
