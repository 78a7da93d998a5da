"""Balanced robustness index: as the robustness index, every combination of label and background counting alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import pair_bootstrap
from analysis.permutation import EXPECTATION, permute_codes
from analysis.results import Audit, AuditResult
from analysis.statistics import contingency
from analysis.typed_neighbors import type_neighbors

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors
    from analysis.typed_neighbors import TypedNeighbors

METRIC = "robustness_index_balanced"


def balanced_robustness_index(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Robustness index of the design as it would be with as many images in every combination.

    ``Σ_SO w / (Σ_SO w + Σ_OS w)`` with ``w = 1 / (n_i n_j)``, n the images of the combination of label and background
    that the image and its neighbour are of. Where label and background go together, images that share both are many and
    those that tell the two apart are few: the plain index then says as much of the design as of the encoder. Here every
    label has every background equally often, on both sides of a pair. Combinations that do not occur stay empty.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, resampled for the interval and permuted as blocks.
    k
        Largest neighbourhood, as `type_neighbors` chooses among.
    seed
        Seed of resamples and permutations.

    Returns
    -------
    list of AuditResult
        ``robustness_index_balanced`` in [0, 1], the robustness index where all combinations are of one size; `expected`
        is its mean over permutations of the background within label. There is no p-value: the robustness index is
        tested, and this would test the same again. The note gives how many images of equal weight say as much (Kish).

    Raises
    ------
    ValueError
        If ``k > K``.

    References
    ----------
    PathoROB, arXiv:2507.17845, eq. 1, weighted by inverse frequency; Kish, Survey Sampling (1965), section 11.7.
    """
    typed = type_neighbors(neighbors, labels, confounder, k=k, metric=METRIC)
    if isinstance(typed, AuditResult):
        return [typed]
    pairs = typed.so | typed.os
    queries, _ = np.nonzero(pairs)
    found = typed.neighbors.indices[pairs]
    of_image = _weights(labels, confounder)
    weights = of_image[queries] * of_image[found]
    so = np.where(typed.so[pairs], weights, 0.0)
    low, high = pair_bootstrap(so, weights, groups[queries], groups[found], seed=seed)
    permuted = permute_codes(confounder, groups, seed=seed, within=labels)
    chance = np.array([_index(typed, labels, codes) for codes in permuted.first(EXPECTATION)])
    defined = chance[np.isfinite(chance)]
    alike = of_image.sum() ** 2 / np.sum(of_image**2)
    return [
        AuditResult(
            METRIC,
            float(so.sum() / weights.sum()),
            low,
            high,
            None,
            int(typed.informative.sum()),
            f"{typed.describe()}; weighted as {alike:.0f} of {len(labels)} images",
            expected=float(defined.mean()) if permuted.varies and len(defined) else None,
            k=typed.k,
        )
    ]


def _weights(labels: IntArray, confounder: IntArray) -> npt.NDArray[np.float64]:
    """One over the size of every image's combination, ``(n,)``; one in the mean."""
    weights = 1 / contingency(labels, confounder)[labels, confounder]
    scaled: npt.NDArray[np.float64] = weights / weights.mean()
    return scaled


def _index(typed: TypedNeighbors, labels: IntArray, confounder: IntArray) -> float:
    """Return the index with another background; NaN where no neighbour is informative."""
    weights, listed = _weights(labels, confounder), typed.neighbors.indices
    same = confounder[listed] == confounder[:, None]
    both = weights[:, None] * weights[listed]
    so, os = (both[typed.same_label & ~same].sum(), both[typed.other_label & same].sum())
    return float(so / (so + os)) if so + os > 0 else float("nan")


AUDIT = Audit("robustness_balanced", balanced_robustness_index, compares=True)
