"""Permutation tests on neighbour lists that respect groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.statistics import permute_within

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

PERMUTATIONS = 999
# Pairs times permutations compared at once.
_CHUNK_ELEMENTS = 2**23


@dataclass(frozen=True)
class PermutedCodes:
    """A column permuted many times.

    Attributes
    ----------
    unit
        ``(n,)`` which unit each image belongs to. A unit's images share one code and move together.
    codes
        ``(units, permutations)`` the code of every unit in every permutation.
    """

    unit: IntArray
    codes: npt.NDArray[np.int16]

    @property
    def permutations(self) -> int:
        """Number of permutations."""
        return int(self.codes.shape[1])

    def describe(self) -> str:
        """Say what was permuted, for a result's note."""
        return f"{self.permutations} permutations of {len(self.codes)} units"


def permute_codes(
    codes: IntArray,
    groups: IntArray,
    *,
    seed: int,
    within: IntArray | None = None,
    permutations: int = PERMUTATIONS,
) -> PermutedCodes:
    """Permute a column over units, within strata.

    Images of one group that share the code (and stratum) form a unit and keep a common code: were they
    shuffled one by one, images of a patient would count as so many independent observations, and noise
    would be flagged. Where every group is a single image this is the plain permutation.

    Parameters
    ----------
    codes
        ``(n,)`` the column to permute.
    groups
        ``(n,)`` group codes.
    seed
        Seed of the permutations.
    within
        ``(n,)`` strata; units change codes only inside their stratum. One stratum unless given.
    permutations
        How many.

    Returns
    -------
    PermutedCodes
        The units and their permuted codes.
    """
    strata = np.zeros_like(codes) if within is None else within
    units, unit = np.unique(np.stack([groups, strata, codes], axis=1), axis=0, return_inverse=True)
    permuted = permute_within(units[:, 2], units[:, 1], np.random.default_rng(seed), permutations=permutations)
    # One row per unit, so that a pair of units compares two contiguous rows.
    return PermutedCodes(unit.reshape(-1), np.ascontiguousarray(permuted.T, dtype=np.int16))


def permuted_agreement(
    permuted: PermutedCodes, queries: IntArray, neighbors: IntArray, weights: FloatArray
) -> npt.NDArray[np.float64]:
    """Weight of the pairs that agree in code, in every permutation.

    Parameters
    ----------
    permuted
        The permuted column.
    queries, neighbors
        ``(pairs,)`` rows of each image and neighbour.
    weights
        ``(pairs,)``.

    Returns
    -------
    ndarray
        ``(permutations,)``.
    """
    from scipy.sparse import coo_matrix

    units = len(permuted.codes)
    # Pairs of the same two units always agree or differ together: count them once.
    pairs = coo_matrix(
        (weights, (permuted.unit[queries], permuted.unit[neighbors])), shape=(units, units), dtype=np.float64
    )
    pairs.sum_duplicates()
    total = np.zeros(permuted.permutations)
    chunk = max(1, _CHUNK_ELEMENTS // permuted.permutations)
    for start in range(0, pairs.nnz, chunk):
        part = slice(start, start + chunk)
        agree = permuted.codes[pairs.row[part]] == permuted.codes[pairs.col[part]]
        total += pairs.data[part] @ agree
    return total


def upper_p_value(observed: float, permuted: FloatArray) -> float:
    """Share of permutations at least as large as the observed value, which counts as one of them.

    References
    ----------
    Phipson & Smyth, Permutation p-values should never be zero (2010).
    """
    # Sums of the same weights in another order differ in their last digits.
    tolerance = 1e-9 * max(1.0, abs(observed))
    return float((1 + np.sum(permuted >= observed - tolerance)) / (1 + len(permuted)))
