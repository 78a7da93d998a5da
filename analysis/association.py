"""Association of label and background in the data themselves, whatever the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.design import describe_cells
from analysis.permutation import permute_codes
from analysis.results import AuditResult
from analysis.statistics import cramers_v, cramers_v_of_tables

if TYPE_CHECKING:
    from analysis.arrays import Categories, IntArray

METRIC = "cramers_v"


def label_association(labels: Categories, confounder: Categories, groups: IntArray, *, seed: int) -> AuditResult:
    """Cramér's V of label and background, and which combinations never occur.

    Where V is high, no audit can tell apart what an encoder owes to one and to the other; a cell without
    images cannot be judged at all.

    Parameters
    ----------
    labels, confounder
        ``(n,)`` categories, all known.
    groups
        ``(n,)`` group codes, permuted as blocks.
    seed
        Seed of permutations.

    Returns
    -------
    AuditResult
        ``cramers_v`` in [0, 1]. `expected` is its mean with the background permuted, which is above 0 in a
        finite sample. It describes these images: there is no interval, since V of resampled images is
        biased upwards and would exclude a value near 0, and no p-value, which would only dilute the
        audits' correction for multiple testing.
    """
    n = len(labels.codes)
    n_labels, n_backgrounds = len(labels.names), len(confounder.names)
    value = cramers_v(labels.codes, confounder.codes)
    if value is None:
        return AuditResult.undefined(METRIC, "label or background is constant", n=n)

    cells = n_labels * n_backgrounds
    permuted = permute_codes(confounder.codes, groups, seed=seed)
    counts = [
        np.bincount(labels.codes * n_backgrounds + codes[permuted.unit], minlength=cells) for codes in permuted.codes.T
    ]
    tables = np.stack(counts).reshape(-1, n_labels, n_backgrounds).astype(np.float64)
    chance = cramers_v_of_tables(tables)
    return AuditResult(
        METRIC,
        value,
        None,
        None,
        None,
        n,
        describe_cells(labels, confounder),
        expected=float(np.nanmean(chance)) if permuted.varies else None,
    )
