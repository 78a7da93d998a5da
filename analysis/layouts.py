"""UMAP layouts over a grid of n_neighbors and min_dist, with all that cells have in common made once."""

from __future__ import annotations

import math
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.layout_quality import LayoutQuality, rank_neighbors
from analysis.layout_start import START_N_NEIGHBORS, start_of_layouts
from analysis.neighbors import Neighbors, cosine_neighbors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    import numpy.typing as npt

    from analysis.arrays import FloatArray
    from analysis.umap_optimiser import Edges

# The grid of Takeda & Sakai, arXiv:2601.14774: 50 layouts.
STUDY_N_NEIGHBORS = (3, 5, 10, 15, 25, 50, 100, 200, 500, 1000)
STUDY_MIN_DIST = (0.1, 0.25, 0.5, 0.75, 1.0)
COARSE_N_NEIGHBORS = (15, 50, 200)
COARSE_MIN_DIST = (0.1, 0.5)
# umap-learn's defaults: the cell that others are turned towards is the nearest to it.
REFERENCE_CELL = (15, 0.1)

MIN_IMAGES = 10
# umap-learn's: more rounds where they are cheap.
FEW_IMAGES, EPOCHS_OF_FEW, EPOCHS_OF_MANY = 10_000, 500, 200

# Held around what umap-learn runs on numba's own threads: these may not be started from two.
NUMBA_THREADS = threading.Lock()


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
        ``(n, 2)`` float32, centred, turned to match the reference cell; no unit.
    quality
        What it keeps of the feature space.
    """

    n_neighbors: int
    n_neighbors_requested: int
    min_dist: float
    coordinates: npt.NDArray[np.float32]
    quality: LayoutQuality


def umap_grid(
    vectors: FloatArray,
    *,
    n_neighbors: Sequence[int],
    min_dist: Sequence[float],
    seed: int,
    workers: int = 1,
    known: Mapping[int, npt.NDArray[np.float32]] = MappingProxyType({}),
    finished: Callable[[int, npt.NDArray[np.float32]], None] = lambda size, layouts: None,
) -> list[Layout]:
    """Lay images out by UMAP for every pair of `n_neighbors` and `min_dist`.

    All cells share the exact cosine neighbours and the start; those of one `n_neighbors` also the fuzzy graph, the
    order of its edges and the random points, so that they are optimised together. A cell does not depend on which
    others are asked for, save that all are turned (rotated, mirrored, never scaled) towards the one nearest to
    umap-learn's defaults, 15 neighbours at 0.1.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite, non-zero features; ``n >= 10``.
    n_neighbors
        Neighbourhood sizes, the image itself included; ``n`` or more becomes ``n - 1``.
    min_dist
        Smallest distances in the layout, in ``[0, 1]``.
    seed
        Seed of the start, of the optimiser and of the images that quality is read on. The same seed gives the same
        bits on the same machine and versions, however many the workers.
    workers
        Threads; each lays out one `n_neighbors` at a time.
    known
        What a call that did not end has given to `finished`, by the same vectors, min_dist and seed; it is not made
        again.
    finished
        Called, from any thread, with each n_neighbors as used and its layouts ``(min_dist, n, 2)``.

    Returns
    -------
    list of Layout
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
    neighbors = cosine_neighbors(vectors, min(max(*n_neighbors, START_N_NEIGHBORS), n - 1) - 1)
    ranks = rank_neighbors(vectors, seed=seed)
    start = start_of_layouts(vectors, _fuzzy_graph(neighbors.first(min(START_N_NEIGHBORS, n - 1) - 1)), seed=seed)
    curves = [curve(distance) for distance in min_dist]

    def row(size: int) -> list[tuple[npt.NDArray[np.float32], LayoutQuality]]:
        layouts = known[size] if size in known else np.stack(_lay_out(neighbors, size, start, curves, seed))
        finished(size, layouts)
        return [(coordinates, ranks.judge(coordinates)) for coordinates in layouts]

    # The largest graph takes longest: last, it would leave the other threads idle.
    sizes = sorted({min(size, n - 1) for size in n_neighbors}, reverse=True)
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(row, size): size for size in sizes}
        try:
            rows = {futures[future]: future.result() for future in as_completed(futures)}
        except BaseException:
            # Whichever size failed: no other is begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    cells = [
        (size, distance, *rows[min(size, n - 1)][j]) for size in n_neighbors for j, distance in enumerate(min_dist)
    ]
    target = min(cells, key=lambda cell: nearness_to_reference(cell[0], cell[1]))[2]
    return [
        Layout(min(size, n - 1), size, distance, turn(coordinates, target), quality)
        for size, distance, coordinates, quality in cells
    ]


