"""``bias_report``: the verdict over all cells, stored, and written as one HTML file."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl

from analysis.report import ReportTables, render_report, report_assets, report_tables, wanted_images
from analysis.verdicts import verdicts
from assets import display
from assets.backgrounds import known_background
from assets.project import Project
from assets.step import Cell, Made, Step
from store.results import write_results
from store.runs import data_version, latest_runs
from store.schema import FINDINGS


def report_path(project: Project) -> Path:
    """Return where the report is written."""
    return project.home() / "reports" / "bias_report.html"


def _inputs(cell: Cell) -> dict[str, str]:
    runs = latest_runs(cell.warehouse).filter(pl.col("asset").is_in(report_assets(requested=True)))
    columns = ("asset", "dataset", "encoder", "data_version")
    return {"/".join((a, d, e)): version for a, d, e, version in runs.select(columns).iter_rows()}


def _make(cell: Cell) -> Made:
    warehouse = cell.warehouse
    found = verdicts(warehouse.frame("probe_scores").collect(), warehouse.frame("neighbor_audits").collect())
    write_results(warehouse, FINDINGS, found)
    path = report_path(cell.project)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".html.part")
    written.write_text(render_report(_read(cell)), encoding="utf-8")
    written.replace(path)
    counts = found["verdict"].value_counts(sort=True)
    return Made(
        rows=found.height,
        data_version=data_version(warehouse, "findings"),
        tables=("findings",),
        summary=dict(counts.iter_rows()),
        metadata={
            "findings": display.table(
                found.select("dataset", "encoder", "confounder", "verdict", "sentence"), 200, 1000
            ),
            "report": dg.MetadataValue.path(path),
        },
    )


def _read(cell: Cell) -> ReportTables:
    """Read what the report shows; of images, pictures only of those that it wants."""
    warehouse = cell.warehouse
    frames = {name: warehouse.frame(name).collect() for name in report_tables() if name not in ("images", "runs")}
    images = warehouse.frame("images")
    frames |= {
        "images": _without_names(cell, images.drop("thumbnail").collect()),
        "runs": latest_runs(warehouse),
    }
    tables = ReportTables(frames)
    wanted = wanted_images(tables)
    pictures = images.filter(pl.col("image_id").is_in([image_id for _, image_id in wanted]))
    rows = pictures.select("dataset", "image_id", "thumbnail").collect().iter_rows()
    return replace(tables, thumbnails={(dataset, image_id): picture for dataset, image_id, picture in rows})


def _without_names(cell: Cell, images: pl.DataFrame) -> pl.DataFrame:
    """Return the images with words that may identify someone left out, and with what their words and pixels say."""
    parts = []
    for (dataset,), rows in images.group_by("dataset", maintain_order=True):
        safe, found = known_background(replace(cell, dataset=str(dataset)), rows)
        parts.append(safe.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in found.items()))
    return pl.concat(parts) if parts else images


STEP = Step(
    name="bias_report",
    description="What each encoder separates images by, how sure that is, and the pictures that show it, in one file.",
    group="findings",
    kinds=frozenset({"html", "lancedb"}),
    scope="all",
    upstream=tuple(report_assets(requested=False)),
    code_version="1",
    inputs=_inputs,
    parameters=lambda _: {},
    make=_make,
)
