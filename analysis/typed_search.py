"""The nearest neighbours of each type, however far down the list they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, IntArray
    from analysis.neighbors import Neighbors

# Distances held at once: 64 MB.
_BLOCK_ELEMENTS = 2**24


class Nearest(NamedTuple):
    """The nearest neighbours of one type: rows ``(n, m)``, -1 where there is none, and distances, inf there."""

    indices: IntArray
    distances: npt.NDArray[np.float64]


def nearest_typed(
    unit: npt.NDArray[np.float32],
    neighbors: Neighbors,
    labels: IntArray,
    confounder: IntArray,
    groups: IntArray,
    *,
    m: int,
) -> tuple[Nearest, Nearest]:
    """Find every image's `m` nearest SO and `m` nearest OS neighbours, exactly.

    Lists are read first; only images whose lists hold too few are compared again, with the images that can be of the
    type.

    Parameters
    ----------
    unit
        ``(n, d)`` rows of length one.
    neighbors
        ``(n, K)`` lists of the same rows; self and own group left out.
    labels, confounder, groups
        ``(n,)`` codes.
    m
        Neighbours of each type.

    Returns
    -------
    tuple of Nearest
        Same label and other background; other label and same background. Distances are computed anew in float64.
    """
    listed, valid = neighbors.indices, neighbors.indices >= 0
    same_label = labels[listed] == labels[:, None]
    same_background = confounder[listed] == confounder[:, None]
    # All rows of a type, by the label and background of the image asked for.
    of_label = [labels == code for code in range(int(labels.max(initial=-1)) + 1)]
    of_background = [confounder == code for code in range(int(confounder.max(initial=-1)) + 1)]
    so = _nearest(
        unit, valid & same_label & ~same_background, listed, groups, (labels, confounder), m,
        [[mine & ~theirs for theirs in of_background] for mine in of_label],
    )  # fmt: skip
    os = _nearest(
        unit, valid & ~same_label & same_background, listed, groups, (labels, confounder), m,
        [[~mine & theirs for theirs in of_background] for mine in of_label],
    )  # fmt: skip
    return _with_distances(unit, so), _with_distances(unit, os)


def _nearest(
    unit: npt.NDArray[np.float32],
    of_type: BoolArray,
    listed: IntArray,
    groups: IntArray,
    codes: tuple[IntArray, IntArray],
    m: int,
    candidates: list[list[BoolArray]],
) -> IntArray:
    """Rows ``(n, m)`` of the nearest of the type, -1 where there are fewer."""
    rank = np.cumsum(of_type, axis=1)
    query, place = np.nonzero(of_type & (rank <= m))
    found = np.full((len(unit), m), -1, dtype=np.int64)
    found[query, rank[query, place] - 1] = listed[query, place]
    # A list that ended holds all there are.
    short = (found[:, -1] < 0) & (listed[:, -1] >= 0)
    for i, row in enumerate(candidates):
        for j, mask in enumerate(row):
            queries = np.flatnonzero(short & (codes[0] == i) & (codes[1] == j))
            others = np.flatnonzero(mask)
            if len(queries) and len(others):
                _search(unit, queries, others, groups, found)
    return found


def _search(
    unit: npt.NDArray[np.float32], queries: IntArray, others: IntArray, groups: IntArray, found: IntArray
) -> None:
    """Fill the rows `queries` of `found` with the nearest of `others`, own group left out."""
    m = min(found.shape[1], len(others))
    theirs = unit[others]
    step = max(1, _BLOCK_ELEMENTS // len(others))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        distance = 1 - unit[rows] @ theirs.T
        distance[groups[rows][:, None] == groups[others][None, :]] = np.inf
        chosen = np.argpartition(distance, m - 1, axis=1)[:, :m]
        values = np.take_along_axis(distance, chosen, axis=1)
        order = np.lexsort((chosen, values), axis=1)
        chosen, values = np.take_along_axis(chosen, order, axis=1), np.take_along_axis(values, order, axis=1)
        found[rows, :m] = np.where(np.isfinite(values), others[chosen], -1)


def _with_distances(unit: npt.NDArray[np.float32], indices: IntArray) -> Nearest:
    from analysis.neighbor_kernels import distances_of

    distances = np.full(indices.shape, np.inf)
    distances_of(unit, indices, distances)
    return Nearest(indices, distances)
