"""Audits of neighbour lists, one file each: a module here with an ``AUDIT`` is found and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import Categories, encode, require_aligned
from analysis.association import label_association
from analysis.discovery import discover
from analysis.results import Audit, AuditResult
from analysis.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.arrays import BoolArray, Categorical, IntArray
    from analysis.neighbors import Neighbors

SCHEMA = {
    "audit": pl.String,
    "confounder": pl.String,
    "metric": pl.String,
    "k": pl.Int32,
    "value": pl.Float64,
    "expected": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "p_value": pl.Float64,
    "p_adjusted": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
    "seed": pl.Int64,
}


def discover_audits() -> dict[str, Audit]:
    """Return the audits of this folder by name; ValueError if two share a name."""
    return discover(__name__, "AUDIT", Audit)


def run_audits(
    neighbors: Neighbors,
    labels: Categorical,
    confounders: Mapping[str, Categorical],
    groups: IntArray,
    *,
    k: int,
    seed: int,
) -> pl.DataFrame:
    """Run every audit on one data set under one encoder.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``, own group left out. Where confounders have unknown values let K exceed
        `k`: unknown images are struck from the lists, and the next ones move up.
    labels
        ``(n,)`` strings (None is unknown) or codes (negative is unknown).
    confounders
        Background attributes by name, each as `labels`.
    groups
        ``(n,)`` group codes.
    k
        Neighbours read per image.
    seed
        Seed of resamples and permutations.

    Returns
    -------
    polars.DataFrame
        One row per audit, confounder and metric, with the columns of `SCHEMA`; `confounder` is null for
        audits of the label alone, `p_adjusted` is Benjamini-Hochberg over the whole frame. Images whose
        label or confounder is unknown are left out, and `n` and `note` say so.

    Raises
    ------
    ValueError
        If lengths differ, or ``k`` is not within ``1 .. K``.
    """
    coded = encode(labels, what="labels")
    columns = {name: encode(values, what=f"confounder {name!r}") for name, values in confounders.items()}
    require_aligned(neighbors.n, labels=coded.codes, groups=groups, **{name: c.codes for name, c in columns.items()})
    neighbors.first(k)
    audits = discover_audits()
    constant = Categories(np.zeros(neighbors.n, dtype=np.int64), ("all",))
    rows = _run(audits, neighbors, coded, None, constant, groups, k=k, seed=seed)
    for name, column in columns.items():
        rows += _run(audits, neighbors, coded, name, column, groups, k=k, seed=seed)
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    tested = frame["p_value"].is_not_null().to_numpy()
    adjusted = np.full(len(frame), np.nan)
    adjusted[tested] = benjamini_hochberg(frame["p_value"].drop_nulls().to_numpy())
    return frame.with_columns(p_adjusted=pl.Series(adjusted).fill_nan(None))


def _run(
    audits: Mapping[str, Audit],
    neighbors: Neighbors,
    labels: Categories,
    name: str | None,
    confounder: Categories,
    groups: IntArray,
    *,
    k: int,
    seed: int,
) -> list[tuple[object, ...]]:
    """Run the audits that read this confounder (None: those of the label alone) where it is known."""
    keep = labels.known & confounder.known
    known = neighbors.among(keep)
    y, c, g = _among(labels, keep), _among(confounder, keep), groups[keep]
    results = [
        (audit.name, result)
        for audit in audits.values()
        if audit.reads_confounder == (name is not None)
        for result in audit.function(known, y.codes, c.codes, g, k=k, seed=seed)
    ]
    if name is not None:
        results.append(("association", label_association(y, c, g, seed=seed)))
    left_out = int(np.sum(~keep))
    short = int(np.sum(known.indices[:, k - 1] < 0))
    rows = []
    for audit, result in results:
        note = result.note
        if left_out:
            note += f"; {left_out} of {len(keep)} images left out, label or background unknown"
        if short and result.k is not None:
            note += f"; {short} images list fewer than {k} neighbours"
        rows.append(_row(audit, name, result, note, seed))
    return rows


def _among(column: Categories, keep: BoolArray) -> Categories:
    """Keep some rows; values that no kept row has lose their code."""
    used, codes = np.unique(column.codes[keep], return_inverse=True)
    return Categories(codes.astype(np.int64), tuple(column.names[code] for code in used))


def _row(audit: str, confounder: str | None, result: AuditResult, note: str, seed: int) -> tuple[object, ...]:
    return (
        audit,
        confounder,
        result.metric,
        result.k,
        result.value,
        result.expected,
        result.ci_low,
        result.ci_high,
        result.p_value,
        None,
        result.n,
        note,
        seed,
    )
