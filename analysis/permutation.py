"""Permutation tests on neighbour lists that respect groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

PERMUTATIONS = 999
# Of which the first are read where only the mean is wanted: what chance alone gives.
EXPECTATION = 49


# Fewer arrangements than this and no p-value can reach 0.05: there is no test.
LEAST_ARRANGEMENTS = 20


@dataclass(frozen=True)
class PermutedCodes:
    """A column permuted many times.

    Attributes
    ----------
    unit
        ``(n,)`` which unit each image belongs to. A unit's images share one code and move together.
    codes
        ``(units, permutations)`` the code of every unit in every permutation.
    arrangements
        How many distinct columns permuting can give, the column itself among them; inf where there are very many.
    within_groups
        Whether images changed codes within their group too.
    """

    unit: IntArray
    codes: npt.NDArray[np.unsignedinteger[Any]]
    arrangements: float = np.inf
    within_groups: bool = False

    @property
    def varies(self) -> bool:
        """Whether any permutation can differ from the column itself: else chance cannot be told from what is there."""
        return self.arrangements >= 2

    @property
    def testable(self) -> bool:
        """Whether there are arrangements enough for a p-value of 0.05."""
        return self.arrangements >= LEAST_ARRANGEMENTS

    @property
    def permutations(self) -> int:
        """Number of permutations."""
        return int(self.codes.shape[1])

    def first(self, permutations: int) -> list[IntArray]:
        """Return the first permuted columns, each ``(n,)``."""
        return [self.codes[self.unit, p].astype(np.int64) for p in range(min(permutations, self.permutations))]

    def describe(self) -> str:
        """Say what was permuted, for a result's note."""
        if not self.varies:
            return NOT_PERMUTED
        if not self.testable:
            return f"no test: only {self.arrangements:.0f} arrangements of the groups are possible"
        few = f", {self.arrangements:.0f} arrangements" if self.arrangements <= self.permutations else ""
        if self.within_groups:
            return f"{self.permutations} permutations of groups of one size, and within groups{few}"
        return f"{self.permutations} permutations of {len(self.codes)} units{few}"


NOT_PERMUTED = "cannot be permuted: groups of one size and one set of labels all hold the same values"


def permute_codes(
    codes: IntArray,
    groups: IntArray,
    *,
    seed: int,
    within: IntArray | None = None,
    permutations: int = PERMUTATIONS,
) -> PermutedCodes:
    """Permute a column over groups, within strata.

    Were images shuffled one by one, those of a patient would count as so many independent observations, and noise
    would be flagged. Whole groups change places, and only those alike: with as many images in every stratum. A group
    hands its codes of a stratum to the images that another has there, in any order. Groups of other sizes must not take
    part: where the patients of one background have more images, how often a background occurs would change, and noise
    be flagged in every set. Nor must a group be split by stratum: a patient with two labels would count as two. Where
    every group is a single image this is the plain permutation.

    Parameters
    ----------
    codes
        ``(n,)`` the column to permute, codes ≥ 0.
    groups
        ``(n,)`` group codes.
    seed
        Seed of the permutations.
    within
        ``(n,)`` strata; images change codes only inside their stratum. One stratum unless given.
    permutations
        How many.

    Returns
    -------
    PermutedCodes
        The units and their permuted codes.

    References
    ----------
    Winkler et al., Multi-level block permutation, NeuroImage 123 (2015): within-block and whole-block exchange.
    """
    strata = np.zeros_like(codes) if within is None else within
    # Several audits of one attribute permute the same column.
    columns = (np.asarray(column, dtype=np.int64).tobytes() for column in (codes, groups, strata))
    return _permute(*columns, seed=seed, permutations=permutations)


