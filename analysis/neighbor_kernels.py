"""Compiled loops of the exact neighbour search."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True)
def keep_near(
    tile: Any, top: Any, left: Any, group: Any, near: Any, mirrored: Any, counts: Any, found: Any, products: Any
) -> None:
    """Keep what a tile of products holds for its rows and, where `mirrored`, for its columns.

    `near` is the least product that counts for a row; `counts` goes on beyond the room in `found`, which tells that
    something was lost. A mirrored tile on the diagonal is read above it.
    """
    rows, columns = tile.shape
    room = found.shape[1]
    for r in range(rows):
        i = top + r
        own = near[i]
        own_group = group[i]
        begin = r + 1 if mirrored and top == left else 0
        while begin < columns:
            end = min(begin + 64, columns)
            # Most stretches hold nothing: told without a branch, and so many at once.
            some = False
            for c in range(begin, end):
                some |= (tile[r, c] >= own) | (mirrored & (tile[r, c] >= near[left + c]))
            for c in range(begin, end if some else begin):
                value = tile[r, c]
                j = left + c
                for_column = mirrored and value >= near[j]
                if (value >= own or for_column) and group[j] != own_group and i != j:
                    if value >= own:
                        if counts[i] < room:
                            found[i, counts[i]] = j
                            products[i, counts[i]] = value
                        counts[i] += 1
                    if for_column:
                        if counts[j] < room:
                            found[j, counts[j]] = i
                            products[j, counts[j]] = value
                        counts[j] += 1
            begin = end


@numba.njit(nogil=True)
def expand(
    images: Any,
    counts: Any,
    found: Any,
    products: Any,
    original: Any,
    copies: Any,
    copies_end: Any,
    groups: Any,
    keys: Any,
) -> None:
    """Write the candidates of images into the rows of `keys`, as numbers that sort by distance, then index.

    A key is the bits of the distance, which order as it does since it is not negative, above those of the index. An
    image's copies are at distance 0, and a neighbour's copies at its distance; the image itself and its group are left
    out. A row that overflows is left empty.
    """
    width = keys.shape[1]
    room = found.shape[1]
    apart = np.empty(1, np.float32)
    bits = apart.view(np.uint32)
    for row in range(len(images)):
        i = images[row]
        mine = original[i]
        if counts[mine] > room:
            continue
        size = 0
        for place in range(-1, counts[mine]):
            other = mine if place < 0 else np.int64(found[mine, place])
            apart[0] = np.float32(0) if place < 0 else max(np.float32(0), np.float32(1) - products[mine, place])
            high = np.uint64(bits[0]) << np.uint64(32)
            for c in range(copies_end[other - 1] if other > 0 else 0, copies_end[other]):
                j = copies[c]
                if j != i and groups[j] != groups[i]:
                    if size < width:
                        keys[row, size] = high | np.uint64(j)
                    size += 1
        if size > width:
            keys[row] = np.uint64(0xFFFFFFFFFFFFFFFF)


# Sums may be taken in any order, and so several terms at once.
@numba.njit(nogil=True, fastmath={"reassoc", "contract"})
def distances_of(unit: Any, indices: Any, distances: Any) -> None:
    """Fill in the cosine distance of every row to those it lists, in float64; what is -1 is left as it is."""
    for i in range(len(indices)):
        for place in range(indices.shape[1]):
            j = indices[i, place]
            if j >= 0:
                product = 0.0
                for c in range(unit.shape[1]):
                    product += np.float64(unit[i, c]) * np.float64(unit[j, c])
                distances[i, place] = max(0.0, 1.0 - product)
