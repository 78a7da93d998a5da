"""Where the optimiser of layouts begins: one start for all cells, so that they can be compared."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.neighbors import unit_vectors

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray

# The graph whose spectrum is the start of all cells: large enough to be in one piece and well conditioned.
START_N_NEIGHBORS = 200
# Side of the square that a start is scaled to, and the noise that parts equal points: umap-learn's.
SIDE, NOISE = 10.0, 1e-4
# Up to so many images eigenvectors are found directly.
_FEW = 400
_BLOCK, _TOLERANCE, _ITERATIONS = 8, 1e-5, 200


def start_of_layouts(vectors: FloatArray, graph: Any, *, seed: int) -> npt.NDArray[np.float32]:
    """Return the spectral coordinates of a graph, or the principal components of the vectors where it is in pieces.

    umap-learn takes each graph's own spectrum, by a solver that can take minutes where a small graph is badly
    conditioned, and lays out pieces one by one. The spectrum of one large graph serves every cell as well.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite, non-zero features.
    graph
        Sparse symmetric ``(n, n)`` memberships.
    seed
        Seed of the noise, and of where the solver begins.

    Returns
    -------
    ndarray
        ``(n, 2)`` float32 in a square of side 10.

    References
    ----------
    Belkin & Niyogi, Neural Computation 15 (2003); Knyazev, SIAM J. Sci. Comput. 23 (2001), for the solver; Kobak &
    Linderman, Nature Biotechnology 39 (2021), on principal components as a start.
    """
    from scipy.sparse.csgraph import connected_components

    in_one_piece = connected_components(graph, directed=False)[0] == 1
    start = _spectrum(graph, seed) if in_one_piece else _principal_components(vectors, seed)
    start = start * SIDE / max(float(np.abs(start).max()), float(np.finfo(np.float32).eps))
    start += np.random.default_rng(seed).normal(scale=NOISE, size=start.shape)
    low, high = start.min(axis=0), start.max(axis=0)
    scaled: npt.NDArray[np.float32] = (SIDE * (start - low) / (high - low)).astype(np.float32)
    return scaled


def _spectrum(graph: Any, seed: int) -> npt.NDArray[np.float64]:
    """Eigenvectors of the normalised Laplacian with the second and third smallest eigenvalues, ``(n, 2)``."""
    from scipy.sparse import diags_array, eye_array
    from scipy.sparse.linalg import lobpcg

    graph = graph.astype(np.float64)
    root = np.sqrt(np.asarray(graph.sum(axis=0)).ravel())
    n = len(root)
    laplacian = (eye_array(n) - diags_array(1 / root) @ graph @ diags_array(1 / root)).tocsr()
    if n <= _FEW:
        vectors = np.linalg.eigh(laplacian.toarray())[1]
    else:
        guess = np.random.default_rng(seed).normal(size=(n, _BLOCK))
        # Known: the eigenvector of 0.
        guess[:, 0] = root
        with warnings.catch_warnings():
            # A start need not be exact: what the last round found serves.
            warnings.filterwarnings("ignore", message="Exited", category=UserWarning)
            values, vectors = lobpcg(laplacian, guess, largest=False, tol=_TOLERANCE, maxiter=_ITERATIONS)
        vectors = vectors[:, np.argsort(values)]
    chosen: npt.NDArray[np.float64] = vectors[:, 1:3]
    # An eigenvector has no sign of its own.
    return chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), [0, 1]])


def _principal_components(vectors: FloatArray, seed: int) -> npt.NDArray[np.float64]:
    """First two principal components of the unit vectors, ``(n, 2)``."""
    from sklearn.decomposition import PCA

    unit = unit_vectors(vectors)
    start = np.zeros((len(unit), 2))
    # Of vectors that are all alike there are none, and of one dimension there is only one.
    components = min(2, unit.shape[1]) if np.ptp(unit, axis=0).any() else 0
    if components:
        start[:, :components] = PCA(components, random_state=seed).fit_transform(unit)
    return start