@lru_cache(maxsize=4)
def _permute(codes_: bytes, groups_: bytes, strata_: bytes, *, seed: int, permutations: int) -> PermutedCodes:
    codes, groups, strata = (np.frombuffer(each, dtype=np.int64) for each in (codes_, groups_, strata_))
    # One number per stratum and group, as rows of two sort ten times slower.
    _, stratum = np.unique(strata, return_inverse=True)
    n_strata = int(stratum.max(initial=0)) + 1
    # A block is what a group has in a stratum; blocks come group by group.
    blocks, block, size = np.unique(groups * n_strata + stratum, return_inverse=True, return_counts=True)
    _, first_block, n_blocks = np.unique(blocks // n_strata, return_index=True, return_counts=True)
    kind = _alike(first_block, n_blocks, blocks % n_strata * (len(codes) + 1) + size)
    holder = np.repeat(np.arange(len(kind)), n_blocks)
    low, high = np.full(len(blocks), np.iinfo(np.int64).max), np.zeros(len(blocks), dtype=np.int64)
    np.minimum.at(low, block, codes)
    np.maximum.at(high, block, codes)
    within_groups = bool((low < high).any())
    if within_groups:
        unit, unit_code, unit_block = np.arange(len(codes)), codes, block
    else:
        unit, unit_code, unit_block = block, low, np.arange(len(blocks))
    order = np.lexsort((unit_code, unit_block, kind[holder[unit_block]]))
    n_kinds = int(kind.max(initial=-1)) + 1
    groups_of_kind, units_of_kind = np.bincount(kind, minlength=n_kinds), np.ones(n_kinds, dtype=np.int64)
    units_of_kind[kind] = np.bincount(holder[unit_block], minlength=len(kind))
    # Where a block's units begin in this order, and a last one where they end.
    begins = np.flatnonzero(np.diff(unit_block[order], prepend=-1, append=-1)) if len(order) else np.zeros(1, np.int64)
    dtype = np.uint8 if codes.max(initial=0) < 256 else np.uint32
    drawn = np.empty((len(order), permutations), dtype=dtype)
    _kernels().shuffle(unit_code[order].astype(dtype), groups_of_kind, units_of_kind, begins, np.uint64(seed), drawn)
    permuted = np.empty_like(drawn)
    permuted[order] = drawn
    permuted.flags.writeable = False
    arrangements = _count_arrangements(kind, holder[block], block, codes)
    return PermutedCodes(unit, permuted, arrangements, within_groups)


def _alike(first: IntArray, length: IntArray, values: IntArray) -> IntArray:
    """Give runs ``values[first:first + length]`` numbers that equal ones, and only those, share."""
    number = np.zeros(len(first), dtype=np.int64)
    values = np.unique(values, return_inverse=True)[1]
    for place in range(int(length.max(initial=0))):
        longer = np.flatnonzero(length > place)
        pairs = number[longer] * (len(values) + 1) + values[first[longer] + place]
        number[longer] = np.unique(pairs, return_inverse=True)[1]
    alike: IntArray = np.unique(number * (int(length.max(initial=0)) + 1) + length, return_inverse=True)[1]
    return alike


def _count_arrangements(kind: IntArray, holder: IntArray, block: IntArray, codes: IntArray) -> float:
    """Count the distinct columns: orders of groups that hold different codes, times orders of codes within blocks."""
    from scipy.special import gammaln

    if len(codes) == 0:
        return 1
    order = np.lexsort((codes, block))
    _, first, length = np.unique(holder[order], return_index=True, return_counts=True)
    held = _alike(first, length, codes[order])
    logarithm = 0.0
    for whole, part in ((kind, held), (block, codes)):
        together = np.bincount(np.unique(whole * (int(part.max()) + 1) + part, return_inverse=True)[1])
        logarithm += gammaln(np.bincount(whole) + 1).sum() - gammaln(together + 1).sum()
    return float(np.round(np.exp(logarithm))) if logarithm < 30 else np.inf


def permuted_agreement(
    permuted: PermutedCodes,
    queries: IntArray,
    neighbors: IntArray,
    weights: FloatArray,
    *,
    permutations: int | None = None,
) -> npt.NDArray[np.float64]:
    """Weight of the pairs that agree in code, in every permutation.

    Parameters
    ----------
    permuted
        The permuted column.
    queries, neighbors
        ``(pairs,)`` rows of each image and neighbour.
    weights
        ``(pairs,)``; few distinct ones make it fast.
    permutations
        Read so many of the permutations; all unless given.

    Returns
    -------
    ndarray
        ``(permutations,)``.
    """
    codes = permuted.codes if permutations is None else np.ascontiguousarray(permuted.codes[:, :permutations])
    # Pairs of one weight are counted before they are weighed.
    order = np.argsort(weights, kind="stable")
    total = np.zeros(codes.shape[1])
    _kernels().agreement(
        codes,
        permuted.unit[queries[order]],
        permuted.unit[neighbors[order]],
        np.ascontiguousarray(weights[order], dtype=np.float64),
        total,
    )
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


def _kernels() -> Any:
    # Compiled when first called, a second or so: what never permutes does not pay for it.
    from analysis import permutation_kernels

    return permutation_kernels
