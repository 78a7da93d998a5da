"""What fine-tuning did to the background: the same images measured before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.audits import audit_cell
from analysis.bias_probes import bias_probes
from analysis.neighbors import cosine_neighbors
from analysis.probes import ProbeResult, probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.arrays import Categorical, FloatArray, IntArray

SCHEMA = {
    "moment": pl.String,
    "confounder": pl.String,  # null: the label itself
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "expected": pl.Float64,  # by chance
    "n": pl.Int64,
    "note": pl.String,
}
AUDITS = ("label_agreement", "confounder_agreement", "robustness")
AUDITED = ("label_agreement", "confounder_agreement", "robustness_index")
DECODABILITY, GAP = "decodability", "within_label_gap"


def tuning_shift(
    before: FloatArray,
    after: FloatArray,
    labels: Categorical,
    groups: IntArray,
    backgrounds: Mapping[str, Sequence[str | None]],
    *,
    k: int,
    seed: int,
) -> pl.DataFrame:
    """Measure vectors of the same images before and after a change of the encoder.

    Parameters
    ----------
    before, after
        ``(n, d)`` finite, non-zero features; they may differ in length.
    labels
        ``(n,)`` strings; None is unknown.
    groups
        ``(n,)`` group codes.
    backgrounds
        Background attributes ``(n,)`` by name; None is unknown.
    k
        Neighbours read per image.
    seed
        Seed of divisions, resamples and permutations.

    Returns
    -------
    polars.DataFrame
        Columns of `SCHEMA`; `moment` is ``before`` or ``after``. Neighbours' agreement in label and background and the
        robustness index are those of `analysis.audits`; ``decodability`` is the cross-validated balanced accuracy of
        the grouped probe on the label or the background; ``within_label_gap`` is that of `analysis.bias_probes`.
        Intervals are of each value, not of the difference: the images are the same, so they may overlap and the
        difference be certain. What the design cannot support is null, and its note says why.
    """
    frames = [
        _measure(vectors, labels, groups, backgrounds, k=k, seed=seed).with_columns(pl.lit(moment).alias("moment"))
        for moment, vectors in (("before", before), ("after", after))
    ]
    return pl.concat(frame.select(*SCHEMA) for frame in frames)


def _measure(
    vectors: FloatArray,
    labels: Categorical,
    groups: IntArray,
    backgrounds: Mapping[str, Sequence[str | None]],
    *,
    k: int,
    seed: int,
) -> pl.DataFrame:
    neighbors = cosine_neighbors(vectors, k, groups=groups)
    audits = audit_cell(neighbors, labels, backgrounds, groups, k=k, seed=seed, only=AUDITS).summary
    probes = {name: _probe(vectors, values, groups, name, seed=seed) for name, values in backgrounds.items()}
    of_label = _probe(vectors, labels, groups, "label", seed=seed)
    rows = [_decodability(of_label, labels, None)]
    rows += [_decodability(found, backgrounds[name], name) for name, found in probes.items()]
    grouped = None if isinstance(of_label, str) else of_label
    gaps = bias_probes(vectors, labels, groups, backgrounds, seed=seed, grouped=grouped, only=(GAP,))
    columns = [name for name in SCHEMA if name != "moment"]
    found = [
        audits.filter(pl.col("metric").is_in(AUDITED)),
        pl.DataFrame(rows, schema={name: SCHEMA[name] for name in columns}),
        gaps.with_columns(confounder=pl.col("stratum"), expected=pl.lit(0.0)),
    ]
    return pl.concat(frame.select(columns).cast({name: SCHEMA[name] for name in columns}) for frame in found)


def _probe(vectors: FloatArray, values: Categorical, groups: IntArray, name: str, *, seed: int) -> ProbeResult | str:
    """Read an attribute off the vectors, or return why that cannot be done."""
    try:
        return probe(vectors, values, groups, protocol="grouped", target=name, seed=seed)
    except ValueError as error:
        return str(error)


def _decodability(found: ProbeResult | str, values: Categorical, name: str | None) -> dict[str, object]:
    row: dict[str, object] = {"confounder": name, "metric": DECODABILITY}
    if isinstance(found, str):
        known = sum(value is not None for value in np.asarray(values, dtype=object).tolist())
        return {**row, "n": known, "note": f"undefined: {found}"}
    whole = found.scores.filter(
        pl.col("fold").is_null(), split="cv", stratum="all", metric="balanced_accuracy"
    ).row(0, named=True)  # fmt: skip
    guessing = 1 / found.predictions["truth"].n_unique()
    return {**row, **{key: whole[key] for key in ("value", "ci_low", "ci_high", "n")}, "expected": guessing}
