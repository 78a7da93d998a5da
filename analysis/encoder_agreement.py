"""Which encoders agree on whose neighbours: two encoders, the same images."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import require_aligned
from analysis.bootstrap import cluster_bootstrap
from analysis.neighbors import unit_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

SCHEMA = {
    "encoder": pl.String,
    "other_encoder": pl.String,
    "metric": pl.String,
    "k": pl.Int32,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "expected": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
    "seed": pl.Int64,
}
# Weight of a rank against the one before it: about 86 % of the weight is on the first ten.
PERSISTENCE = 0.9


def encoder_agreement(
    lists: Mapping[str, IntArray], vectors: Mapping[str, FloatArray], groups: IntArray, *, seed: int
) -> pl.DataFrame:
    """Compare every two encoders on the images of one data set.

    Parameters
    ----------
    lists
        By encoder ``(n, k)`` rows of the neighbours, nearest first, -1 where a list has ended.
    vectors
        By encoder ``(n, d)``, of the same images; d may differ.
    groups
        ``(n,)`` group codes, resampled for intervals.
    seed
        Seed of resamples.

    Returns
    -------
    polars.DataFrame
        `SCHEMA`, each pair once, in the order of `lists`. ``neighbor_overlap``: share of neighbours two lists have in
        common. ``rank_biased_overlap``: the same, weighted towards the first ranks. ``cka``: similarity of the two
        spaces as a whole (linear, unbiased, on vectors of length one), without an interval. `expected` is what two
        encoders that have nothing in common give.

    Raises
    ------
    ValueError
        If lengths differ.

    References
    ----------
    Webber, Moffat & Zobel, ACM TOIS 28 (2010), extrapolated rank-biased overlap; Kornblith et al., ICML (2019), and
    Nguyen, Raghu & Kornblith, ICLR (2021), unbiased CKA.
    """
    require_aligned(len(groups), **{f"list of {name}": each[:, 0] for name, each in lists.items() if each.shape[1]})
    rows: list[dict[str, object]] = []
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sizes = counts[codes]
    for one, other in combinations(lists, 2):
        names = {"encoder": one, "other_encoder": other, "seed": seed}
        shared = overlap_at_depths(lists[one], lists[other])
        n, k = shared.shape
        held = np.minimum((lists[one] >= 0).sum(axis=1), (lists[other] >= 0).sum(axis=1))
        read = np.flatnonzero(held == k)
        # Of the images outside its own group, a list holds k.
        chance = float(np.mean(k / np.maximum(n - sizes[read], 1))) if len(read) else None
        note = f"{n - len(read)} images with shorter lists left out" if len(read) < n else ""
        for metric, values in (
            ("neighbor_overlap", shared[read, -1] / k if k else np.empty(0)),
            ("rank_biased_overlap", rank_biased_overlap(shared[read])),
        ):
            if not len(values):
                rows.append(
                    names | {"metric": metric, "k": k, "n": 0, "note": "undefined: no image lists k neighbours"}
                )
                continue
            low, high = cluster_bootstrap(values, groups[read], seed=seed)
            rows.append(
                names
                | {"metric": metric, "k": k, "value": float(values.mean()), "ci_low": low, "ci_high": high}
                | {"expected": chance if metric == "neighbor_overlap" else None, "n": len(read), "note": note}
            )
        value = linear_cka(vectors[one], vectors[other])
        note = "no interval" if value is not None else "undefined: fewer than four images, or features that do not vary"
        rows.append(names | {"metric": "cka", "value": value, "expected": 0.0, "n": n, "note": note})
    return pl.DataFrame(rows, schema=SCHEMA)


def overlap_at_depths(a: IntArray, b: IntArray) -> IntArray:
    """Count what the first d of two lists have in common, ``(n, k)`` for d = 1 … k; -1 is in no list."""
    n, k = a.shape
    # The depth at which each entry of one list is met in both.
    place = np.where((a[:, :, None] == b[:, None, :]) & (a >= 0)[:, :, None], np.arange(k)[None, None, :], k)
    met = np.maximum(place.min(axis=2, initial=k), np.arange(k))
    counts = np.zeros((n, k + 1), dtype=np.int64)
    np.add.at(counts, (np.arange(n)[:, None], met), 1)
    return np.cumsum(counts[:, :k], axis=1)


def rank_biased_overlap(shared: IntArray) -> npt.NDArray[np.float64]:
    """Extrapolate the rank-biased overlap ``(n,)`` of lists with ``shared[:, d-1]`` of their first d in common."""
    k = shared.shape[1]
    depth = np.arange(1, k + 1)
    agreement = shared / depth
    weights = (1 - PERSISTENCE) / PERSISTENCE * PERSISTENCE**depth
    overlap: npt.NDArray[np.float64] = agreement @ weights + agreement[:, -1] * PERSISTENCE**k
    return overlap


def linear_cka(a: FloatArray, b: FloatArray) -> float | None:
    """Unbiased linear centred kernel alignment of two sets of vectors ``(n, d)``, scaled to length one.

    Without a kernel matrix of n rows: every sum over pairs is one over directions. 1 where one space is the other,
    turned; 0 on average where they are independent. None for fewer than four images, or where a space does not vary.
    """
    x, y = unit_vectors(a).astype(np.float64), unit_vectors(b).astype(np.float64)
    if len(x) < 4:
        return None
    own_x, own_y = _hsic(x, x), _hsic(y, y)
    if own_x <= 1e-12 or own_y <= 1e-12:
        return None
    return _hsic(x, y) / float(np.sqrt(own_x * own_y))


def _hsic(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Unbiased Hilbert-Schmidt independence criterion of linear kernels, Song et al., JMLR 13 (2012), eq. 5."""
    n = len(x)
    # Rows are centred for the sake of rounding; the criterion does not change.
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    own_x, own_y = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
    # Kernels without their diagonal, summed over columns.
    sum_x, sum_y = x @ x.sum(axis=0) - own_x, y @ y.sum(axis=0) - own_y
    trace = float(((x.T @ y) ** 2).sum() - own_x @ own_y)
    apart = float(sum_x.sum() * sum_y.sum()) / ((n - 1) * (n - 2))
    return (trace + apart - 2 / (n - 2) * float(sum_x @ sum_y)) / (n * (n - 3))
