"""Clusters that an eye would see in layouts: at how many settings they recur, and what they go along with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.permutation import PermutedCodes, permute_codes, upper_p_value
from analysis.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from analysis.arrays import BoolArray, FloatArray, IntArray

# A cluster smaller than a hundredth of the images is not what one sees in a layout.
MIN_SHARE, MIN_SIZE = 0.01, 10
DENSITY_NEIGHBORS = 10
# Hennig's bounds on the overlap of two clusters: from here on they are the same one.
SAME_CLUSTER = 0.75
# What a layout must show of an attribute beyond what is expected, to be counted as showing it.
MIN_EXCESS = 0.1
ALPHA = 0.05
# Of fewer, even the smallest p-value would not survive adjustment over a dozen attributes.
PERMUTATIONS = 1_999
NONE = -1
# Images times permutations counted at once.
_CHUNK_ELEMENTS = 2**23
# What is smaller is a rounding error.
_NOTHING = 1e-9


@dataclass(frozen=True)
class RecurringCluster:
    """A cluster as several layouts show it.

    Attributes
    ----------
    members
        ``(n,)`` mask of the images that lie in it in most layouts that show it.
    shown_by
        Layouts that show it, by place.
    layouts_of_image
        ``(n,)`` in how many of those an image lies in it.
    coassignment
        Share of the pairs of members that are in one cluster, averaged over all layouts.
    """

    members: BoolArray
    shown_by: tuple[int, ...]
    layouts_of_image: IntArray
    coassignment: float


@dataclass(frozen=True)
class Association:
    """How far the clusters of one layout go along with an attribute.

    Attributes
    ----------
    value
        Adjusted mutual information, 0 by chance and 1 where they are the same; None where undefined, as `note` says.
    expected
        Its mean with the attribute permuted over groups, and within the label for a background attribute; None where
        there is no permuting.
    p_value
        Of that permutation; None where too few arrangements are possible, as `note` says.
    p_over_layouts
        The same, adjusted for the attribute being looked for in every layout.
    n_clusters, n
        Clusters in the layout; images whose attribute is known.
    note
        Why there is no value, or no test of it.
    """

    value: float | None
    expected: float | None
    p_value: float | None
    p_over_layouts: float | None
    n_clusters: int
    n: int
    note: str


def find_clusters(coordinates: FloatArray) -> IntArray:
    """Find the clusters of a layout by density, ``(n,)`` numbers from 0, and -1 for images in none.

    HDBSCAN of Campello et al. (2015) as scikit-learn has it; a cluster holds a hundredth of the images or more, and at
    least 10.

    Parameters
    ----------
    coordinates
        ``(n, 2)`` layout.
    """
    from sklearn.cluster import HDBSCAN

    size = max(MIN_SIZE, round(MIN_SHARE * len(coordinates)))
    if len(coordinates) < 2 * size:
        return np.full(len(coordinates), NONE)
    found: IntArray = HDBSCAN(size, DENSITY_NEIGHBORS, copy=True).fit_predict(coordinates).astype(np.int64)
    return np.where(found < 0, NONE, found)


def recurring_clusters(assignments: Sequence[IntArray]) -> list[RecurringCluster]:
    """Tell which clusters of different layouts are the same, the one that most layouts show first.

    Two clusters are the same where the images in both are at least three quarters of the images in either (Jaccard).
    The cluster shown most often is taken with all that are the same, then the next of those left.

    Parameters
    ----------
    assignments
        ``(n,)`` clusters of each layout, -1 for none.

    References
    ----------
    Hennig, Computational Statistics & Data Analysis 52 (2007), for the overlap and its bound.
    """
    from scipy.sparse import csr_matrix

    owners = [(layout, cluster) for layout, found in enumerate(assignments) for cluster in np.unique(found[found >= 0])]
    if not owners:
        return []
    masks = np.stack([assignments[layout] == cluster for layout, cluster in owners])
    layout_of = np.array([layout for layout, _ in owners])
    sparse = csr_matrix(masks, dtype=np.int32)
    shared = (sparse @ sparse.T).toarray()
    sizes = masks.sum(axis=1)
    overlap = shared / (sizes[:, None] + sizes[None, :] - shared)
    same = overlap >= SAME_CLUSTER
    left = np.ones(len(owners), dtype=bool)
    recurring = []
    while left.any():
        shown = (same & left).sum(axis=1)
        chosen = max(np.flatnonzero(left), key=lambda i: (shown[i], (overlap[i] * (same[i] & left)).sum(), -i))
        taken = same[chosen] & left
        left &= ~taken
        of_image = masks[taken].sum(axis=0)
        members = 2 * of_image > taken.sum()
        coassignment = float(np.mean([_pairs_together(found[members]) for found in assignments]))
        shown_by = tuple(int(layout) for layout in layout_of[taken])
        recurring.append(RecurringCluster(members, shown_by, of_image, coassignment))
    return recurring


def _pairs_together(found: IntArray) -> float:
    n = len(found)
    sizes = np.bincount(found[found >= 0]).astype(np.float64)
    return float((sizes * (sizes - 1)).sum() / (n * (n - 1)))


def associations(
    assignments: Sequence[IntArray],
    attribute: IntArray,
    groups: IntArray,
    *,
    seed: int,
    within: IntArray | None = None,
) -> list[Association]:
    """Measure how far the clusters of each layout go along with an attribute, against permutations of it.

    Images in no cluster count as one more cluster: they are not left out, since a layout that tells a few images apart
    would then seem to tell all.

    All layouts are held against the same permutations. The p-value over layouts is that of the largest value in any of
    them, each less its mean and over its standard deviation (max-T): layouts of the same vectors show much the same, so
    that it costs less than as many tests apart would.

    Parameters
    ----------
    assignments
        ``(n,)`` clusters of each layout, -1 for none.
    attribute
        ``(n,)`` codes, -1 where unknown.
    groups
        ``(n,)`` group codes; images of one group that share the attribute are permuted together.
    seed
        Seed of the permutations.
    within
        ``(n,)`` codes of strata within which the attribute is permuted, -1 where unknown.

    Returns
    -------
    list of Association
        Of each layout. Undefined where it has no clusters, or the known images all lie in one or share one value.

    References
    ----------
    Vinh, Epps & Bailey, JMLR 11 (2010); Westfall & Young, Resampling-Based Multiple Testing (1993), for max-T.
    """
    known = attribute >= 0
    if within is not None:
        known &= within >= 0
    n = int(known.sum())
    counts = [int(clusters.max(initial=NONE)) + 1 for clusters in assignments]
    found = [np.unique(clusters[known], return_inverse=True)[1] for clusters in assignments]
    codes = np.unique(attribute[known], return_inverse=True)[1]
    reasons = [_undefined(clusters, known, attribute, given=within is not None) for clusters in assignments]
    defined = [i for i, reason in enumerate(reasons) if not reason]
    results = [
        Association(None, None, None, None, count, n, f"undefined: {reason}")
        for count, reason in zip(counts, reasons, strict=True)
    ]
    if not defined:
        return results
    strata = None if within is None else within[known]
    permuted = permute_codes(codes, groups[known], seed=seed, within=strata, permutations=PERMUTATIONS)
    values = _adjusted_mutual_information([found[i] for i in defined], codes, permuted)
    spread = values.std(axis=1, keepdims=True)
    centred = values - values.mean(axis=1, keepdims=True)
    deviations = np.divide(centred, spread, out=np.zeros_like(values), where=spread > _NOTHING)
    largest = deviations[:, 1:].max(axis=0)
    for i, value, deviation in zip(defined, values, deviations, strict=True):
        results[i] = Association(
            value=float(value[0]),
            expected=float(value[1:].mean()) if permuted.varies else None,
            p_value=upper_p_value(float(value[0]), value[1:]) if permuted.testable else None,
            p_over_layouts=upper_p_value(float(deviation[0]), largest) if permuted.testable else None,
            n_clusters=counts[i],
            n=n,
            note="" if permuted.testable else permuted.describe(),
        )
    return results


def _undefined(clusters: IntArray, known: BoolArray, attribute: IntArray, *, given: bool) -> str:
    """Say why a layout has no association with an attribute; nothing where it has one."""
    if not known.any():
        return "of no image are the value and the label known" if given else "of no image is the value known"
    if clusters.max() < 0:
        return "the layout has no clusters"
    if np.ptp(clusters[known]) == 0:
        return "all images whose value is known lie in one cluster"
    if np.ptp(attribute[known]) == 0:
        return "all images have one value"
    return ""


def _adjusted_mutual_information(
    clusterings: Sequence[IntArray], codes: IntArray, permuted: PermutedCodes
) -> npt.NDArray[np.float64]:
    """Return the adjusted mutual information of each clustering with a column, then with its permutations.

    What chance gives to mutual information is reckoned once: as only groups of one size exchange codes, it is the same
    for all permutations.

    Parameters
    ----------
    clusterings
        ``(n,)`` codes without gaps, at least two.
    codes
        ``(n,)`` the column, likewise.
    permuted
        The same, permuted.

    Returns
    -------
    ndarray
        ``(clusterings, 1 + permutations)``.
    """
    from scipy.sparse import csr_matrix
    from scipy.special import xlogy
    from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

    n, units = len(codes), len(permuted.codes)
    sizes = [int(clusters.max()) + 1 for clusters in clusterings]
    starts = np.cumsum([0, *sizes[:-1]])
    # Images of every cluster of every layout, by unit; those of one add up.
    rows = np.concatenate([start + clusters for start, clusters in zip(starts, clusterings, strict=True)])
    images = np.ones(len(rows), dtype=np.float32)
    of_unit = csr_matrix((images, (rows, np.tile(permuted.unit, len(clusterings)))), shape=(sum(sizes), units))
    own = np.zeros(units, dtype=permuted.codes.dtype)
    own[permuted.unit] = codes
    columns = np.hstack([own[:, None], permuted.codes])
    # With m images in both of N, a in one and b in the other: N times information is the sum of m log m, less that of
    # a log a and of b log b, and N log N.
    joint = np.zeros((len(clusterings), columns.shape[1]))
    marginal = np.zeros(columns.shape[1])
    step = max(1, _CHUNK_ELEMENTS // units)
    for first in range(0, columns.shape[1], step):
        part = slice(first, first + step)
        for code in range(int(codes.max()) + 1):
            counts = (of_unit @ (columns[:, part] == code).astype(np.float32)).astype(np.float64)
            joint[:, part] += np.add.reduceat(xlogy(counts, counts), starts)
            in_all = counts[: sizes[0]].sum(axis=0)
            marginal[part] += xlogy(in_all, in_all)
    held = [np.bincount(clusters).astype(np.float64) for clusters in clusterings]
    of_clusters = np.array([xlogy(sizes, sizes).sum() for sizes in held])[:, None]
    information = (joint - of_clusters - marginal) / n + np.log(n)
    entropy = np.log(n) - (of_clusters + marginal) / (2 * n)
    chance = [
        expected_mutual_information(contingency_matrix(codes, clusters, sparse=True), n) for clusters in clusterings
    ]
    by_chance = np.array(chance)[:, None]
    # As scikit-learn does: where chance gives all there is, the quotient is of two rounding errors.
    return _away_from_zero(information - by_chance) / _away_from_zero(entropy - by_chance)


def _away_from_zero(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(values < 0, np.minimum(values, -_NOTHING), np.maximum(values, _NOTHING))


def shows(found: Mapping[str, Sequence[Association]]) -> dict[str, list[tuple[float | None, bool]]]:
    """Adjust p-values over layouts and attributes, and say which layouts show which attribute.

    An attribute's smallest p-value over its layouts is adjusted over attributes (Benjamini and Hochberg); its others
    grow by the same factor. So of the attributes that some layout is said to show a twentieth or less are expected to
    be wrong, however many layouts there are.

    Parameters
    ----------
    found
        By attribute, the association with each layout.

    Returns
    -------
    dict
        By attribute and layout the adjusted p-value, None where undefined; and whether that is below 0.05 and the
        value at least 0.1 above the expected one, as with many images the least association is significant.

    References
    ----------
    Benjamini & Bogomolov, JRSS B 76 (2014), for families of which some are selected.
    """
    smallest = {
        name: min(p_values)
        for name, results in found.items()
        if (p_values := [result.p_over_layouts for result in results if result.p_over_layouts is not None])
    }
    rates = benjamini_hochberg(np.array(list(smallest.values()), dtype=np.float64))
    factors = {name: rate / p for (name, p), rate in zip(smallest.items(), rates, strict=True)}
    return {name: [_shown(result, factors.get(name, 1.0)) for result in results] for name, results in found.items()}


def _shown(found: Association, factor: float) -> tuple[float | None, bool]:
    if found.p_over_layouts is None or found.value is None or found.expected is None:
        return None, False
    adjusted = min(1.0, float(found.p_over_layouts * factor))
    return adjusted, adjusted < ALPHA and found.value - found.expected >= MIN_EXCESS
