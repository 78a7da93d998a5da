"""What the layouts of a cell show: recurring clusters and their association with label and background, as frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import encode
from analysis.layout_clusters import (
    RecurringCluster,
    associations,
    find_clusters,
    recurring_clusters,
    shows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.arrays import BoolArray, Categorical, Categories, IntArray

LABEL = "label"
METRIC = "adjusted_mutual_information"
# The best of many values agrees a little with any cluster: one that agrees less than this does not describe it.
MIN_PHI = 0.3


@dataclass(frozen=True)
class LayoutFindings:
    """Rows of ``layout_clusters``, ``layout_cluster_members`` and ``layout_associations``, without their seed."""

    clusters: pl.DataFrame
    members: pl.DataFrame
    associations: pl.DataFrame


def layout_findings(
    points: pl.DataFrame,
    image_ids: pl.Series,
    labels: Categorical,
    backgrounds: Mapping[str, Categorical],
    groups: IntArray,
    *,
    seed: int,
) -> LayoutFindings:
    """Find the clusters of every layout, which of them recur, and what they go along with.

    Parameters
    ----------
    points
        ``image_id``, ``x``, ``y``, ``n_neighbors`` and ``min_dist`` of every image in every layout.
    image_ids
        ``(n,)`` the images, in the order of what follows.
    labels, backgrounds
        ``(n,)`` strings, None where unknown; backgrounds by name.
    groups
        ``(n,)`` group codes, permuted together.
    seed
        Seed of permutations.

    Raises
    ------
    ValueError
        If a layout does not hold every image once.
    """
    order = pl.DataFrame({"image_id": image_ids}).with_row_index("place")
    settings, assignments = [], []
    for (size, distance), layout in points.partition_by(
        "n_neighbors", "min_dist", as_dict=True, maintain_order=True
    ).items():
        placed = layout.join(order, on="image_id").sort("place")
        if placed.height != layout.height or not placed["place"].equals(order["place"]):
            raise ValueError(f"the layout of n_neighbors {size}, min_dist {distance} does not hold every image once")
        settings.append((int(size), float(distance)))
        assignments.append(find_clusters(placed.select("x", "y").to_numpy()))
    attributes = {name: encode(values, what=name) for name, values in ({LABEL: labels} | dict(backgrounds)).items()}
    recurring = recurring_clusters(assignments)
    return LayoutFindings(
        clusters=_cluster_rows(recurring, settings, attributes),
        members=pl.concat(
            [pl.DataFrame(schema={"cluster": pl.Int32, "image_id": pl.String, "layouts": pl.Int32})]
            + [_member_rows(number, cluster, image_ids) for number, cluster in enumerate(recurring)]
        ),
        associations=_association_rows(assignments, settings, attributes, groups, seed),
    )


def _cluster_rows(
    recurring: Sequence[RecurringCluster], settings: Sequence[tuple[int, float]], attributes: Mapping[str, Categories]
) -> pl.DataFrame:
    rows = []
    for number, cluster in enumerate(recurring):
        sizes, distances = zip(*(settings[layout] for layout in cluster.shown_by), strict=True)
        once = len(cluster.shown_by) == 1 < len(settings)
        rows.append(
            (
                number,
                int(cluster.members.sum()),
                len(cluster.shown_by),
                len(settings),
                cluster.coassignment,
                min(sizes),
                max(sizes),
                min(distances),
                max(distances),
                *_description(cluster.members, attributes),
                f"seen at one setting only: n_neighbors {sizes[0]}, min_dist {distances[0]:g}" if once else "",
            )
        )
    schema = {
        "cluster": pl.Int32,
        "n": pl.Int64,
        "layouts": pl.Int32,
        "layouts_in_all": pl.Int32,
        "coassignment": pl.Float64,
        "n_neighbors_low": pl.Int32,
        "n_neighbors_high": pl.Int32,
        "min_dist_low": pl.Float64,
        "min_dist_high": pl.Float64,
        "attribute": pl.String,
        "attribute_value": pl.String,
        "phi": pl.Float64,
        "note": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _description(
    members: BoolArray, attributes: Mapping[str, Categories]
) -> tuple[str | None, str | None, float | None]:
    """Attribute and value that membership agrees with best, by the correlation phi of the two; none below `MIN_PHI`."""
    best: tuple[str | None, str | None, float | None] = (None, None, None)
    for name, column in attributes.items():
        inside = members[column.known]
        for code, value in enumerate(column.names):
            has = column.codes[column.known] == code
            if 0 < inside.sum() < len(inside) and 0 < has.sum() < len(has):
                phi = float(np.corrcoef(inside, has)[0, 1])
                if phi >= MIN_PHI and phi > (best[2] or 0):
                    best = (name, value, phi)
    return best


def _member_rows(number: int, cluster: RecurringCluster, image_ids: pl.Series) -> pl.DataFrame:
    members = np.flatnonzero(cluster.members)
    return pl.DataFrame(
        {
            "cluster": pl.Series(np.full(len(members), number), dtype=pl.Int32),
            "image_id": image_ids.gather(members),
            "layouts": pl.Series(cluster.layouts_of_image[members], dtype=pl.Int32),
        }
    )


def _association_rows(
    assignments: Sequence[IntArray],
    settings: Sequence[tuple[int, float]],
    attributes: Mapping[str, Categories],
    groups: IntArray,
    seed: int,
) -> pl.DataFrame:
    # What a background owes to going along with the label is not its own.
    label = attributes[LABEL].codes
    found = {
        name: associations(assignments, column.codes, groups, seed=seed, within=None if name == LABEL else label)
        for name, column in attributes.items()
    }
    adjusted = shows(found)
    rows = [
        (*setting, name, METRIC, a.value, a.expected, a.p_value, p, shown, a.n_clusters, a.n, a.note)
        for layout, setting in enumerate(settings)
        for name, a, (p, shown) in ((name, found[name][layout], adjusted[name][layout]) for name in attributes)
    ]
    schema = {
        "n_neighbors": pl.Int32,
        "min_dist": pl.Float64,
        "attribute": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "expected": pl.Float64,
        "p_value": pl.Float64,
        "p_adjusted": pl.Float64,
        "shown": pl.Boolean,
        "n_clusters": pl.Int32,
        "n": pl.Int64,
        "note": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def summarise_associations(associations: pl.DataFrame) -> pl.DataFrame:
    """Count per attribute the layouts that show it.

    A layout without clusters shows nothing of an attribute that others are defined for: there its value is 0.

    Parameters
    ----------
    associations
        Rows of ``layout_associations`` of one cell.

    Returns
    -------
    polars.DataFrame
        ``attribute``, ``layouts`` that show it, ``layouts_defined`` and ``layouts_in_all``, ``median`` and ``expected``
        value over all, ``best`` value with its ``n``, ``p_adjusted``, ``n_neighbors`` and ``min_dist``, and ``note``
        where none is defined; attributes that most layouts show first.
    """
    ordered = associations.sort("value", descending=True, nulls_last=True)
    defined = pl.col("value").is_not_null().any()
    return (
        ordered.group_by("attribute", maintain_order=True)
        .agg(
            layouts=pl.col("shown").sum(),
            layouts_defined=pl.col("value").count(),
            layouts_in_all=pl.len(),
            median=pl.when(defined).then(pl.col("value").fill_null(0).median()),
            expected=pl.when(pl.col("expected").is_not_null().any()).then(pl.col("expected").fill_null(0).median()),
            best=pl.col("value").first(),
            n=pl.col("n").first(),
            p_adjusted=pl.col("p_adjusted").first(),
            n_neighbors=pl.col("n_neighbors").first(),
            min_dist=pl.col("min_dist").first(),
            note=pl.col("note").first(),
        )
        .sort("layouts", "best", "attribute", descending=[True, True, False], nulls_last=True)
    )
