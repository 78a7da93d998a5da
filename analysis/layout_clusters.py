"""Clusters that an eye would see in layouts: at how many settings they recur, and what they go along with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.permutation import permute_codes, upper_p_value
from analysis.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Sequence

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
PERMUTATIONS = 199
# Adjusted mutual information is costly: what is expected of it is the mean over fewer permutations.
EXPECTED_OVER = 10
NONE = -1


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
        Its mean with the attribute permuted over groups, and within the label for a background attribute.
    p_value
        Of that permutation.
    n_clusters, n
        Clusters in the layout; images whose attribute is known.
    note
        Why there is no value.
    """

    value: float | None
    expected: float | None
    p_value: float | None
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


def association(
    clusters: IntArray, attribute: IntArray, groups: IntArray, *, seed: int, within: IntArray | None = None
) -> Association:
    """Measure how far a layout's clusters go along with an attribute, against permutations of it.

    Images in no cluster count as one more cluster: they are not left out, since a layout that tells a few images apart
    would then seem to tell all.

    Parameters
    ----------
    clusters
        ``(n,)`` clusters of a layout, -1 for none.
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
    Association
        Undefined where the layout has no clusters, or the known images all lie in one or share one value.

    References
    ----------
    Vinh, Epps & Bailey, JMLR 11 (2010).
    """
    from sklearn.metrics import adjusted_mutual_info_score

    known = attribute >= 0
    if within is not None:
        known &= within >= 0
    n, n_clusters = int(known.sum()), int(clusters.max()) + 1
    found = np.unique(clusters[known], return_inverse=True)[1]
    codes = np.unique(attribute[known], return_inverse=True)[1]
    reason = ""
    if n_clusters == 0:
        reason = "the layout has no clusters"
    elif n == 0 or found.max() == 0:
        reason = "all images whose value is known lie in one cluster"
    elif codes.max() == 0:
        reason = "all images have one value"
    if reason:
        return Association(None, None, None, n_clusters, n, f"undefined: {reason}")
    strata = None if within is None else within[known]
    permuted = permute_codes(codes, groups[known], seed=seed, within=strata, permutations=PERMUTATIONS)
    shuffled = permuted.codes[permuted.unit].T
    information = _mutual_information(found, np.vstack([codes[None], shuffled]))
    expected = [adjusted_mutual_info_score(row, found) for row in shuffled[:EXPECTED_OVER]]
    return Association(
        value=float(adjusted_mutual_info_score(codes, found)),
        expected=float(np.mean(expected)),
        p_value=upper_p_value(float(information[0]), information[1:]),
        n_clusters=n_clusters,
        n=n,
        note="",
    )


def _mutual_information(clusters: IntArray, codes: IntArray) -> npt.NDArray[np.float64]:
    """Mutual information in nats of a clustering with each row of `codes`, ``(rows,)``."""
    n_clusters, n_codes = int(clusters.max()) + 1, int(codes.max()) + 1
    cells = n_clusters * n_codes
    counts = np.stack([np.bincount(clusters * n_codes + row, minlength=cells) for row in codes])
    joint = counts.reshape(-1, n_clusters, n_codes) / len(clusters)
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    ratio = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
    information: npt.NDArray[np.float64] = (joint * np.log(ratio)).sum(axis=(1, 2))
    return information


def shows(associations: Sequence[Association]) -> tuple[list[float | None], list[bool]]:
    """Adjust p-values over the layouts of a grid, and say which of them show the attribute.

    Returns
    -------
    p_adjusted, shown
        Per association, by Benjamini and Hochberg; and whether that is below 0.05 and the value at least 0.1 above
        the expected one, as with many images the least association is significant.
    """
    defined = [i for i, found in enumerate(associations) if found.p_value is not None]
    adjusted: list[float | None] = [None] * len(associations)
    for i, p in zip(
        defined, benjamini_hochberg(np.array([associations[i].p_value for i in defined], dtype=np.float64)), strict=True
    ):
        adjusted[i] = float(p)
    shown = [
        p is not None
        and found.value is not None
        and found.expected is not None
        and p < ALPHA
        and found.value - found.expected >= MIN_EXCESS
        for p, found in zip(adjusted, associations, strict=True)
    ]
    return adjusted, shown
