"""Compiled loops of the permutation tests."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True)
def _draw(state: Any, below: Any) -> Any:
    """Advance xorshift64* and return its state and a number in ``0 .. below-1``.

    The bound is taken by multiplication; its bias is less than one in 2³² / `below`.
    """
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    high = (state * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(32)
    return state, np.int64((high * np.uint64(below)) >> np.uint64(32))


@numba.njit(nogil=True)
def shuffle(codes: Any, groups: Any, length: Any, begins: Any, seed: Any, out: Any) -> None:
    """Fill the columns of `out`, ``(units, permutations)``, with shuffled `codes`.

    Codes come kind by kind: ``groups[i]`` groups of ``length[i]`` units each. Groups change places within their kind,
    units within their block, both by Fisher-Yates; block j holds the units ``begins[j]`` to ``begins[j + 1]``.
    """
    units, permutations = out.shape
    at_once = 64  # permutations kept in cache before they are written column by column
    rows = np.empty((at_once, units), codes.dtype)
    # splitmix64 of the seed: neighbouring seeds begin far apart, none at 0.
    state = (seed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = (state ^ (state >> np.uint64(31))) | np.uint64(1)
    for begin in range(0, permutations, at_once):
        here = min(at_once, permutations - begin)
        for p in range(here):
            row = rows[p]
            row[:] = codes
            first = 0
            for kind in range(len(groups)):
                size = length[kind]
                for last in range(groups[kind] - 1, 0, -1):
                    state, other = _draw(state, last + 1)
                    for u in range(size):
                        a, b = first + last * size + u, first + other * size + u
                        row[a], row[b] = row[b], row[a]
                first += groups[kind] * size
            for block in range(len(begins) - 1):
                start = begins[block]
                for last in range(begins[block + 1] - start - 1, 0, -1):
                    state, other = _draw(state, last + 1)
                    row[start + last], row[start + other] = row[start + other], row[start + last]
        for unit in range(units):
            for p in range(here):
                out[unit, begin + p] = rows[p, unit]


@numba.njit(nogil=True)
def agreement(codes: Any, left: Any, right: Any, weights: Any, total: Any) -> None:
    """Add to `total` the weight of the pairs ``(left, right)`` that agree, column by column of `codes`.

    Agreements of pairs of one weight are counted in bytes, 32 columns an instruction, and weighed once in 255 pairs.
    """
    permutations = codes.shape[1]
    count = np.zeros(permutations, np.uint8)
    pair = 0
    while pair < len(left):
        weight = weights[pair]
        count[:] = 0
        taken = 0
        while pair < len(left) and taken < 255 and weights[pair] == weight:
            a = codes[left[pair]]
            b = codes[right[pair]]
            for p in range(permutations):
                count[p] += np.uint8(a[p] == b[p])
            pair += 1
            taken += 1
        for p in range(permutations):
            total[p] += weight * count[p]
