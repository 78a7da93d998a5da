"""The sections of the report: one file each, and adding one is one new file.

A file declares ``SECTION``, a chapter over all cells, or ``PART``, a part of every data set × encoder, or both; the
report finds it by itself, reads the tables it names out of the warehouse, and waits in Dagster for the asset that it
says makes them. This is a whole one, ``sections/zero_shot.py``::

    from analysis.report.blocks import Column, Score, Table, Words
    from analysis.report.section import Part

    def _make(tables, cell):
        rows = tables.of_cell("zero_shot_scores", cell.dataset, cell.encoder)
        if rows.is_empty():
            return []  # the report then says: No zero-shot scores yet: materialize zero_shot
        scores = [
            (row["prompt"], Score(row["value"], row["ci_low"], row["ci_high"], row["expected"]), row["n"])
            for row in rows.iter_rows(named=True)
        ]
        return [
            Words("How often the nearest prompt names the label."),
            Table(["Prompt", Column("Accuracy vs chance", scores=True), Column("Images", numeric=True)], scores),
        ]

    PART = Part(
        name="zero-shot",
        title="Zero-shot",
        place=70,
        make=_make,
        tables=("zero_shot_scores",),
        asset="zero_shot",
        what="zero-shot scores",
    )

Blocks are in `analysis.report.blocks`: `Words`, `Heading`, `Points`, `Terms`, `Picture`, `Pictures`, `Table`; they
escape what they are given. A figure becomes a picture by `analysis.report.pictures.data_uri(png)`, photographs with
``photographs=True``. A file that draws thumbnails of stored images names them by ``images`` and finds them in
``tables.thumbnails``; what may identify someone is covered on these. ``CellPlace.severity`` keeps a report of many
cells small. Where an encoder cannot have such a part (no text side), return a `Words` that says so.

Places taken: sections 10 leaderboard, 15 published scores, 20 contrasts, 25 C path, 30 encoders side by side, 50 the
cells, 60 agreement of encoders, 65 fine-tuning, 67 saliency, 70 duplicates, 75 copies and rejects, 80 calibration, 90
methods, 95 provenance, 99 glossary. Parts 10 layouts, 20 clusters, 30 scores by background, 40 audits, 50 telling
neighbours, 60 overlay shift, 70 zero-shot, 72 retrieval, 80 evidence, 85 typographic attack.
"""

from __future__ import annotations

from functools import cache

from analysis.discovery import discover
from analysis.report.section import Part, Section


@cache
def report_sections() -> tuple[Section, ...]:
    """Return the sections in their order."""
    return tuple(sorted(discover(__name__, "SECTION", Section).values(), key=lambda section: section.place))


@cache
def report_parts() -> tuple[Part, ...]:
    """Return the parts of a cell in their order."""
    return tuple(sorted(discover(__name__, "PART", Part).values(), key=lambda part: part.place))
