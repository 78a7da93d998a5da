"""Probes of what a linear classifier owes to the background, one file each: a module here with a ``PROBE`` is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import Categories, encode, require_aligned
from analysis.bias_probes.case import BiasProbe, BiasScore, Case, Reference
from analysis.discovery import discover
from analysis.probes import SCORES_SCHEMA, ProbeResult, probe
from analysis.scoring import HeldOut

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from analysis.arrays import Categorical, FloatArray, IntArray

SCHEMA = {**SCORES_SCHEMA, "note": pl.String}


def discover_probes() -> dict[str, BiasProbe]:
    """Return the probes of this folder by name; ValueError if two share a name."""
    return discover(__name__, "PROBE", BiasProbe)


def bias_probes(
    vectors: FloatArray,
    labels: Categorical,
    groups: IntArray,
    backgrounds: Mapping[str, Sequence[str | None]],
    *,
    seed: int,
    grouped: ProbeResult | None = None,
    published: ProbeResult | None = None,
    only: Collection[str] | None = None,
) -> pl.DataFrame:
    """Run every bias probe on one data set under one encoder.

    Parameters
    ----------
    vectors
        ``(n, d)`` finite features, unnormalised.
    labels
        ``(n,)`` strings; None (unknown) leaves the image out.
    groups
        ``(n,)`` group codes; no group straddles a split.
    backgrounds
        Background attributes ``(n,)`` by name; None is unknown.
    seed
        Seed of divisions, draws and resamples. The order of rows changes nothing.
    grouped, published
        What `probe` found of the label in these images under either protocol; their predictions and folds are
        used again. None to fit them here.
    only
        Names of the probes to run; all unless given.

    Returns
    -------
    polars.DataFrame
        Columns of `SCHEMA`: those of `probe`'s scores, with `fold` null and `split` ``cv`` throughout, and a note.
        A number the design cannot support is null, and its note says ``undefined: `` and why.

    Raises
    ------
    ValueError
        If lengths differ, a vector is not finite, or a probe given is not of these images.
    """
    coded = encode(labels, what="labels")
    columns = {name: encode(values, what=f"background {name!r}") for name, values in backgrounds.items()}
    require_aligned(len(vectors), labels=coded.codes, groups=groups, **{n: c.codes for n, c in columns.items()})
    if not np.isfinite(vectors).all():
        raise ValueError("vectors must be finite: encode these images again or leave them out")
    # Draws count rows: in an order of their own, they do not depend on the one given.
    order = np.lexsort((*np.asarray(vectors)[:, :2].T, groups))
    vectors, groups = np.asarray(vectors)[order], groups[order]
    coded, *sorted_columns = (Categories(c.codes[order], c.names) for c in (coded, *columns.values()))
    references: dict[str, Reference | str] = {}
    for protocol, given in (("grouped", grouped), ("published", published)):
        if given is None:
            references[protocol] = _fit(protocol, vectors, coded, groups, seed)
        else:
            references[protocol] = _read(given, protocol, coded, groups, np.argsort(order))
    case = Case(vectors, coded, groups, dict(zip(columns, sorted_columns, strict=True)), seed, references)
    probes = [found for name, found in discover_probes().items() if only is None or name in only]
    scores = [score for found in probes for score in found.function(case)]
    return pl.DataFrame([_row(score, seed) for score in scores], schema=SCHEMA)


def _fit(protocol: str, vectors: FloatArray, labels: Categories, groups: IntArray, seed: int) -> Reference | str:
    """Out-of-fold predictions made here, or why there are none."""
    names = np.array([*labels.names, None], dtype=object)
    try:
        made = probe(vectors, names[labels.codes], groups, protocol=protocol, target="label", seed=seed)
    except ValueError as error:
        return str(error)
    return _read(made, protocol, labels, groups, np.arange(len(vectors)))


def _read(result: ProbeResult, protocol: str, labels: Categories, groups: IntArray, place: IntArray) -> Reference:
    """Out-of-fold predictions of a probe, whose row i is row ``place[i]`` here."""
    cv = result.predictions.filter(pl.col("split") == "cv")
    if set(cv["protocol"]) != {protocol} or cv["row"].max() >= len(place):  # type: ignore[operator]
        raise ValueError(f"the {protocol} probe given is of another protocol, or of other images")
    row = place[cv["row"].to_numpy()]
    code = {name: number for number, name in enumerate(labels.names)}
    truth, predicted = (np.array([code.get(name, -1) for name in cv[column]]) for column in ("truth", "predicted"))
    if not np.array_equal(truth, labels.codes[row]):
        raise ValueError(f"the {protocol} probe given has other labels: it is not of these images")
    repeat = np.unique(cv["seed"].to_numpy(), return_inverse=True)[1]
    fold = cv["fold"].to_numpy().astype(np.int64)
    folds = int(fold.max()) + 1
    return Reference(HeldOut(row, repeat * folds + fold, truth, predicted, groups[row]), folds)


def _row(score: BiasScore, seed: int) -> dict[str, object]:
    return {
        **score.heading._asdict(),
        "split": "cv",
        "fold": None,
        "value": score.value,
        "ci_low": score.interval.low,
        "ci_high": score.interval.high,
        "n": score.n,
        "seed": seed,
        "note": score.note,
    }
