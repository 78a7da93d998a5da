"""``separability``: how far apart the classes lie among a cell's features, and the values of each background."""

import polars as pl

from analysis.separability import separability
from assets import display
from assets.features import embeddings_version, group_parameters, read_features, user_errors
from assets.step import Cell, Made, Step
from store.results import write_results
from store.runs import data_version
from store.schema import SEPARABILITY


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    with user_errors(cell):
        found = pl.concat(
            separability(features.vectors, values, features.groups, target=target, seed=cell.project.seed)
            for target, values in {"label": features.labels, **features.backgrounds}.items()
        )
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    write_results(cell.warehouse, SEPARABILITY, found, **names)
    of_label = found.filter(target="label").drop_nulls("value")
    return Made(
        rows=found.height,
        data_version=data_version(cell.warehouse, SEPARABILITY.name, **names),
        tables=(SEPARABILITY.name,),
        summary={row["metric"]: row["value"] for row in of_label.iter_rows(named=True)},
        metadata={
            "measures": display.table(found.select("target", "metric", "value", "ci_low", "ci_high", "n", "note"))
        },
    )


STEP = Step(
    name="separability",
    description="Distances within and between the classes of the label, and of each background attribute: intra, "
    "inter, ratio, silhouette, Davies-Bouldin, Fisher.",
    group="analysis",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="2",
    inputs=embeddings_version,
    parameters=_parameters,
    make=_make,
)
