"""``umap_layouts``: the grid of UMAP layouts of a cell, drawn by label and by each background attribute."""

import hashlib
from importlib.metadata import version

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.figures import layout_figure
from analysis.layouts import (
    COARSE_MIN_DIST,
    COARSE_N_NEIGHBORS,
    STUDY_MIN_DIST,
    STUDY_N_NEIGHBORS,
    Layout,
    umap_grid,
)
from assets import display
from assets.features import detected_versions, read_features, user_errors
from assets.kept_layouts import KeptLayouts
from assets.progress import Progress
from assets.step import Cell, Check, Made, Step
from store.results import write_results
from store.runs import data_version
from store.schema import EMBEDDINGS_PREFIX, LAYOUT_QUALITY, LAYOUTS

MIN_TRUSTWORTHINESS = 0.7
_GRIDS = {
    "coarse": (COARSE_N_NEIGHBORS, COARSE_MIN_DIST),
    "study": (STUDY_N_NEIGHBORS, STUDY_MIN_DIST),
}


def _inputs(cell: Cell) -> dict[str, str]:
    # A layout depends on vectors alone: correcting a label does not make it stale. What it is drawn by was detected.
    table = EMBEDDINGS_PREFIX + cell.encoder
    return {
        "vectors": data_version(cell.warehouse, table, columns=["fingerprint"], dataset=cell.dataset),
        **detected_versions(cell),
    }


def _parameters(cell: Cell) -> dict[str, object]:
    n_neighbors, min_dist = _GRIDS[cell.project.layout_grid]
    return {"n_neighbors": list(n_neighbors), "min_dist": list(min_dist), "seed": cell.project.seed}


def _make(cell: Cell) -> Made:
    features = read_features(cell)
    n_neighbors, min_dist = _GRIDS[cell.project.layout_grid]
    progress = Progress("layouts", len(n_neighbors) * len(min_dist))
    made_from = {
        # Of the vectors as read: those in the store may have changed since.
        "vectors": _digest(features.vectors),
        "min_dist": list(min_dist),
        "seed": cell.project.seed,
        "code": STEP.code_version,
        # Another version gives other bits, and rows of two would not be one grid.
        **{name: version(name) for name in ("numba", "umap-learn")},
    }
    kept = KeptLayouts(cell, made_from, (len(min_dist), len(features.vectors), 2))

    def finished(n_neighbors: int, layouts: NDArray[np.float32]) -> None:
        kept.add(n_neighbors, layouts)
        progress.advance(len(layouts))

    with user_errors(cell):
        layouts = umap_grid(
            features.vectors,
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            seed=cell.project.seed,
            workers=cell.project.workers,
            known=kept.read(),
            finished=finished,
        )
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    # On a small data set several sizes come down to n - 1: one layout, kept once.
    distinct = {(layout.n_neighbors, layout.min_dist): layout for layout in layouts}.values()
    points = pl.concat(_points(layout, features.images["image_id"]) for layout in distinct)
    write_results(cell.warehouse, LAYOUTS, points, **names)
    quality = pl.concat(_quality(layout, cell.project.seed) for layout in layouts)
    write_results(cell.warehouse, LAYOUT_QUALITY, quality, **names)
    kept.drop()
    columns = {"label": features.labels, **features.backgrounds}
    drawn = points.join(
        pl.DataFrame(
            {"image_id": features.images["image_id"], **{k: pl.Series(v, dtype=pl.String) for k, v in columns.items()}}
        ),
        on="image_id",
    )
    pictures = {
        f"by {name}": display.picture(
            layout_figure(drawn, colour_by=name, title=f"{cell.dataset}, {cell.encoder}, by {name}"), f"UMAP by {name}"
        )
        for name in columns
    }
    worst = min(layout.quality.trustworthiness for layout in layouts)
    return Made(
        rows=points.height,
        data_version=data_version(cell.warehouse, "layouts", **names),
        tables=("layouts", "layout_quality"),
        summary={"layouts": len(distinct), "lowest trustworthiness": worst},
        metadata=pictures,
        checks={"trustworthy": Check(worst >= MIN_TRUSTWORTHINESS, f"lowest trustworthiness {worst:.3f}")},
    )


def _digest(vectors: NDArray[np.float32]) -> str:
    described = hashlib.sha256(f"{vectors.shape} {vectors.dtype}".encode())
    described.update(np.ascontiguousarray(vectors).data)
    return described.hexdigest()


def _points(layout: Layout, image_ids: pl.Series) -> pl.DataFrame:
    return pl.DataFrame(
        {"image_id": image_ids, "x": layout.coordinates[:, 0], "y": layout.coordinates[:, 1]}
    ).with_columns(pl.lit(layout.n_neighbors, pl.Int32).alias("n_neighbors"), pl.lit(layout.min_dist).alias("min_dist"))


def _quality(layout: Layout, seed: int) -> pl.DataFrame:
    quality = layout.quality
    measures = {
        "trustworthiness": quality.trustworthiness,
        "continuity": quality.continuity,
        "knn_preservation": quality.knn_preservation,
        "density_preservation": quality.density_preservation,
    }
    rows = [
        {
            "n_neighbors": layout.n_neighbors,
            "n_neighbors_requested": layout.n_neighbors_requested,
            "min_dist": layout.min_dist,
            "metric": metric,
            "value": value,
            "n": quality.n,
            "seed": seed,
        }
        for metric, value in measures.items()
    ]
    return pl.DataFrame(rows, schema_overrides={"value": pl.Float64})


STEP = Step(
    name="umap_layouts",
    description="UMAP layouts of a cell over n_neighbors × min_dist, from one exact cosine neighbour search.",
    group="analysis",
    kinds=frozenset({"umap", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="4",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={"trustworthy": f"No layout's trustworthiness is below {MIN_TRUSTWORTHINESS}."},
)
