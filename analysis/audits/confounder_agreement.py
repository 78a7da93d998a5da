"""Confounder agreement: whether neighbours share the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.agreement import agreement_by_k, neighbor_agreement
from analysis.results import Audit, AuditResult

if TYPE_CHECKING:
    from analysis.arrays import IntArray
    from analysis.neighbors import Neighbors


def confounder_agreement(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int
) -> list[AuditResult]:
    """Share of neighbours with the image's background, against the background permuted within label.

    ``mean_i |{j in N_k(i): c_j = c_i}| / |N_k(i)|``. Permuting within label keeps what the background
    owes to its association with the label: only agreement beyond that counts against the encoder.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``; self and own group left out.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, resampled and permuted as blocks.
    k
        Neighbours read per image.
    seed
        Seed of resamples and permutations.

    Returns
    -------
    list of AuditResult
        ``confounder_agreement``; p is small where the background clusters. ``confounder_agreement_by_k``, untested, at
        other sizes.

    Raises
    ------
    ValueError
        If ``k > K``.
    """
    return [
        neighbor_agreement(neighbors, confounder, groups, metric="confounder_agreement", k=k, seed=seed, within=labels),
        *agreement_by_k(
            neighbors, confounder, groups, metric="confounder_agreement_by_k", k=k, seed=seed, within=labels
        ),
    ]


AUDIT = Audit("confounder_agreement", confounder_agreement)
