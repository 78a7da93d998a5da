"""UMAP's stochastic optimiser for several layouts of one graph at once, on one thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np

from analysis.lanes import CURVES, LANES, REPELLED, WIDTH, attract, repel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from analysis.arrays import IntArray

NEGATIVES_PER_EDGE = 5
# Samples drawn ahead, some epochs' worth: what bounds memory.
_SAMPLES_AHEAD = 2**21


@dataclass(frozen=True)
class Edges:
    """A graph as the optimiser reads it.

    Attributes
    ----------
    heads, tails
        ``(edges,)`` rows of the points; each edge moves its head, and its tail where tails move. An undirected graph
        has every edge in both directions.
    rates
        ``(edges,)`` how often an edge is drawn per epoch, in (0, 1].
    """

    heads: npt.NDArray[np.int32]
    tails: npt.NDArray[np.int32]
    rates: npt.NDArray[np.float32]


def optimise(
    start: npt.NDArray[np.float32],
    edges: Edges,
    curves: Sequence[tuple[float, float]],
    *,
    epochs: int,
    seed: int,
    alpha: float = 1.0,
    fixed: int = 0,
) -> list[npt.NDArray[np.float32]]:
    """Lay a graph out once per curve.

    As umap-learn does it: an edge is drawn at even intervals, its ends are pulled together, and its head is pushed from
    five random points. What differs does not show beyond the change from seed to seed: powers are within 1e-5; the
    random points of a draw all push from where the edge has left the head; and all heads take the same sequence of
    random points, each at its own pace, so that near points are pushed alike.

    Parameters
    ----------
    start
        ``(n, 2)`` where the points begin.
    edges
        The graph.
    curves
        umap-learn's a and b of each layout; at most 8.
    epochs
        Rounds; the step falls from `alpha` to 0 over them.
    seed
        Seed of the random points.
    alpha
        First step.
    fixed
        The first so many points stay, and random points are drawn among them only; 0 moves all.

    Returns
    -------
    list of ndarray
        ``(n, 2)`` float32 per curve. The same arguments give the same bits on the same machine and versions, and a
        curve the same bits whatever the others are.

    References
    ----------
    McInnes, Healy & Melville, arXiv:1802.03426; umap-learn 0.5, ``optimize_layout_euclidean``.
    """
    if not 1 <= len(curves) <= LANES:
        raise ValueError(f"1 to {LANES} layouts at once, not {len(curves)}")
    points = np.repeat(start.astype(np.float32), LANES, axis=1)
    shapes = np.ones((CURVES, WIDTH), dtype=np.float32)
    for lane, (a, b) in enumerate(curves):
        shapes[:, lane] = shapes[:, lane + LANES] = a, b, 2 * a * b, 2 * b
    # umap-learn's first two epochs have the same step.
    alphas = (alpha * (1 - np.maximum(np.arange(epochs) - 1, 0) / epochs)).astype(np.float32)
    states = np.full(len(start), np.random.SeedSequence(seed).generate_state(1, np.uint64)[0], dtype=np.uint64)
    per_round = max(1, int(_SAMPLES_AHEAD / max(1.0, float(edges.rates.sum()))))
    for first in range(0, epochs, per_round):
        last = min(first + per_round, epochs)
        bounds = np.zeros(last - first + 1, dtype=np.int64)
        _count_draws(edges.rates, first, last, bounds)
        np.cumsum(bounds, out=bounds)
        drawn, negatives = np.empty(bounds[-1], dtype=np.int32), np.empty(bounds[-1], dtype=np.int8)
        _list_draws(edges.rates, first, last, bounds[:-1].copy(), drawn, negatives)
        heads, tails = edges.heads[drawn], edges.tails[drawn]
        del drawn
        pull = np.float32(0 if fixed else 1)
        _run(
            points.reshape(-1),
            heads,
            tails,
            negatives,
            bounds,
            shapes.reshape(-1),
            alphas[first:last],
            pull,
            fixed or len(start),
            states,
        )
    return [np.stack([points[:, lane], points[:, lane + LANES]], axis=1) for lane in range(len(curves))]


def _draws_before(rate: float, epoch: int) -> int:
    """Draws of an edge before an epoch; the m-th, from 1, comes in epoch ⌈m / rate⌉."""
    draws = int((epoch - 1) * rate) + 1
    while draws > 0 and np.ceil(draws / rate) >= epoch:
        draws -= 1
    return draws


def _count_draws(rates: npt.NDArray[np.float32], first: int, last: int, counts: IntArray) -> None:
    """Add the draws of epoch ``first + i`` to ``counts[i + 1]``."""
    for edge in range(len(rates)):
        rate = np.float64(rates[edge])
        draw = _draws_before(rate, first) + 1
        epoch = int(np.ceil(draw / rate))
        while epoch < last:
            counts[epoch - first + 1] += 1
            draw += 1
            epoch = int(np.ceil(draw / rate))


def _list_draws(
    rates: npt.NDArray[np.float32],
    first: int,
    last: int,
    ends: IntArray,
    drawn: npt.NDArray[np.int32],
    negatives: npt.NDArray[np.int8],
) -> None:
    """List the edges drawn, epoch by epoch, with the random points of each; `ends` says where an epoch's list begins.

    By its m-th draw in epoch e an edge has had ``⌊5 e rate⌋ − 1`` random points in all, as in umap-learn.
    """
    for edge in range(len(rates)):
        rate = np.float64(rates[edge])
        draw = _draws_before(rate, first) + 1
        had = 0
        if draw > 1:
            had = int(NEGATIVES_PER_EDGE * np.ceil((draw - 1) / rate) * rate) - 1
        epoch = int(np.ceil(draw / rate))
        while epoch < last:
            place = ends[epoch - first]
            ends[epoch - first] += 1
            drawn[place] = edge
            due = int(NEGATIVES_PER_EDGE * epoch * rate) - 1
            negatives[place] = due - had
            had = due
            draw += 1
            epoch = int(np.ceil(draw / rate))


def _next(state: np.uint64) -> np.uint64:
    """Step of Knuth's linear congruential generator MMIX, of whose 64 bits the upper half is used."""
    return state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)


