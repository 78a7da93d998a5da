"""Placing new images into a layout that is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.layouts import NUMBA_THREADS, curve, umap_learn
from analysis.neighbors import unit_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

# umap-learn's: fewer rounds, and steps a quarter as long, than when a layout is made.
EPOCHS, ALPHA = 100, 0.25
_BLOCK_ELEMENTS = 2**24


def place(
    new_vectors: FloatArray,
    vectors: FloatArray,
    coordinates: FloatArray,
    *,
    n_neighbors: int,
    min_dist: float,
    seed: int,
) -> npt.NDArray[np.float32]:
    """Place new images into a layout, whose own points stay where they are.

    An image begins at the mean of its nearest neighbours, weighted by membership, and is then optimised against the
    layout alone: where it comes to lie does not depend on which others are placed with it.

    Parameters
    ----------
    new_vectors
        ``(m, d)`` finite, non-zero features.
    vectors
        ``(n, d)`` features of the images in the layout.
    coordinates
        ``(n, 2)`` the layout.
    n_neighbors, min_dist
        As it was made with; neighbours beyond `n` are cut.
    seed
        Seed of the optimiser.

    Returns
    -------
    ndarray
        ``(m, 2)`` float32, in the layout's coordinates.

    Raises
    ------
    ValueError
        If shapes do not fit, or a vector is not finite or zero.

    References
    ----------
    umap-learn 0.5, ``UMAP.transform``.
    """
    from analysis.umap_optimiser import Edges, optimise

    if coordinates.shape != (len(vectors), 2) or new_vectors.ndim != 2 or new_vectors.shape[1:] != vectors.shape[1:]:
        raise ValueError(
            f"vectors {new_vectors.shape} cannot be placed among {vectors.shape}, laid out as {coordinates.shape}"
        )
    if not len(new_vectors):
        return np.empty((0, 2), dtype=np.float32)
    k = min(n_neighbors, len(vectors))
    nearest, distances = _nearest(unit_vectors(new_vectors), unit_vectors(vectors), k)
    memberships = _memberships(distances)
    start = (memberships[:, :, None] * coordinates[nearest]).sum(axis=1) / memberships.sum(axis=1)[:, None]
    # Row by row, so that an image's edges are drawn alike whatever others there are.
    rates = memberships / memberships.max(axis=1, keepdims=True)
    row, column = np.nonzero(rates >= 1 / EPOCHS)
    edges = Edges(
        heads=(len(vectors) + row).astype(np.int32),
        tails=nearest[row, column].astype(np.int32),
        rates=rates[row, column].astype(np.float32),
    )
    points = np.vstack([coordinates, start]).astype(np.float32)
    [placed] = optimise(points, edges, [curve(min_dist)], epochs=EPOCHS, seed=seed, alpha=ALPHA, fixed=len(vectors))
    return placed[len(vectors) :]


def _nearest(
    new: npt.NDArray[np.float32], unit: npt.NDArray[np.float32], k: int
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Rows and cosine distances ``(m, k)`` of the nearest, ascending."""
    indices = np.empty((len(new), k), dtype=np.int64)
    distances = np.empty((len(new), k), dtype=np.float32)
    rows = max(1, _BLOCK_ELEMENTS // len(unit))
    for start in range(0, len(new), rows):
        part = slice(start, start + rows)
        block = np.maximum(1 - new[part] @ unit.T, 0)
        order = np.argsort(block, axis=1, kind="stable")[:, :k]
        indices[part], distances[part] = order, np.take_along_axis(block, order, axis=1)
    return indices, distances


def _memberships(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Membership ``(m, k)`` of each neighbour, so scaled that a row's sum is log2 k."""
    # The nearest is not given full membership here, as it is when a layout is made.
    with NUMBA_THREADS:
        scales, nearest = umap_learn().smooth_knn_dist(distances, float(distances.shape[1]), local_connectivity=0.0)
    beyond = np.maximum(distances.astype(np.float64) - nearest[:, None], 0)
    memberships: npt.NDArray[np.float64] = np.exp(-beyond / np.maximum(scales, np.finfo(np.float32).tiny)[:, None])
    return memberships
