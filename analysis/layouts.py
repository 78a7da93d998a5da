"""UMAP layouts over a grid of n_neighbors and min_dist, from one shared exact k-NN."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.neighbors import cosine_neighbors
from analysis.trustworthiness import rank_neighbors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    import numpy.typing as npt

    from analysis.arrays import FloatArray
    from analysis.neighbors import Neighbors

# The grid of Takeda & Sakai, arXiv:2601.14774: 50 layouts.
STUDY_N_NEIGHBORS = (3, 5, 10, 15, 25, 50, 100, 200, 500, 1000)
STUDY_MIN_DIST = (0.1, 0.25, 0.5, 0.75, 1.0)
COARSE_N_NEIGHBORS = (15, 50, 200)
COARSE_MIN_DIST = (0.1, 0.5)

MIN_IMAGES = 10


@dataclass(frozen=True)
class Layout:
    """One cell of the grid.

    Attributes
    ----------
    n_neighbors
        As used: ``n - 1`` where more was asked for. Counts the image itself, as umap-learn does.
    n_neighbors_requested
        As asked for.
    min_dist
        As asked for.
    coordinates
        ``(n, 2)`` float32, centred, turned to match the first cell; no unit.
    trustworthiness
        Of the 15 nearest neighbours in the layout, in [0, 1].
    trustworthiness_n
        Images it was measured on.
    """

    n_neighbors: int
    n_neighbors_requested: int
    min_dist: float
    coordinates: npt.NDArray[np.float32]
    trustworthiness: float
    trustworthiness_n: int


def umap_grid(
    vectors: FloatArray, *, n_neighbors: Sequence[int], min_dist: Sequence[float], seed: int
) -> Iterator[Layout]:
    """Lay images out by UMAP for every pair of `n_neighbors` and `min_dist`.

    All cells share the exact cosine neighbours, those of one `n_neighbors` also the fuzzy graph and the
    spectral start; each cell is optimised by umap-learn with its defaults. A cell does not depend on which
    others are asked for, save that all are turned (rotated, mirrored, never scaled) towards the first.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite, non-zero features; ``n >= 10``.
    n_neighbors
        Neighbourhood sizes, the image itself included; ``n`` or more becomes ``n - 1``.
    min_dist
        Smallest distances in the layout, in ``[0, 1]``.
    seed
        Seed of the start, of the optimiser and of the trustworthiness sample. The same seed gives the same
        coordinates on the same machine and versions.

    Yields
    ------
    Layout
        For each `n_neighbors` every `min_dist`, in the order given.

    Raises
    ------
    ValueError
        If there are fewer than 10 images, a parameter is out of range or the grid is empty, or a vector is
        not finite or zero.

    References
    ----------
    McInnes, Healy & Melville, arXiv:1802.03426; umap-learn 0.5.
    """
    n = len(vectors)
    if n < MIN_IMAGES:
        raise ValueError(f"a layout needs {MIN_IMAGES} images or more, not {n}")
    if not n_neighbors or min(n_neighbors) < 2:
        raise ValueError(f"n_neighbors must be 2 or more, and at least one: {tuple(n_neighbors)}")
    if not min_dist or not all(0 <= distance <= 1 for distance in min_dist):
        raise ValueError(f"min_dist must lie in [0, 1], and at least one: {tuple(min_dist)}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    # umap-learn counts the image as its own first neighbour.
    neighbors = cosine_neighbors(vectors, min(max(n_neighbors), n - 1) - 1)
    ranks = rank_neighbors(vectors, seed=seed)
    first: FloatArray | None = None
    for requested in n_neighbors:
        effective = min(requested, n - 1)
        graph = _fuzzy_graph(neighbors, effective)
        start = _spectral_start(vectors, graph, seed)
        for distance in min_dist:
            coordinates = _optimise(vectors, graph, start, distance, seed)
            coordinates = coordinates - coordinates.mean(axis=0)
            first = coordinates if first is None else first
            aligned = (coordinates @ _rotation(coordinates, first)).astype(np.float32)
            yield Layout(
                n_neighbors=effective,
                n_neighbors_requested=requested,
                min_dist=distance,
                coordinates=aligned,
                trustworthiness=ranks.trustworthiness(aligned),
                trustworthiness_n=len(ranks.queries),
            )


def _umap() -> ModuleType:
    with warnings.catch_warnings():
        # umap-learn says on import that its parametric variant, which is not used here, needs TensorFlow.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        from umap import umap_
    module: ModuleType = umap_
    return module


def _fuzzy_graph(neighbors: Neighbors, n_neighbors: int) -> Any:
    """Fuzzy simplicial set as a sparse ``(n, n)`` matrix."""
    others = neighbors.first(n_neighbors - 1)
    own = np.arange(others.n)[:, None]
    graph, _, _ = _umap().fuzzy_simplicial_set(
        # Only its length is read when neighbours are given.
        own,
        n_neighbors,
        random_state=None,
        metric="cosine",
        knn_indices=np.hstack([own, others.indices]),
        knn_dists=np.hstack([np.zeros((others.n, 1), dtype=np.float32), others.distances]),
    )
    return graph


def _spectral_start(vectors: npt.NDArray[np.float32], graph: Any, seed: int) -> npt.NDArray[np.float32]:
    """Spectral coordinates ``(n, 2)`` with umap-learn's scaling and noise."""
    from umap.spectral import spectral_layout

    random_state = np.random.RandomState(seed)
    with warnings.catch_warnings():
        # umap-learn then starts (a component of) the graph at random, which is what it would do itself.
        warnings.filterwarnings("ignore", message="Spectral initialisation failed", category=UserWarning)
        start = spectral_layout(vectors, graph, 2, random_state, metric="cosine")
    noisy: npt.NDArray[np.float32] = _umap().noisy_scale_coords(start, random_state)
    return noisy


def _optimise(
    vectors: npt.NDArray[np.float32],
    graph: Any,
    start: npt.NDArray[np.float32],
    min_dist: float,
    seed: int,
) -> FloatArray:
    umap = _umap()
    a, b = umap.find_ab_params(1.0, min_dist)
    coordinates, _ = umap.simplicial_set_embedding(
        vectors,
        # It is pruned in place.
        graph.copy(),
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=5,
        n_epochs=None,
        init=start,
        random_state=np.random.RandomState(seed),
        metric="cosine",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        parallel=False,
    )
    laid_out: FloatArray = coordinates.astype(np.float64)
    return laid_out


def _rotation(coordinates: FloatArray, target: FloatArray) -> FloatArray:
    """Orthogonal ``(2, 2)`` matrix that turns centred coordinates towards centred target best."""
    from scipy.linalg import orthogonal_procrustes

    rotation: FloatArray = orthogonal_procrustes(coordinates, target)[0]
    return rotation