def _below(state: np.uint64, n: np.uint64) -> np.int64:
    return np.int64(((state >> np.uint64(32)) * n) >> np.uint64(32))


def _run(
    points: npt.NDArray[np.float32],
    heads: npt.NDArray[np.int32],
    tails: npt.NDArray[np.int32],
    negatives: npt.NDArray[np.int8],
    bounds: IntArray,
    curves: npt.NDArray[np.float32],
    alphas: npt.NDArray[np.float32],
    pull: np.float32,
    n_drawn_from: int,
    states: npt.NDArray[np.uint64],
) -> None:
    """Make the moves of some epochs: attract the ends of each edge drawn, then push its head from random points."""
    n = np.uint64(n_drawn_from)
    for epoch in range(len(alphas)):
        alpha = alphas[epoch]
        for place in range(bounds[epoch], bounds[epoch + 1]):
            head = np.int64(heads[place])
            attract(points, head, np.int64(tails[place]), curves, alpha, pull)
            left = np.int64(negatives[place])
            state = states[head]
            while left > 0:
                # What is not drawn is the head itself, which moves nothing.
                b = c = d = e = f = head
                state = _next(state)
                a = _below(state, n)
                if left > 1:
                    state = _next(state)
                    b = _below(state, n)
                if left > 2:
                    state = _next(state)
                    c = _below(state, n)
                if left > 3:
                    state = _next(state)
                    d = _below(state, n)
                if left > 4:
                    state = _next(state)
                    e = _below(state, n)
                if left > 5:
                    state = _next(state)
                    f = _below(state, n)
                repel(points, head, (a, b, c, d, e, f), curves, alpha)
                left -= REPELLED
            states[head] = state


# Compiled when first called, in about two seconds and for this processor: a cache on disk would need a folder that may
# be written. nogil, so that graphs are laid out in as many threads.
_draws_before = numba.njit(nogil=True)(_draws_before)
_count_draws = numba.njit(nogil=True)(_count_draws)
_list_draws = numba.njit(nogil=True)(_list_draws)
_next = numba.njit(nogil=True)(_next)
_below = numba.njit(nogil=True)(_below)
_run = numba.njit(nogil=True)(_run)
