"""Compiled loops of the exact neighbour search."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from analysis.tiled_neighbors import CHUNK

_NONE = -1


class Kept(NamedTuple):
    """The candidates of every row, in chunks that are taken from and given back to a common store.

    Attributes
    ----------
    counts
        ``(m,)`` candidates of each row; -1 if some were lost, as the row or the store was full.
    room
        Candidates a row may have.
    last
        ``(m,)`` the chunk that is being filled; -1 if there is none.
    before
        ``(c,)`` the chunk of the same row that was filled before; -1 if there is none.
    candidates
        ``(c, CHUNK)`` the product's bits above the other's number, as one number is written faster than two.
    unused
        ``(c,)`` chunks, of which the first `n_unused[0]` are free.
    """

    counts: Any
    room: Any
    last: Any
    before: Any
    candidates: Any
    unused: Any
    n_unused: Any

    @classmethod
    def of(cls, rows: int, room: int, chunks: int) -> Kept:
        """Return an empty store of so many chunks; the room of a row is rounded up to whole ones."""
        return cls(
            counts=np.zeros(rows, np.int64),
            room=-(-room // CHUNK) * CHUNK,
            last=np.full(rows, _NONE),
            before=np.empty(chunks, np.int64),
            candidates=np.empty((chunks, CHUNK), np.uint64),
            # The last is taken first: begin with the store's begin, and touch no more of it than is needed.
            unused=np.arange(chunks)[::-1].copy(),
            n_unused=np.array([chunks]),
        )


@numba.njit(nogil=True)
def release(kept: Any, top: Any, end: Any) -> None:
    """Give back the chunks of some rows."""
    for row in range(top, end):
        chunk = kept.last[row]
        while chunk != _NONE:
            kept.unused[kept.n_unused[0]] = chunk
            kept.n_unused[0] += 1
            chunk = kept.before[chunk]
        kept.last[row] = _NONE


@numba.njit(nogil=True)
def keep_near(tile: Any, bits: Any, top: Any, left: Any, group: Any, near: Any, mirrored: Any, kept: Any) -> None:
    """Keep what a tile of products holds for its rows and, where `mirrored`, for its columns.

    `near` is the least product that counts for a row, and `bits` are the products'. A mirrored tile on the diagonal is
    read above it.
    """
    rows, columns = tile.shape
    counts, room, last, before, candidates, unused, n_unused = kept
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
            if group[j] == group[i] or i == j:
                continue
            high = np.uint64(bits[r, c]) << np.uint64(32)
            for side in range(2):
                # What a row has room for is kept; what is lost marks it.
                row, other, threshold = (i, j, own) if side == 0 else (j, i, others[c])
                size = counts[row]
                if tile[r, c] < threshold or size < 0:
                    continue
                place = size % CHUNK
                if place == 0:
                    if size >= room or n_unused[0] == 0:
                        counts[row] = -1
                        continue
                    n_unused[0] -= 1
                    chunk = unused[n_unused[0]]
                    before[chunk] = last[row]
                    last[row] = chunk
                candidates[last[row], place] = high | np.uint64(other)
                counts[row] = size + 1


@numba.njit(nogil=True)
def expand(images: Any, kept: Any, original: Any, copies: Any, ends: Any, groups: Any, keys: Any) -> None:
    """Write the candidates of images into the rows of `keys`, as numbers that sort by distance, then index.

    A key is the bits of the distance, which order as it does since it is not negative, above those of the index. An
    image's copies are at distance 0, and a neighbour's copies at its distance; the image itself and its group are left
    out. A row that lost candidates or overflows is left empty.
    """
    width = keys.shape[1]
    gathered = np.empty(kept.room + 1, np.uint64)
    bits = np.empty(1, np.uint32)
    number = bits.view(np.float32)
    for row in range(len(images)):
        i = images[row]
        mine = original[i]
        # The image itself first, for its copies: their product is 1.
        number[0] = 1
        gathered[0] = (np.uint64(bits[0]) << np.uint64(32)) | np.uint64(mine)
        count = kept.counts[mine]
        if count < 0:
            continue
        chunk = kept.last[mine]
        begin = (count - 1) // CHUNK * CHUNK
        end = count
        while chunk != _NONE:
            gathered[1 + begin : 1 + end] = kept.candidates[chunk, : end - begin]
            chunk = kept.before[chunk]
            end = begin
            begin -= CHUNK
        size = 0
        for candidate in gathered[: 1 + count]:
            other = np.int64(candidate & np.uint64(0xFFFFFFFF))
            bits[0] = np.uint32(candidate >> np.uint64(32))
            number[0] = max(np.float32(0), np.float32(1) - number[0])
            high = np.uint64(bits[0]) << np.uint64(32)
            for c in range(ends[other], ends[other + 1]):
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
