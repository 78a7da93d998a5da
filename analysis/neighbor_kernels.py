"""Compiled loops of the exact neighbour search."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(nogil=True)
def keep_near(
    tile: Any, bits: Any, top: Any, left: Any, group: Any, near: Any, mirrored: Any, counts: Any, kept: Any
) -> None:
    """Keep what a tile of products holds for its rows and, where `mirrored`, for its columns.

    What is kept is the product's `bits` above the other's number, as one number is written faster than two. `near` is
    the least product that counts for a row; `counts` goes on beyond the room in `kept`, which tells that something was
    lost. A mirrored tile on the diagonal is read above it.
    """
    rows, columns = tile.shape
    room = kept.shape[1]
    # A flag per column, read eight at a time: most hold nothing. What is flagged is listed without a branch.
    flags = np.zeros(columns + 8, np.uint8)
    words = flags[: columns // 8 * 8 + 8].view(np.uint64)
    flagged = np.empty(columns + 8, np.int64)
    others = near[left : left + columns].copy()
    if not mirrored:
        others[:] = np.inf
    for r in range(rows):
        i = top + r
        own = near[i]
        own_group = group[i]
        size = counts[i]
        for c in range(columns):
            flags[c] = (tile[r, c] >= own) | (tile[r, c] >= others[c])
        if mirrored and top == left:
            flags[: r + 1] = 0
        found = 0
        for word in range(len(words)):
            if words[word]:
                for c in range(8 * word, 8 * word + 8):
                    flagged[found] = c
                    found += flags[c]
        for c in flagged[:found]:
            j = left + c
            if group[j] != own_group and i != j:
                high = np.uint64(bits[r, c]) << np.uint64(32)
                if tile[r, c] >= own:
                    if size < room:
                        kept[i, size] = high | np.uint64(j)
                    size += 1
                if tile[r, c] >= others[c]:
                    if counts[j] < room:
                        kept[j, counts[j]] = high | np.uint64(i)
                    counts[j] += 1
        counts[i] = size


@numba.njit(nogil=True)
def expand(
    images: Any, counts: Any, kept: Any, original: Any, copies: Any, copies_end: Any, groups: Any, keys: Any
) -> None:
    """Write the candidates of images into the rows of `keys`, as numbers that sort by distance, then index.

    A key is the bits of the distance, which order as it does since it is not negative, above those of the index. An
    image's copies are at distance 0, and a neighbour's copies at its distance; the image itself and its group are left
    out. A row that overflows is left empty.
    """
    width = keys.shape[1]
    room = kept.shape[1]
    bits = np.empty(1, np.uint32)
    number = bits.view(np.float32)
    for row in range(len(images)):
        i = images[row]
        mine = original[i]
        if counts[mine] > room:
            continue
        size = 0
        for place in range(-1, counts[mine]):
            other = mine
            number[0] = 0
            if place >= 0:
                other = np.int64(kept[mine, place] & np.uint64(0xFFFFFFFF))
                bits[0] = np.uint32(kept[mine, place] >> np.uint64(32))
                number[0] = max(np.float32(0), np.float32(1) - number[0])
            high = np.uint64(bits[0]) << np.uint64(32)
            for c in range(copies_end[other - 1] if other > 0 else 0, copies_end[other]):
                j = copies[c]
                if j != i and groups[j] != groups[i]:
                    if size < width:
                        keys[row, size] = high | np.uint64(j)
                    size += 1
        if size > width:
            keys[row] = np.uint64(0xFFFFFFFFFFFFFFFF)


@numba.njit(nogil=True)
def split(keys: Any, images: Any, indices: Any, bits: Any) -> None:
    """Write the first keys of every row, taken apart, where the image's list is: the index and the distance's bits."""
    for row in range(len(images)):
        i = images[row]
        for place in range(indices.shape[1]):
            key = keys[row, place]
            indices[i, place] = np.int64(key & np.uint64(0xFFFFFFFF))
            bits[i, place] = np.uint32(key >> np.uint64(32))


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
