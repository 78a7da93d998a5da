"""Counterfactual pairs: how far an image moves when only its overlay is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import image_grid_figure, shift_figure
from analysis.report.blocks import Column, Heading, Interval, Note, Picture, Table, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Part
from analysis.shifts import PER_CLASS_DISTANCE, PER_DUPLICATE_DISTANCE, SHIFT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

# Cells whose changed images are shown, those that backgrounds lead first.
_CELLS = 12
_METRICS = (PER_CLASS_DISTANCE, PER_DUPLICATE_DISTANCE)


def _make(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    rows = tables.of_cell("overlay_shift", cell.dataset, cell.encoder)
    if rows.is_empty():
        return []
    blocks: list[Block] = [
        Words(
            "The cause, not only the correlation: words are painted over, or words and callipers planted, the image is "
            "encoded again, and what counts is how far that alone moves it. 1 is as far as images of different "
            "classes, or near-duplicates, lie apart. Placebos change as many pixels without a word."
        )
    ]
    told = rows.filter(pl.col("metric").is_in(_METRICS), pl.col("value").is_not_null())
    if told.height:
        uri = data_uri(shift_figure(told, title=f"{cell}: images whose overlay was changed"))
        blocks.append(Picture(uri, f"{cell}: how far each change of the overlay moves images"))
    blocks.append(_table(rows))
    if cell.severity < _CELLS:
        blocks += _examples(tables.of_cell("overlay_shift_examples", cell.dataset, cell.encoder), cell)
    return blocks


def _table(rows: pl.DataFrame) -> Table:
    columns: list[str | Column] = [
        "Change",
        Column("Cosine distance\nmoved", numeric=True),
        Column("Of the distance\nbetween classes", numeric=True),
        Column("Of the distance\nbetween duplicates", numeric=True),
        Column("Images", numeric=True),
        "Note",
    ]
    lines: list[list[Value]] = []
    for (intervention,), of_one in rows.group_by("intervention", maintain_order=True):
        by_metric = {row["metric"]: row for row in of_one.iter_rows(named=True)}
        numbers = [by_metric.get(metric) for metric in (SHIFT, *_METRICS)]
        reasons = dict.fromkeys(row["note"] for row in numbers if row and row["value"] is None and row["note"])
        lines.append(
            [
                str(intervention),
                *(Interval(row["value"], row["ci_low"], row["ci_high"]) if row else None for row in numbers),
                int(of_one["n"].max() or 0),  # type: ignore[arg-type]  # a count
                Note("; ".join(reasons)),
            ]
        )
    return Table(columns, lines)


def _examples(examples: pl.DataFrame, cell: CellPlace) -> list[Block]:
    """Draw the images that moved most, a row each, as they were and as they were changed."""
    if examples.is_empty():
        return []
    blocks: list[Block] = [Heading("Images that moved most")]
    kinds = examples.group_by("image_id", maintain_order=True).agg("intervention", "shift", "picture")
    # Images with words and images without any have other changes, and so another number of columns.
    for (_, across), alike in kinds.with_columns(
        pl.col("intervention").list.len().alias("across"), pl.col("intervention").list.join("|").alias("changes")
    ).group_by("changes", "across", maintain_order=True):
        tiles = [
            (picture, name if name == "unchanged" else f"{name}\nmoved {shift:.3f}")
            for row in alike.iter_rows(named=True)
            for name, shift, picture in zip(row["intervention"], row["shift"], row["picture"], strict=True)
        ]
        png = image_grid_figure(tiles, title=f"{cell}: unchanged, and changed", across=int(str(across)))
        blocks.append(
            Picture(
                data_uri(png, photographs=True),
                f"Images of {cell.dataset} before and after their overlay was changed, with how far {cell.encoder} "
                "moves them",
            )
        )
    return blocks


PART = Part(
    name="overlay-shift",
    title="What changing the overlay does",
    place=60,
    make=_make,
    tables=("overlay_shift", "overlay_shift_examples"),
    asset="overlay_shift",
    what="counterfactual shifts",
)
