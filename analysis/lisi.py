"""Local inverse Simpson index: how many different values an image's neighbourhood effectively holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, IntArray
    from analysis.neighbors import Neighbors

NEIGHBORS = 90
_TOLERANCE = 1e-5
_TRIES = 50


def neighbor_weights(neighbors: Neighbors) -> npt.NDArray[np.float64]:
    """Gaussian weights of listed neighbours, of one perplexity for all images.

    ``w_j ∝ exp(-β d_j)`` with β, by bisection, such that the entropy is the logarithm of the perplexity, a third of the
    neighbours listed.

    Parameters
    ----------
    neighbors
        ``(n, K)`` lists.

    Returns
    -------
    ndarray
        ``(n, K)``, each row summing to one; zero in rows that list no more neighbours than the perplexity.

    References
    ----------
    Korsunsky et al., Harmony, Nat. Methods 16 (2019); scib-metrics 0.5, whose bisection this repeats step by step.
    """
    distances = neighbors.distances.astype(np.float64)
    perplexity = max(1, neighbors.k // 3)
    weights = np.zeros_like(distances)
    rows = np.flatnonzero((neighbors.indices >= 0).sum(axis=1) > perplexity)
    beta, low, high = np.ones(len(rows)), np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
    for _ in range(_TRIES + 1):
        d = distances[rows]
        listed = np.isfinite(d)
        unscaled = np.exp(-np.where(listed, d, 0) * beta[:, None]) * listed
        total = unscaled.sum(axis=1)
        # Far from every neighbour all weights may vanish.
        safe = np.where(total > 0, total, 1)
        entropy = np.log(safe) + beta * np.einsum("ij,ij->i", np.where(listed, d, 0), unscaled) / safe
        excess = np.where(total > 0, entropy, 0) - np.log(perplexity)
        weights[rows] = unscaled / safe[:, None]
        going = np.abs(excess) >= _TOLERANCE
        if not going.any():
            break
        rows, beta, low, high, excess = rows[going], beta[going], low[going], high[going], excess[going]
        wide = excess > 0
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
        beta = np.where(
            wide,
            np.where(np.isinf(high), beta * 2, (beta + high) / 2),
            np.where(np.isinf(low), beta / 2, (beta + low) / 2),
        )
    return weights


def inverse_simpson(
    weights: npt.NDArray[np.float64], indices: IntArray, codes: IntArray, keep: BoolArray | None = None
) -> npt.NDArray[np.float64]:
    """Effective number of values among weighted neighbours, ``1 / Σ_v (Σ_{j: c_j = v} w_j)²``.

    Parameters
    ----------
    weights, indices
        ``(n, K)`` of `neighbor_weights` and of the lists.
    codes
        ``(n,)`` the values.
    keep
        ``(n,)`` images that count, as image and as neighbour; all unless given.

    Returns
    -------
    ndarray
        ``(n,)`` from 1 to the number of values; NaN where no neighbour counts.
    """
    if keep is not None:
        weights = weights * (keep[indices] & keep[:, None])
    there = indices >= 0
    n, values = len(codes), int(codes.max(initial=0)) + 1
    cell = np.arange(n)[:, None] * values + np.where(there, codes[indices], 0)
    mass = np.bincount(cell.ravel(), np.where(there, weights, 0).ravel(), minlength=n * values).reshape(n, values)
    total = mass.sum(axis=1)
    squares = np.einsum("ij,ij->i", mass, mass)
    index: npt.NDArray[np.float64] = np.divide(total**2, squares, out=np.full(n, np.nan), where=squares > 0)
    return index
