"""The neighbours that show best what an encoder follows: near, of one background, and of different labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import encode

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, Categorical, IntArray
    from analysis.neighbors import Neighbors

SCHEMA = {
    "value": pl.String,
    "image": pl.Int64,
    "neighbor": pl.Int64,
    "label": pl.String,
    "neighbor_label": pl.String,
    "distance": pl.Float64,
    "match_distance": pl.Float64,
    "score": pl.Float64,
}
PAIRS = 50


def telling_pairs(
    neighbors: Neighbors, labels: Categorical, background: Categorical, *, limit: int = PAIRS
) -> pl.DataFrame:
    """Rank the pairs that share a background and not the label, most telling first.

    Of every image the nearest listed neighbour with its background and another label is taken, and set against the
    nearest with its label (where the list holds none, against the list's end): only where the first is nearer is the
    image misled. The score is the margin between the two distances over their sum, times the share of images that have
    another background: to share what most images have tells nothing. Each pair counts once.

    Parameters
    ----------
    neighbors
        ``(n, K)``; self and own group left out.
    labels, background
        ``(n,)`` strings (None is unknown) or codes (negative is unknown); unknown images are in no pair.
    limit
        Pairs at most.

    Returns
    -------
    polars.DataFrame
        `SCHEMA`; `image` and `neighbor` are rows, `match_distance` is null where no image of the label is listed.
    """
    y, c = encode(labels, what="labels"), encode(background, what="background")
    listed = neighbors.indices
    known = y.known & c.known
    valid = (listed >= 0) & known[listed] & known[:, None]
    same_label, same_background = (codes[listed] == codes[:, None] for codes in (y.codes, c.codes))
    distances = neighbors.distances.astype(np.float64)
    nearest, d_os = _first(valid & ~same_label & same_background, listed, distances)
    _, d_label = _first(valid & same_label, listed, distances)
    end = np.where(np.isfinite(distances), distances, 0).max(axis=1, initial=0)
    rival = np.where(np.isfinite(d_label), d_label, end)
    rows = np.flatnonzero((nearest >= 0) & (d_os < rival))
    share = np.bincount(c.codes[known], minlength=len(c.names)) / max(1, int(known.sum()))
    score = (rival - d_os)[rows] / (rival + d_os)[rows] * (1 - share[c.codes[rows]])
    pairs = pl.DataFrame(
        {
            "value": [c.names[code] for code in c.codes[rows]],
            "image": rows,
            "neighbor": nearest[rows],
            "label": [y.names[code] for code in y.codes[rows]],
            "neighbor_label": [y.names[code] for code in y.codes[nearest[rows]]],
            "distance": d_os[rows],
            "match_distance": [float(d) if np.isfinite(d) else None for d in d_label[rows]],
            "score": score,
        },
        schema=SCHEMA,
    ).sort(["score", "image"], descending=[True, False])
    both = pl.struct(pl.min_horizontal("image", "neighbor"), pl.max_horizontal("image", "neighbor").alias("other"))
    return pairs.filter(both.is_first_distinct()).head(limit)


def _first(
    of_type: BoolArray, listed: IntArray, distances: npt.NDArray[np.float64]
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Row and distance of the first neighbour of a type in every list; -1 and inf where there is none."""
    if not listed.shape[1]:
        return np.full(len(listed), -1), np.full(len(listed), np.inf)
    place = of_type.argmax(axis=1)
    image = np.arange(len(listed))
    there = of_type[image, place]
    return np.where(there, listed[image, place], -1), np.where(there, distances[image, place], np.inf)
