"""How far apart the classes lie, as the study of BiomedCLIP on IU X-ray measures it, and backgrounds likewise.

What that study leaves open is chosen so: `intra` is averaged over classes, not images; `ratio` is inter over intra;
`fisher` is the trace of the scatter between classes over that within them.

Source: Sadman, Zulkernine & Kwan, arXiv:2506.14136.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import encode
from analysis.bootstrap import cluster_bootstrap
from analysis.jackknife import jackknife

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.arrays import BoolArray, Categorical, FloatArray, IntArray

SCHEMA = {
    "target": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int64,
    "seed": pl.Int64,
    "note": pl.String,
}
METRICS = ("intra", "inter", "ratio", "davies_bouldin", "fisher")
# A mean cosine distance below this is the last digits of a cosine of 1.
_ROUNDING = 1e-12


def separability(vectors: FloatArray, values: Categorical, groups: IntArray, *, target: str, seed: int) -> pl.DataFrame:
    """Measure how far apart the classes of the label, or the values of a background attribute, lie.

    Parameters
    ----------
    vectors
        ``(n, d)``, unnormalised.
    values
        ``(n,)`` classes; None (unknown) leaves the image out, and so does being the only image of its class.
    groups
        ``(n,)`` group codes, left out block by block for the intervals.
    target
        What the values are.
    seed
        Seed of blocks and resamples.

    Returns
    -------
    polars.DataFrame
        Columns of `SCHEMA`: ``intra`` (mean Euclidean distance to the class's centroid), ``inter`` (mean distance
        between centroids), ``ratio``, ``davies_bouldin``, ``fisher``, and ``silhouette`` by cosine.

    References
    ----------
    `sklearn.metrics.davies_bouldin_score`, `sklearn.metrics.silhouette_score`.
    """
    categories = encode(values, what=target)
    counts = np.bincount(categories.codes[categories.known], minlength=len(categories.names))
    member = categories.known & (counts[categories.codes] > 1)
    _, codes = np.unique(categories.codes[member], return_inverse=True)
    n = int(member.sum())
    if not n or int(codes.max()) < 1:
        reason = "undefined: fewer than two classes have two images or more"
        undefined = [(target, metric, None, None, None, n, seed, reason) for metric in (*METRICS, "silhouette")]
        return pl.DataFrame(undefined, schema=SCHEMA, orient="row")
    kept = np.asarray(vectors[member], dtype=np.float64)
    found = _Spread(kept, codes)
    everything = np.ones(n, dtype=np.bool_)
    rows: list[tuple[object, ...]] = []
    for place, metric in enumerate(METRICS):
        interval = jackknife(found.measure(place), groups[member], seed=seed, within=(0.0, np.inf))
        value = float(found.of(everything)[place])
        reason = "two classes have one centre" if metric == "davies_bouldin" else "classes without any spread"
        note = None if np.isfinite(value) else f"undefined: {reason}"
        shown = (value, *interval) if note is None else (None, None, None)
        rows.append((target, metric, *shown, n, seed, note))
    widths = silhouettes(kept, codes)
    interval = cluster_bootstrap(widths, groups[member], seed=seed)
    rows.append((target, "silhouette", float(widths.mean()), *interval, n, seed, None))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


class _Spread:
    """The measures among the images kept, each selection computed once for all of them."""

    def __init__(self, vectors: FloatArray, codes: IntArray) -> None:
        self.vectors = vectors
        self.codes = codes
        self.known: dict[bytes, FloatArray] = {}

    def of(self, keep: BoolArray) -> FloatArray:
        """Return `METRICS` ``(5,)``."""
        key = keep.tobytes()
        if key not in self.known:
            self.known[key] = spread(self.vectors[keep], self.codes[keep])
        return self.known[key]

    def measure(self, place: int) -> Callable[[BoolArray], float]:
        """Return one of `METRICS` as a function of the images kept."""
        return lambda keep: float(self.of(keep)[place])


def spread(vectors: FloatArray, codes: IntArray) -> FloatArray:
    """Return `METRICS` ``(5,)`` of vectors ``(n, d)`` in classes ``(n,)``; NaN where undefined."""
    _, codes = np.unique(codes, return_inverse=True)
    counts = np.bincount(codes)
    if len(counts) < 2:
        return np.full(len(METRICS), np.nan)
    centroids = _class_sums(vectors, codes) / counts[:, None]
    squared = np.square(vectors - centroids[codes]).sum(axis=1)
    within = np.bincount(codes, np.sqrt(squared)) / counts
    apart = np.sqrt(np.square(centroids[:, None] - centroids[None]).sum(axis=-1))
    upper = np.triu_indices(len(counts), 1)
    intra, inter = float(within.mean()), float(apart[upper].mean())
    between = float((counts * np.square(centroids - vectors.mean(axis=0)).sum(axis=1)).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = (within[:, None] + within[None]) / apart
        np.fill_diagonal(pairs, -np.inf)
        measures = np.array(
            [intra, inter, np.float64(inter) / intra, pairs.max(axis=1).mean(), between / squared.sum()]
        )
    return np.where(np.isfinite(measures), measures, np.nan)


def silhouettes(vectors: FloatArray, codes: IntArray) -> FloatArray:
    """Silhouette ``(n,)`` of each vector ``(n, d)`` in its class ``(n,)``, by cosine; every class has two or more.

    A cosine is linear in its second vector once lengths are one, so the mean distance to a class follows from the sum
    of its vectors: all pairs count, and none is computed.

    References
    ----------
    `sklearn.metrics.silhouette_samples` with ``metric="cosine"``.
    """
    counts = np.bincount(codes)
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    totals = counts - directions @ _class_sums(directions, codes).T
    rows = np.arange(len(codes))
    totals[totals < _ROUNDING * counts] = 0
    # The distance to itself is 0 in its own class's total.
    own = totals[rows, codes] / (counts[codes] - 1)
    others = totals / counts
    others[rows, codes] = np.inf
    nearest = others.min(axis=1)
    widest = np.maximum(own, nearest)
    widths: FloatArray = np.divide(nearest - own, widest, out=np.zeros(len(codes)), where=widest > 0)
    return widths


def _class_sums(vectors: FloatArray, codes: IntArray) -> FloatArray:
    """Sum of the vectors ``(n, d)`` of each class, ``(classes, d)``."""
    from scipy.sparse import csr_matrix

    rows = np.arange(len(codes))
    sums: FloatArray = csr_matrix((np.ones(len(codes)), (codes, rows))) @ vectors
    return sums
