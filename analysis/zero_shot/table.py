"""One number of a zero-shot evaluation, and how they are written in rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from analysis.bootstrap import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = {
    "prompt_set": pl.String,
    "rule": pl.String,
    "split": pl.String,
    "stratum": pl.String,
    "label": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "expected": pl.Float64,
    "p_value": pl.Float64,
    "n": pl.Int64,
    "seed": pl.Int64,
    "note": pl.String,
}
NO_INTERVAL = Interval(None, None)


class Number(NamedTuple):
    """A score: of which images (`stratum`), of which label (None: all), with its interval and support.

    `value` is None where it is undefined, with the reason in `note`.
    """

    stratum: str
    label: str | None
    metric: str
    value: float | None
    interval: Interval
    n: int
    note: str | None = None
    expected: float | None = None
    p_value: float | None = None


def number(
    stratum: str, label: str | None, metric: str, value: float | None, interval: Interval, n: int, reason: str
) -> Number:
    """Return a score, or where `value` is None or NaN an undefined one that says why."""
    if value is None or math.isnan(value):
        return Number(stratum, label, metric, None, NO_INTERVAL, n, f"undefined: {reason}")
    return Number(stratum, label, metric, value, interval, n)


def as_frame(
    numbers: Iterable[Number], *, prompt_set: str | None, rule: str | None, split: str, seed: int, note: str = ""
) -> pl.DataFrame:
    """Return scores as rows of `SCHEMA`; `note` is added to those without a note of their own."""
    rows = [
        (prompt_set, rule, split, each.stratum, each.label, each.metric, each.value, *each.interval, each.expected,
         each.p_value, each.n, seed, each.note or note or None)
        for each in numbers
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
