"""``published_comparison``: what was measured here beside what the study published, cell by cell."""

from typing import Any

import polars as pl

from analysis.figures import comparison_figure
from analysis.published import CITATION, Column, compare
from assets import display
from assets.partitions import known_datasets
from assets.registry import get_dataset
from assets.step import Cell, Made, Step
from pipelines.readers import readers
from store import Warehouse
from store.results import write_results
from store.runs import data_version, latest_runs
from store.schema import PUBLISHED_COMPARISON


def comparison(warehouse: Warehouse) -> pl.DataFrame:
    """Return our scores beside the published ones, as `analysis.published.compare` does."""
    return compare(warehouse.frame("probe_scores").collect(), _published_columns(warehouse))


def _published_columns(warehouse: Warehouse) -> dict[str, Column]:
    """Return the published column of each registered data set of the study that has its usual label."""
    columns = {}
    images = dict(warehouse.frame("images").group_by("dataset").len().collect().iter_rows())
    for name in known_datasets(warehouse):
        dataset = get_dataset(warehouse, name)
        reader = readers().get(dataset.reader)
        about = reader.about if reader else None
        if about is not None and about.published is not None and about.is_usual(dataset.label):
            columns[name] = Column(about.published, about.published_note, images.get(name))
    return columns


def _inputs(cell: Cell) -> dict[str, str]:
    runs = latest_runs(cell.warehouse).filter(pl.col("asset") == "svm_probes")
    return {f"{d}/{e}": version for d, e, version in runs.select("dataset", "encoder", "data_version").iter_rows()}


def _parameters(cell: Cell) -> dict[str, object]:
    return {name: [column.dataset, column.images] for name, column in _published_columns(cell.warehouse).items()}


def _make(cell: Cell) -> Made:
    rows = comparison(cell.warehouse)
    write_results(cell.warehouse, PUBLISHED_COMPARISON, rows)
    measured = rows.filter(pl.col("value").is_not_null())
    metadata: dict[str, Any] = {"published by": CITATION}
    if measured.height:
        figure = comparison_figure(rows.filter(metric="accuracy"), metric="accuracy on held-out images")
        metadata["accuracy"] = display.picture(figure, "Measured here beside published")
        columns = ("dataset", "encoder", "metric", "value", "ci_low", "ci_high", "published", "published_std")
        metadata["table"] = display.table(
            measured.select(*columns, "difference", "published_low", "published_high", "note"), 100, 400
        )
    return Made(
        rows=rows.height,
        data_version=data_version(cell.warehouse, "published_comparison"),
        tables=("published_comparison",),
        summary={
            "measured": measured.height,
            "with a published counterpart": measured["published"].count(),
            "doubtful": measured.filter("doubtful").height,
        },
        metadata=metadata,
    )


STEP = Step(
    name="published_comparison",
    description="The label's scores under the study's protocol beside the scores the study published, with what is "
    "doubtful about these.",
    group="findings",
    kinds=frozenset({"polars", "lancedb"}),
    scope="all",
    upstream=("svm_probes",),
    code_version="2",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
)
