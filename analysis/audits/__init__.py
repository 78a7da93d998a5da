"""Audits of neighbour lists, one file each: a module here with an ``AUDIT`` is found and run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from analysis.arrays import Categories, encode, require_aligned
from analysis.association import label_association
from analysis.audits.leakage import AUDIT as LEAKAGE
from analysis.audits.leakage import leakage_by
from analysis.design import comparable
from analysis.discovery import discover
from analysis.results import Audit, AuditResult
from analysis.space import Space
from analysis.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from analysis.arrays import BoolArray, Categorical, FloatArray, IntArray
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
IMAGE_SCHEMA = {
    "image": pl.Int64,
    "audit": pl.String,
    "confounder": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
}

# What the design is: no audit of neighbours, but told with them.
ASSOCIATION = "association"


def discover_audits() -> dict[str, Audit]:
    """Return the audits of this folder by name; ValueError if two share a name."""
    return discover(__name__, "AUDIT", Audit)


class AuditTables(NamedTuple):
    """What the audits of one cell found.

    Attributes
    ----------
    summary
        One row per audit, confounder and metric, with the columns of `SCHEMA`; `confounder` is null for audits of the
        label alone, `p_adjusted` is Benjamini-Hochberg over the whole frame. What the design supports comes first of
        each confounder.
    images
        The metrics that single images have, `IMAGE_SCHEMA`; `image` is the row of the image.
    """

    summary: pl.DataFrame
    images: pl.DataFrame


def run_audits(
    neighbors: Neighbors,
    labels: Categorical,
    confounders: Mapping[str, Categorical],
    groups: IntArray,
    *,
    k: int,
    seed: int,
    vectors: FloatArray | None = None,
) -> pl.DataFrame:
    """Return the summary of `audit_cell`."""
    return audit_cell(neighbors, labels, confounders, groups, k=k, seed=seed, vectors=vectors).summary


def audit_cell(
    neighbors: Neighbors,
    labels: Categorical,
    confounders: Mapping[str, Categorical],
    groups: IntArray,
    *,
    k: int,
    seed: int,
    vectors: FloatArray | None = None,
    centres: FloatArray | None = None,
    searched: AuditResult | None = None,
    group_columns: Mapping[str, Categorical] | None = None,
    only: Collection[str] | None = None,
) -> AuditTables:
    """Run every audit on one data set under one encoder.

    Audits that set label against background see only the images on which the two can be told apart
    (`analysis.design.comparable`), and are undefined where there are none.

    Parameters
    ----------
    neighbors
        ``(n, K)`` with ``K >= k``, own group left out. Images whose confounder is unknown are struck from the lists;
        where that leaves them short and there are vectors, the known images are searched anew.
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
    vectors
        ``(n, d)`` finite, non-zero rows; audits that read vectors are left out where there are none.
    centres
        ``(lists, d)`` where neighbours were searched by an index, and are to be where they are searched anew.
    searched
        How good the search was, where it was not exact; reported first.
    group_columns
        The columns that groups are made of, by name, each as `labels`: leakage is told of each of them too.
    only
        Names of the audits to run; all unless given, and ``association``, which is no audit but comes first of each
        confounder.

    Returns
    -------
    AuditTables
        Images whose label or confounder is unknown are left out, and `n` and `note` say so.

    Raises
    ------
    ValueError
        If lengths differ, or ``k`` is not within ``1 .. K``.
    """
    coded = encode(labels, what="labels")
    columns = {name: encode(values, what=f"confounder {name!r}") for name, values in confounders.items()}
    require_aligned(neighbors.n, labels=coded.codes, groups=groups, **{name: c.codes for name, c in columns.items()})
    neighbors.first(k)
    space = None if vectors is None else Space.of(vectors, centres)
    constant = Categories(np.zeros(neighbors.n, dtype=np.int64), ("all",))
    audits = [audit for name, audit in discover_audits().items() if only is None or name in only]
    associated = only is None or ASSOCIATION in only
    found: list[_Found] = []
    if searched is not None:
        found.append(_Found("search", None, searched, searched.note, np.arange(neighbors.n)))
    for name, column in [(None, constant), *columns.items()]:
        everything = _Case(neighbors, space, coded, column, groups)
        found += _run(everything, name, audits, associated=associated, k=k, seed=seed)
    if space is not None and (only is None or LEAKAGE.name in only):
        everyone = np.arange(neighbors.n)
        for name, values in (group_columns or {}).items():
            column_codes = encode(values, what=f"group column {name!r}").codes
            require_aligned(neighbors.n, **{name: column_codes})
            # Under "group" stands what all columns make together.
            called = "group_column" if name == "group" else name
            by_column = leakage_by(called, neighbors, column_codes, groups, k=k, seed=seed, space=space)
            found += [_Found(LEAKAGE.name, None, result, result.note, everyone) for result in by_column]
    summary = pl.DataFrame([each.row(seed) for each in found], schema=SCHEMA, orient="row")
    tested = summary["p_value"].is_not_null().to_numpy()
    adjusted = np.full(len(summary), np.nan)
    adjusted[tested] = benjamini_hochberg(summary["p_value"].drop_nulls().to_numpy())
    summary = summary.with_columns(p_adjusted=pl.Series(adjusted).fill_nan(None))
    return AuditTables(summary, pl.concat([pl.DataFrame(schema=IMAGE_SCHEMA), *(each.images() for each in found)]))


@dataclass(frozen=True)
class _Case:
    """What audits are handed, all aligned; `space` is None where there are no vectors."""

    neighbors: Neighbors
    space: Space | None
    labels: Categories
    confounder: Categories
    groups: IntArray

    def among(self, keep: BoolArray) -> _Case:
        """Keep some images; values that no kept image has lose their code."""
        if keep.all():
            return self
        lists = self.neighbors.among(keep)
        space = None if self.space is None else self.space.among(keep)
        groups = self.groups[keep]
        if space is not None and len(groups) > 1 and (lists.indices[:, -1] < 0).any():
            lists = space.search(lists.k, groups).padded(lists.k)
        return _Case(lists, space, _among(self.labels, keep), _among(self.confounder, keep), groups)


@dataclass(frozen=True)
class _Found:
    """A result, and where it stands."""

    audit: str
    confounder: str | None
    result: AuditResult
    note: str
    rows: IntArray

    def row(self, seed: int) -> tuple[object, ...]:
        r = self.result
        numbers = (r.k, r.value, r.expected, r.ci_low, r.ci_high, r.p_value, None, r.n)
        return (self.audit, self.confounder, r.metric, *numbers, self.note, seed)

    def images(self) -> pl.DataFrame:
        if self.result.per_image is None:
            return pl.DataFrame(schema=IMAGE_SCHEMA)
        defined = np.isfinite(self.result.per_image)
        values = {"image": self.rows[defined], "value": self.result.per_image[defined]}
        names = {"audit": self.audit, "confounder": self.confounder, "metric": self.result.metric}
        frame = pl.DataFrame(values).with_columns(pl.lit(text, pl.String).alias(name) for name, text in names.items())
        return frame.select(*IMAGE_SCHEMA).cast(pl.Schema(IMAGE_SCHEMA))


def _run(
    everything: _Case, name: str | None, audits: list[Audit], *, associated: bool, k: int, seed: int
) -> list[_Found]:
    """Run the audits that read this confounder (None: those of the label alone) where it is known."""
    known = everything.labels.known & everything.confounder.known
    case = everything.among(known)
    rows = np.flatnonzero(known)
    left_out = f"{len(known) - len(rows)} of {len(known)} images left out, label or background unknown"
    outside = [left_out] if len(rows) < len(known) else []
    found = []
    part, part_rows, apart = case, rows, ""
    if name is not None:
        if associated:
            association = label_association(case.labels, case.confounder, case.groups, seed=seed)
            found.append(_Found(ASSOCIATION, name, association, "; ".join([association.note, *outside]), rows))
        told = comparable(case.labels, case.confounder, case.groups)
        apart = told.note
        if told.keep.any():
            part, part_rows = case.among(told.keep), rows[told.keep]
    for audit in audits:
        if audit.reads_confounder != (name is not None) or (audit.space_function and case.space is None):
            continue
        here, here_rows = (part, part_rows) if audit.compares else (case, rows)
        short = int(np.sum(here.neighbors.indices[:, k - 1] < 0))
        for result in _results(audit, here, k=k, seed=seed):
            notes = [result.note, *outside]
            shown = result
            if audit.compares and apart:
                if len(part_rows) == len(rows) and min(len(case.labels.names), len(case.confounder.names)) > 1:
                    shown = AuditResult.undefined(result.metric, apart, n=0, k=result.k)
                    notes = [shown.note, *outside]
                elif len(part_rows) < len(rows):
                    notes.append(apart)
            if short and result.k is not None:
                notes.append(f"{short} images list fewer than {k} neighbours")
            found.append(_Found(audit.name, name, shown, "; ".join(notes), here_rows))
    return found


def _results(audit: Audit, case: _Case, *, k: int, seed: int) -> list[AuditResult]:
    lists = case.neighbors, case.labels.codes, case.confounder.codes, case.groups
    if audit.function is not None:
        return audit.function(*lists, k=k, seed=seed)
    if audit.space_function is None or case.space is None:
        return []
    return audit.space_function(*lists, k=k, seed=seed, space=case.space)


def _among(column: Categories, keep: BoolArray) -> Categories:
    used, codes = np.unique(column.codes[keep], return_inverse=True)
    return Categories(codes.astype(np.int64), tuple(column.names[code] for code in used))
