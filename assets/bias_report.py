"""``bias_report``: the verdict over all cells, stored, and written as one HTML file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl

from analysis.figures import verdict_figure
from analysis.report import ReportTables, headlines, render_report, report_assets, report_tables, wanted_images
from analysis.verdicts import VERDICTS, verdicts
from assets import display
from assets.backgrounds import known_background
from assets.covering import searched
from assets.project import Project
from assets.registry import get_dataset, of_datasets
from assets.step import Cell, Made, Step
from store.results import write_results
from store.runs import data_version, latest_runs, without_places
from store.schema import FINDINGS, CounterstainError


def report_path(project: Project) -> Path:
    """Return where the report is written."""
    return project.home() / "reports" / "bias_report.html"


def _inputs(cell: Cell) -> dict[str, str]:
    runs = latest_runs(cell.warehouse).filter(pl.col("asset").is_in(report_assets(requested=True)))
    columns = ("asset", "dataset", "encoder", "data_version")
    return {"/".join((a, d, e)): version for a, d, e, version in runs.select(columns).iter_rows()}


def _make(cell: Cell) -> Made:
    found, html = make_report(cell)
    write_results(cell.warehouse, FINDINGS, found)
    path = report_path(cell.project)
    write_report(html, path)
    # Those that occur nowhere too: the UI plots each over the runs.
    counts = {verdict: found.filter(verdict=verdict).height for verdict in VERDICTS}
    metadata: dict[str, object] = {"report": dg.MetadataValue.path(path)}
    if found.height:
        metadata["in a word"] = display.table(headlines(found))
        metadata["verdicts"] = display.picture(verdict_figure(found), "Verdicts on every background")
        told = found.select("dataset", "encoder", "confounder", "verdict", "sentence")
        metadata["findings"] = display.table(told, 200, 1000)
    return Made(
        rows=found.height,
        data_version=data_version(cell.warehouse, "findings"),
        tables=("findings",),
        summary={**counts, "report size (MB)": len(html.encode()) / 1e6},
        metadata=metadata,
    )


def make_report(cell: Cell, datasets: Sequence[str] = ()) -> tuple[pl.DataFrame, str]:
    """Judge what is in the store, and return the findings and the report as HTML.

    Parameters
    ----------
    cell
        The project and its warehouse.
    datasets
        Only these, and p-values adjusted over these; else all.

    Raises
    ------
    CounterstainError
        If a data set is not registered.
    """
    for name in datasets:
        get_dataset(cell.warehouse, name)
    frames = {
        name: of_datasets(cell.warehouse.frame(name), datasets).collect()
        for name in report_tables()
        if name not in ("findings", "images", "runs")
    }
    found = verdicts(frames["probe_scores"], frames["neighbor_audits"])
    images = of_datasets(cell.warehouse.frame("images"), datasets)
    runs = without_places(of_datasets(latest_runs(cell.warehouse).lazy(), datasets).collect())
    described = _without_names(cell, images.drop("thumbnail").collect())
    tables = ReportTables({**frames, "findings": found, "images": described, "runs": runs})
    wanted = pl.DataFrame(wanted_images(tables), {"dataset": pl.String, "image_id": pl.String}, orient="row")
    pictures = images.filter(pl.col("image_id").is_in(wanted["image_id"].unique().to_list())).join(
        searched(cell.warehouse), on=["dataset", "image_id"], how="semi"
    )
    rows = pictures.select("dataset", "image_id", "thumbnail").collect().iter_rows()
    tables = replace(tables, thumbnails={(dataset, image_id): picture for dataset, image_id, picture in rows})
    return found, render_report(tables)


def write_report(html: str, path: Path) -> None:
    """Write the report where `path` says, whole or not at all.

    Raises
    ------
    CounterstainError
        If it cannot be written there.
    """
    written = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(html, encoding="utf-8")
        written.replace(path)
    except OSError as error:
        raise CounterstainError(f"the report cannot be written to {path}: {error.strerror}.") from error


def _without_names(cell: Cell, images: pl.DataFrame) -> pl.DataFrame:
    """Return the images with words that may identify someone left out, and with what their words and pixels say."""
    parts = []
    for (dataset,), rows in images.group_by("dataset", maintain_order=True):
        safe, found = known_background(replace(cell, dataset=str(dataset)), rows)
        parts.append(safe.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in found.items()))
    return pl.concat(parts) if parts else images


STEP = Step(
    name="bias_report",
    description="**Read this first.** What each encoder separates images by, how sure that is, what to do about it, "
    "and the pictures that show it: one HTML file, at the path under `report`, which needs no network. The verdicts "
    "are below, under `verdicts` and `findings`; what they rest on is in the assets that lead here.",
    group="findings",
    kinds=frozenset({"html", "lancedb"}),
    scope="all",
    upstream=tuple(report_assets(requested=False)),
    code_version="2",
    inputs=_inputs,
    parameters=lambda _: {},
    make=_make,
)
