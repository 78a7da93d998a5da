"""Where encoders find what they answer: the share of the evidence in each region against the share of the area."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analysis.figures import mapped_images, saliency_figure, saliency_scores_figure
from analysis.report.blocks import Column, Interval, Picture, Score, Table, Words
from analysis.report.pictures import data_uri
from analysis.report.section import Part, Section
from analysis.saliency import LEARNED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.report.blocks import Block, Value
    from analysis.report.section import CellPlace
    from analysis.report.tables import ReportTables

# Cells whose maps are drawn, those that backgrounds lead first; images drawn of each.
_CELLS = 12
_IMAGES = 5
_PER_AREA = "energy / area"
_COMPARED = "correlation with random weights"
_REGIONS = ("lesion", "text", "marks", "background")
_KINDS = {
    "answer": ("grad-cam", "trained", "answer"),
    "label": ("grad-cam", "trained", "label"),
    "attention rollout": ("attention rollout", "trained", "vector"),
    "answer, random weights": ("grad-cam", "random", "answer"),
}


def _make_part(tables: ReportTables, cell: CellPlace) -> Sequence[Block]:
    rows = tables.of_cell("saliency_scores", cell.dataset, cell.encoder)
    if rows.is_empty():
        return []
    defined = rows.filter(pl.col("value").is_not_null())
    if defined.is_empty():
        return [Words(f"No maps: {str(rows['note'][0]).removeprefix('undefined: ')}.")]
    blocks: list[Block] = [
        Words(
            "Where the score of the answer, and of the label, comes from (Grad-CAM), and from where the vector was "
            "gathered (attention rollout). Evidence per area is 1 where a map has no preference. A model with random "
            f"weights is the control: its maps correlate with the trained model's by {_control(defined)}."
        )
    ]
    if (drawn := defined.filter(metric=_PER_AREA)).height:
        uri = data_uri(saliency_scores_figure(drawn, title=f"{cell}: what the evidence lies on"))
        blocks.append(Picture(uri, f"{cell}: share of the evidence over share of the area, by region"))
    blocks.append(_table(defined))
    maps = tables.of_cell("saliency_maps", cell.dataset, cell.encoder)
    if maps.height and cell.severity < _CELLS:
        png = saliency_figure(mapped_images(maps)[:_IMAGES], title=f"{cell}: where the evidence lies")
        blocks.append(Picture(data_uri(png, photographs=True), f"Saliency maps of {cell.encoder} over {cell.dataset}"))
    return blocks


def _control(rows: pl.DataFrame) -> str:
    of_answer = rows.filter(metric=_COMPARED, asked="answer")
    return f"{of_answer['value'][0]:.2f} (Spearman)" if of_answer.height else "an unknown amount"


def _table(rows: pl.DataFrame) -> Table:
    columns: list[str | Column] = [
        "Region",
        "Map of",
        Column("Evidence inside\nvs area", scores=True),
        Column("Evidence\nper area", numeric=True),
        Column("Evidence less that\nof random weights", numeric=True),
        Column("Highest place inside\nvs area", scores=True),
        Column("IoU", numeric=True),
        Column("Images", numeric=True),
    ]
    lines: list[list[Value]] = []
    regions = set(rows["region"].drop_nulls())
    for region in sorted(regions, key=lambda name: (_REGIONS.index(name) if name in _REGIONS else len(_REGIONS), name)):
        for name, (method, weights, asked) in _KINDS.items():
            of_kind = rows.filter(region=region, method=method, weights=weights, asked=asked)
            found = {row["metric"]: row for row in of_kind.iter_rows(named=True)}
            if "energy" not in found:
                continue
            lines.append(
                [
                    region,
                    name,
                    _score(found["energy"]),
                    _interval(found.get(_PER_AREA)),
                    _interval(found.get(LEARNED)),
                    _score(found["pointing"]),
                    _interval(found["iou"]),
                    found["energy"]["n"],
                ]
            )
    return Table(columns, lines)


def _score(row: dict[str, object]) -> Score:
    return Score(row["value"], row["ci_low"], row["ci_high"], row["expected"])  # type: ignore[arg-type]  # numbers


def _interval(row: dict[str, object] | None) -> Interval:
    if row is None:
        return Interval(None)
    return Interval(row["value"], row["ci_low"], row["ci_high"])  # type: ignore[arg-type]  # numbers


def _make_section(tables: ReportTables) -> Sequence[Block]:
    scores = tables["saliency_scores"]
    if scores.is_empty():
        return []
    drawn = scores.filter(pl.col("value").is_not_null(), metric=_PER_AREA)
    blocks: list[Block] = [
        Words("How much of the evidence for an answer lies in each region, per area that the region covers.")
    ]
    for (dataset,), of_dataset in drawn.group_by("dataset", maintain_order=True):
        png = saliency_scores_figure(of_dataset, title=f"{dataset}: what the evidence lies on")
        blocks.append(Picture(data_uri(png), f"{dataset}: evidence per area by region and encoder"))
    return blocks if drawn.height else [Words("No encoder has maps whose regions are known.")]


SECTION = Section(
    name="saliency",
    title="Where encoders look",
    place=67,
    make=_make_section,
    tables=("saliency_scores",),
    asset="saliency",
    what="saliency",
    requested=True,
)
PART = Part(
    name="evidence",
    title="Where the evidence lies",
    place=80,
    make=_make_part,
    tables=("saliency_scores", "saliency_maps"),
    asset="saliency",
    what="saliency",
    requested=True,
)
