"""LEACE: the smallest change of features after which no linear classifier can read a category."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Eraser:
    """The affine map ``x - (x - mean) W Bᵀ``.

    Attributes
    ----------
    mean
        ``(d,)`` of the features fitted on.
    read, removed
        W and B, ``(d, k)``: what is read off the features, and the directions it is removed along.
    """

    mean: FloatArray
    read: FloatArray
    removed: FloatArray

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Erase from ``(m, d)`` features."""
        erased: FloatArray = vectors - ((vectors - self.mean) @ self.read) @ self.removed.T
        return erased


def fit_leace(vectors: FloatArray, codes: IntArray, *, shrinkage: float = 0.0) -> Eraser:
    """Fit the closed form of least-squares concept erasure.

    With Σ the covariance of x and A its covariance with the one-hot category,

        r(x) = x - A (Aᵀ Σ⁺ A)⁺ Aᵀ Σ⁺ (x - mean),

    which is the paper's whitened projection multiplied out. Every category's mean is then the same, and among
    affine maps with that property none moves x less in expected square, whatever the inner product.

    Parameters
    ----------
    vectors
        ``(n, d)`` features.
    codes
        ``(n,)`` categories.
    shrinkage
        Weight in [0, 1] of the mean variance times the identity in Σ. Means are equal all the same; above 0 the
        change is not the least for these very vectors, but fits others better where n is not far above d.

    Returns
    -------
    Eraser
        Of rank at most the number of categories less one.

    References
    ----------
    Belrose et al., LEACE: Perfect linear concept erasure in closed form, arXiv:2306.03819, theorem 4.3.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    indicators = (codes[:, None] == np.unique(codes)).astype(np.float64)
    cross = centred.T @ (indicators - indicators.mean(axis=0)) / len(vectors)
    covariance = centred.T @ centred / len(vectors)
    if shrinkage > 0:
        from scipy.linalg import solve

        variance = float(np.trace(covariance)) / len(covariance)
        covariance = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(len(covariance))
        read = solve(covariance, cross, assume_a="pos")
    else:
        read = np.linalg.pinv(covariance, hermitian=True) @ cross
    return Eraser(mean, read @ np.linalg.pinv(cross.T @ read, hermitian=True), cross)
