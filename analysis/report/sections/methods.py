"""How the numbers were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from analysis.report.blocks import Terms
from analysis.report.section import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables

_METHODS = (
    (
        "Probe",
        Markup(
            "A linear support vector machine on standardised features, C = 100 / images fitted on; a fifth of the "
            "images is held out for test, the rest is cross-validated in five folds, and scores are averaged over "
            "repeats with other seeds where the parameters below name any (Takeda &amp; Sakai, arXiv 2601.14774). "
            "<i>Published</i>: random and stratified. <i>Grouped</i>: no group on both sides of a split. The verdict "
            "reads the cross-validated balanced accuracy of the grouped protocol, of which guessing gives one over the "
            "number of classes. How many classes a label has is inferred from how often two images share it, and never "
            "overstated."
        ),
    ),
    (
        "Neighbours",
        "Exact cosine neighbours of every image, its own group left out. A share of neighbours is set against "
        "permutation of groups; for a background the permutation is within label, so that what it owes to going along "
        "with the label does not count. The robustness index (PathoROB, arXiv 2507.17845) takes neighbours that share "
        "only one of the two, and is the share that has the label.",
    ),
    (
        "Intervals",
        "95 %, from 1,000 draws of whole groups with replacement. They cover which patients or slides happened to be "
        "seen, not what other training images would have changed.",
    ),
    (
        "p-values",
        "One-sided, from 999 permutations, adjusted by Benjamini and Hochberg over all audits of this report.",
    ),
    (
        "Going together",
        "Cramér's V of label and background, 0 to 1. From 0.3, chance taken off, the two are called entangled: no "
        "score can then tell what an encoder owes to which.",
    ),
    (
        "Verdicts",
        Markup(
            "<i>Leads</i>: neighbours follow the background (adjusted p below 0.05), all of the robustness index's "
            "interval is below one half, and its agreement beyond chance is no less than the label's. <i>Visible</i>: "
            "decodable (the interval above guessing even when stretched by half, as it leaves out the choice of "
            "training images), or neighbours follow it. <i>No sign</i>: neither, and the interval excludes a strong "
            "effect. <i>Cannot be told</i>: anything else, among it a background that can be read off but would be by "
            "way of a label that goes along with it."
        ),
    ),
    (
        "What this cannot show",
        "A background that nobody recorded. An encoder without a sign of those that were checked may follow another.",
    ),
)


def _make(tables: ReportTables) -> Sequence[Block]:
    return [Terms(_METHODS)]


SECTION = Section(name="methods", title="Methods", place=90, make=_make)
