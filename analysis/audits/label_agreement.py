"""Label agreement: whether neighbours show the same finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.agreement import agreement_by_k, neighbor_agreement
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors


def label_agreement(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Share of neighbours with the image's label, against labels permuted over all images.

    ``mean_i |{j in N_k(i): y_j = y_i}| / |N_k(i)|``

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels
        ``(n,)`` codes.
    confounder
        ``(n,)``; not read.
    groups
        ``(n,)`` group codes, resampled and permuted as blocks.
    k
        Neighbours read per image.
    seed
        Seed of resamples and permutations.

    Returns
    -------
    list of AuditResult
        ``label_agreement``; p is small where labels cluster. ``label_agreement_by_k``, untested, at other sizes.

    Raises
    ------
    ValueError
        If ``k > K``.
    """
    return [
        neighbor_agreement(neighbors, labels, groups, metric="label_agreement", k=k, seed=seed),
        *agreement_by_k(neighbors, labels, groups, metric="label_agreement_by_k", k=k, seed=seed),
    ]


AUDIT = Audit("label_agreement", label_agreement, reads_confounder=False)
