"""Copies and near-duplicates among the images of one data set, and the groups they make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from analysis.neighbors import cosine_neighbors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

# Descriptors further apart than this are of two pictures, however alike the rest of the data set is not.
MAX_DISTANCE = 0.05
# How far below the ordinary a distance must be, in robust standard deviations of its logarithm.
DEVIATIONS = 3.0
# Descriptors nearer than this are of one picture, however many of the data set's images have such a one.
MIN_DISTANCE = 0.001
# Where the next neighbour is so many times further than one, all up to that one are singled out, and not ordinary.
JUMP = 4.0
# Over fewer images the ordinary cannot be told.
MIN_IMAGES = 20
# Neighbours looked at per image; larger groups hang together through their members.
_NEIGHBORS = 20
# What a person says of the group of an image that has no duplicate.
ALONE = "none"


@dataclass(frozen=True)
class Duplicates:
    """Pairs of images that show the same, and the groups they make.

    Attributes
    ----------
    first, second
        ``(p,)`` rows of each pair, ``first < second``.
    distance
        ``(p,)`` cosine distance of their descriptors; 0 for copies of one content.
    kind
        ``(p,)``: ``exact`` for copies of one content, ``near``, or ``corrected`` where a person says so; the distance
        of the last is NaN.
    groups
        ``(n,)`` codes; an image without a duplicate is a group of its own.
    threshold
        The distance up to which two images are near-duplicates, calibrated on this data set.
    uncalibrated
        Why it could not be calibrated, where it could not.
    """

    first: IntArray
    second: IntArray
    distance: npt.NDArray[np.float32]
    kind: npt.NDArray[np.str_]
    groups: IntArray
    threshold: float
    uncalibrated: str | None = None

    @property
    def exact(self) -> npt.NDArray[np.bool_]:
        """Whether the two of each pair are copies of one content, ``(p,)``."""
        return np.asarray(self.kind == "exact")


def find_duplicates(descriptors: FloatArray, content: Sequence[str]) -> Duplicates:
    """Find copies by their content, and near-duplicates by how near their descriptors are.

    The threshold is the least of `MAX_DISTANCE` and of what is `DEVIATIONS` robust standard deviations (of the
    logarithm) below the median `ordinary` distance of an image: in a data set of look-alikes, such as fundus
    photographs, only what is far more alike than usual is a duplicate. It is `MIN_DISTANCE` at least.

    Parameters
    ----------
    descriptors
        ``(n, d)``; an all-zero row has no near-duplicates.
    content
        ``(n,)`` content hashes.

    Raises
    ------
    ValueError
        If lengths differ.
    """
    if len(content) != len(descriptors):
        raise ValueError(f"{len(content)} content hashes for {len(descriptors)} descriptors")
    codes = np.unique(np.asarray(content, dtype=str), return_inverse=True)[1].astype(np.int64)
    first_of: dict[int, int] = {}
    heads = np.array([first_of.setdefault(int(code), i) for i, code in enumerate(codes)], dtype=np.int64)
    copies = np.flatnonzero(heads != np.arange(len(codes)))
    # Of each content one image stands for all.
    kept = np.flatnonzero((heads == np.arange(len(codes))) & descriptors.any(axis=1))
    threshold, uncalibrated = MAX_DISTANCE, _too_few(len(kept))
    pairs = np.empty((0, 2), dtype=np.int64)
    distance = np.empty(0, dtype=np.float32)
    if len(kept) > 1:
        neighbors = cosine_neighbors(descriptors[kept], _NEIGHBORS)
        threshold = calibrate(ordinary(neighbors.distances))
        if threshold <= MIN_DISTANCE:
            uncalibrated = "most images are as near to many others as duplicates are"
        row, rank = np.nonzero(neighbors.distances <= threshold)
        both = np.sort(np.stack([kept[row], kept[neighbors.indices[row, rank]]], axis=1), axis=1)
        pairs, position = np.unique(both, axis=0, return_index=True)
        distance = neighbors.distances[row, rank][position]
    first = np.concatenate([heads[copies], pairs[:, 0]])
    second = np.concatenate([copies, pairs[:, 1]])
    kind = np.array(["exact"] * len(copies) + ["near"] * len(pairs), dtype="<U9")
    distances = np.concatenate([np.zeros(len(copies), np.float32), distance])
    return Duplicates(first, second, distances, kind, _components(len(codes), first, second), threshold, uncalibrated)


def corrected(found: Duplicates, ids: Sequence[str], said: Mapping[str, str]) -> Duplicates:
    """Return the duplicates with groups as a person says they are.

    Parameters
    ----------
    found
        What was found.
    ids
        ``(n,)`` image ids in ascending order; the least of a group is its name.
    said
        The group of some images by id: the name of one that was found, a new name that images share, or `ALONE`. Pairs
        of such an image with one outside its group are dropped, so that what hung together through it alone does not.
    """
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    stated = {row_of[image_id]: name for image_id, name in said.items() if image_id in row_of}
    found = _led_by_others(found, set(stated))
    members: dict[str, list[int]] = {}
    for row, name in sorted(stated.items()):
        if name != ALONE:
            members.setdefault(name, []).append(row)
    for name, rows in members.items():
        # The group that was found under this name, as far as nothing else is said of its images.
        group = np.flatnonzero(found.groups == found.groups[row_of[name]]) if name in row_of else np.empty(0, np.int64)
        if len(group) and group[0] == row_of[name]:
            rows[:0] = [int(row) for row in group if int(row) not in stated]
    together = {row: name for name, rows in members.items() for row in rows}
    kept = np.array(
        [
            not ({one, other} & stated.keys())
            or (together.get(one) is not None and together[one] == together.get(other))
            for one, other in zip(found.first.tolist(), found.second.tolist(), strict=True)
        ],
        dtype=bool,
    )
    known = set(zip(found.first[kept].tolist(), found.second[kept].tolist(), strict=True))
    chains = {tuple(sorted(pair)) for rows in members.values() for pair in pairwise(rows)}
    added = np.array(sorted(chains - known), dtype=np.int64).reshape(-1, 2)
    first, second = (np.concatenate([ends[kept], added[:, i]]) for i, ends in enumerate((found.first, found.second)))
    return replace(
        found,
        first=first,
        second=second,
        distance=np.concatenate([found.distance[kept], np.full(len(added), np.nan, np.float32)]),
        kind=np.concatenate([found.kind[kept], np.full(len(added), "corrected")]),
        groups=_components(len(ids), first, second),
    )


def _led_by_others(found: Duplicates, stated: set[int]) -> Duplicates:
    """Add the pairs of contents whose first image is one of `stated`, led by their first copy that is not.

    One image stands for its content in all pairs: were it taken out alone, its copies would fall apart.
    """
    leader: dict[int, int] = {}
    for first, second in zip(found.first[found.exact].tolist(), found.second[found.exact].tolist(), strict=True):
        if first in stated and second not in stated:
            leader.setdefault(first, second)
    led = [np.array([leader.get(row, row) for row in ends.tolist()], np.int64) for ends in (found.first, found.second)]
    ends = np.sort(np.stack(led, axis=1), axis=1)
    moved = (led[0] != found.first) | (led[1] != found.second)
    added = moved & (ends[:, 0] != ends[:, 1]) & ~np.isin(ends, sorted(stated)).any(axis=1)
    return replace(
        found,
        first=np.concatenate([found.first, ends[added, 0]]),
        second=np.concatenate([found.second, ends[added, 1]]),
        distance=np.concatenate([found.distance, found.distance[added]]),
        kind=np.concatenate([found.kind, found.kind[added]]),
    )


def ordinary(distances: FloatArray) -> FloatArray:
    """Return each image's distance ``(n,)`` to its nearest neighbour that is not singled out as a duplicate would be.

    Parameters
    ----------
    distances
        ``(n, k)``, to the neighbours of other content, ascending. Those before the greatest jump are singled out, if
        it is at least `JUMP`-fold; so a data set of nothing but pairs has ordinary distances too.
    """
    reached = np.maximum(distances.astype(np.float64), 1e-6)
    if reached.shape[1] < 2:
        return reached[:, 0]
    jumps = reached[:, 1:] / reached[:, :-1]
    greatest = jumps.argmax(axis=1)
    rows = np.arange(len(reached))
    return np.where(jumps[rows, greatest] >= JUMP, reached[rows, greatest + 1], reached[:, 0])


def calibrate(nearest: FloatArray) -> float:
    """Return the threshold for the `ordinary` distances ``(n,)`` of images."""
    if len(nearest) < MIN_IMAGES:
        return MAX_DISTANCE
    logarithm = np.log(np.maximum(nearest, 1e-6))
    median = np.median(logarithm)
    deviation = 1.4826 * np.median(np.abs(logarithm - median))
    return float(np.clip(np.exp(median - DEVIATIONS * deviation), MIN_DISTANCE, MAX_DISTANCE))


def _too_few(n: int) -> str | None:
    return f"{n} images, fewer than {MIN_IMAGES}" if n < MIN_IMAGES else None


def _components(n: int, first: IntArray, second: IntArray) -> IntArray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    codes: IntArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return codes