def nearness_to_reference(n_neighbors: int, min_dist: float) -> tuple[float, float, int]:
    """Order cells by how near they are to umap-learn's defaults, nearest first."""
    size, distance = REFERENCE_CELL
    return abs(math.log(n_neighbors / size)), abs(min_dist - distance), n_neighbors


def turn(coordinates: FloatArray, target: FloatArray, *, by: FloatArray | None = None) -> npt.NDArray[np.float32]:
    """Rotate and mirror a layout, without scaling it, to where its points lie nearest to those of another.

    Parameters
    ----------
    coordinates
        ``(n, 2)`` layout.
    target
        ``(m, 2)`` another, of the same images or of those in `by`.
    by
        ``(m, 2)`` where the layout has the target's images; all its points unless given.

    Returns
    -------
    ndarray
        ``(n, 2)`` float32, centred.
    """
    from scipy.linalg import orthogonal_procrustes

    moved, still, compared = (
        points - points.mean(axis=0, dtype=np.float64)
        for points in (coordinates, target, coordinates if by is None else by)
    )
    turned: npt.NDArray[np.float32] = (moved @ orthogonal_procrustes(compared, still)[0]).astype(np.float32)
    return turned


def curve(min_dist: float) -> tuple[float, float]:
    """Return umap-learn's a and b, of the curve that turns distance in a layout into membership."""
    a, b = umap_learn().find_ab_params(1.0, min_dist)
    return float(a), float(b)


def umap_learn() -> ModuleType:
    """Import umap-learn's functions."""
    with warnings.catch_warnings():
        # It says on import that its parametric variant, which is not used here, needs TensorFlow.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        from umap import umap_
    module: ModuleType = umap_
    return module


def _lay_out(
    neighbors: Neighbors,
    n_neighbors: int,
    start: npt.NDArray[np.float32],
    curves: Sequence[tuple[float, float]],
    seed: int,
) -> list[npt.NDArray[np.float32]]:
    """Lay out one graph by each curve."""
    from analysis.lanes import LANES
    from analysis.umap_optimiser import optimise

    epochs = EPOCHS_OF_FEW if len(start) <= FEW_IMAGES else EPOCHS_OF_MANY
    edges = _edges(neighbors.first(n_neighbors - 1), epochs)
    parts = [curves[i : i + LANES] for i in range(0, len(curves), LANES)]
    return [layout for part in parts for layout in optimise(start, edges, part, epochs=epochs, seed=seed)]


def _edges(neighbors: Neighbors, epochs: int) -> Edges:
    """Return the fuzzy graph's edges, without those too weak to be drawn, as umap-learn leaves them out."""
    from analysis.umap_optimiser import Edges

    graph = _fuzzy_graph(neighbors).tocoo()
    rates = graph.data / graph.data.max()
    drawn = rates >= 1 / epochs
    return Edges(graph.row[drawn].astype(np.int32), graph.col[drawn].astype(np.int32), rates[drawn].astype(np.float32))


def _fuzzy_graph(neighbors: Neighbors) -> Any:
    """Fuzzy simplicial set as a sparse ``(n, n)`` matrix; lists are without the image itself. One at a time."""
    own = np.arange(neighbors.n, dtype=np.int32)[:, None]
    with NUMBA_THREADS:
        graph, _, _ = umap_learn().fuzzy_simplicial_set(
            # Only its length is read when neighbours are given.
            own,
            neighbors.k + 1,
            random_state=None,
            metric="cosine",
            knn_indices=np.hstack([own, neighbors.indices.astype(np.int32)]),
            knn_dists=np.hstack([np.zeros((neighbors.n, 1), dtype=np.float32), neighbors.distances]),
        )
    return graph
