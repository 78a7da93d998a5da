"""One number of a cell with what chance gives, read from the tables of results, and how it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

SIGNIFICANT = 0.05
# A probe's interval covers which images were seen, not what other training images would have changed. In simulated
# cells with nothing to see (240 images in pairs) it is above guessing in 3 to 6 %, stretched by half in less than 1 %.
STRETCH = 1.5


def format_number(value: float | None) -> str:
    """Write a share or score with two decimals; a dash where there is none."""
    return "–" if value is None else f"{value:z.2f}"


def format_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Write a value and its interval as ``0.76 [0.73, 0.80]``."""
    if value is None or low is None or high is None:
        return format_number(value)
    return f"{value:z.2f} [{low:z.2f}, {high:z.2f}]"


def format_p(value: float | None) -> str:
    """Write a p-value with three decimals."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


@dataclass(frozen=True)
class Evidence:
    """One number of a cell, with what chance gives, or the reason why there is none.

    Attributes
    ----------
    value, low, high
        The number and its interval; None where undefined.
    expected
        What chance gives.
    p
        Adjusted p-value, where there is a test.
    n
        Images it rests on.
    why_not
        The reason, where `value` is None.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    p: float | None = None
    n: int | None = None
    why_not: str = "not measured"

    def __str__(self) -> str:
        return format_interval(self.value, self.low, self.high)

    @property
    def above_chance(self) -> bool:
        """Whether all of the interval, stretched by `STRETCH`, is above chance."""
        if self.value is None or self.low is None or self.expected is None:
            return False
        return self.value - STRETCH * (self.value - self.low) > self.expected

    @property
    def barely_above_chance(self) -> bool:
        """Whether the interval as given is above chance, and the stretched one is not."""
        return self.low is not None and self.expected is not None and self.low > self.expected and not self.above_chance

    @property
    def may_be_large(self) -> bool:
        """Whether the interval reaches the upper half of the way from chance to 1, or is unknown."""
        return self.high is None or self.expected is None or self.high > (1 + self.expected) / 2

    @property
    def follows(self) -> bool:
        """Whether a test finds the value above chance."""
        exceeds = self.value is not None and self.expected is not None and self.value > self.expected
        return exceeds and self.p is not None and self.p < SIGNIFICANT

    @property
    def beyond_chance(self) -> float:
        """Excess over chance as a share of what is possible."""
        if self.value is None or self.expected is None or self.expected >= 1:
            return 0.0
        return (self.value - self.expected) / (1 - self.expected)


def read_audit(audits: pl.DataFrame, metric: str, confounder: str | None) -> Evidence:
    """Return one metric of one cell's audits; `confounder` None for audits of the label alone."""
    if audits.is_empty():
        return Evidence()
    rows = audits.filter(pl.col("metric") == metric, pl.col("confounder").eq_missing(pl.lit(confounder)))
    return _evidence(rows, "expected", "p_adjusted") if rows.height else Evidence()


def read_probe(scores: pl.DataFrame, target: str, protocol: str, guessing: float) -> Evidence:
    """Return the cross-validated balanced accuracy of one cell's probe, beside that of guessing."""
    if scores.is_empty():
        return Evidence()
    rows = scores.filter(
        pl.col("fold").is_null(), target=target, protocol=protocol, split="cv", stratum="all"
    ).with_columns(expected=pl.lit(guessing), p=None)
    summary = rows.filter(metric="balanced_accuracy")
    # An undefined probe is one row that says why.
    rows = summary if summary.height else rows.filter(pl.col("value").is_null())
    return _evidence(rows, "expected", "p") if rows.height else Evidence()


def _evidence(rows: pl.DataFrame, expected: str, p: str) -> Evidence:
    row = rows.row(0, named=True)
    why_not = (row.get("note") or "undefined").removeprefix("undefined: ")
    return Evidence(row["value"], row["ci_low"], row["ci_high"], row[expected], row[p], row["n"], why_not)


def count_values(scores: pl.DataFrame, attribute: str) -> int | None:
    """Count an attribute's values by the strata the label was scored in."""
    if scores.is_empty():
        return None
    strata = scores.filter(pl.col("stratum").str.starts_with(f"{attribute}="))["stratum"]
    return strata.n_unique() or None


def guessing_score(values: int | None, same_by_chance: float | None) -> float:
    """Balanced accuracy of guessing: one over the number of values.

    Where the number is not known it is bounded from below by the inverse of the chance that two images
    share the value (the inverse Simpson index); two, if nothing is known.
    """
    return 1 / max(2, values or (math.floor(1 / same_by_chance) if same_by_chance else 2))
