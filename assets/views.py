"""Named views on the command line: made by a filter, listed, and what an encoder makes of one."""

import numpy as np
import polars as pl

from analysis.probes import probe
from assets.features import read_features, user_errors
from assets.project import Project
from assets.step import Cell
from store import Warehouse
from store.images import read_metadata
from store.schema import CounterstainError
from store.views import check_condition, save_view, view_members


def save_where(warehouse: Warehouse, name: str, dataset: str, where: str) -> int:
    """Keep the images of a data set that fit a SQL filter over ``images`` under a name; returns how many they are.

    Raises
    ------
    CounterstainError
        If the filter is wrong or nothing fits, or as `store.views.save_view` says.
    """
    check_condition(where)
    found = warehouse.sql(f"SELECT image_id FROM images WHERE dataset = ? AND ({where}\n)", [dataset])
    return save_view(warehouse, name, dataset, found["image_id"].to_list(), where)


def stored_views(warehouse: Warehouse) -> pl.DataFrame:
    """Return the named views, and how many images each has."""
    views = warehouse.frame("named_views").with_columns(pl.col("image_ids").list.len().alias("images"))
    return views.select("name", "dataset", "images", "saved_at", "predicate").sort("name").collect()


def probe_view(project: Project, name: str, encoder: str) -> pl.DataFrame:
    """Probe an encoder on a view: the label among its images alone, and which images of the data set are in it.

    Groups are kept together. Rows are those of ``probe_scores``; nothing is stored.

    Raises
    ------
    CounterstainError
        If there is no such view, an image of it has no vector, or it has too few groups or classes to be probed.
    """
    from threadpoolctl import threadpool_limits

    warehouse = project.open()
    dataset, members = view_members(warehouse, name)
    cell = Cell(project, warehouse, dataset, encoder)
    features = read_features(cell)
    stored = read_metadata(warehouse, dataset)["image_id"]
    missing = set(members).intersection(stored).difference(features.images["image_id"])
    if missing:
        raise CounterstainError(
            f"view {name!r} has images without a vector of encoder {encoder!r} ({len(missing)}): materialize its "
            "embeddings, or import them, again."
        )
    inside = np.isin(features.images["image_id"].to_numpy(), members)
    if not inside.any():
        raise CounterstainError(f"view {name!r}: none of its images is in data set {dataset!r} any more.")
    rows = np.flatnonzero(inside)
    with user_errors(cell), threadpool_limits(1, user_api="blas"):
        label = probe(
            features.vectors[rows],
            [features.labels[row] for row in rows],
            np.unique(features.groups[rows], return_inverse=True)[1],
            protocol="grouped",
            target="label",
            seed=project.seed,
            strata={},
            repeats=project.repeats,
        )
        membership = probe(
            features.vectors,
            ["in" if member else "out" for member in inside],
            features.groups,
            protocol="grouped",
            target=f"view {name}",
            seed=project.seed,
            strata={},
        )
    scores = pl.concat([label.scores, membership.scores])
    return scores.filter(
        pl.col("fold").is_null(), pl.col("metric").is_in(["accuracy", "f1_macro", "balanced_accuracy"])
    )
