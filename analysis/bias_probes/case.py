"""What every bias probe is given, and what it reports: a score with its support, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from analysis.bias_probes.held_out import TooFewError, select
from analysis.bootstrap import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from analysis.arrays import Categories, FloatArray, IntArray
    from analysis.bias_probes.held_out import Estimate, Folds
    from analysis.scoring import HeldOut


class Heading(NamedTuple):
    """What a number is of: what is predicted, how it is probed, for which images or setting, and the measure."""

    target: str
    protocol: str
    stratum: str
    metric: str


@dataclass(frozen=True)
class BiasScore:
    """One number of one bias probe.

    Attributes
    ----------
    heading
        What it is of.
    value
        The score; None where the design cannot support one, with the reason in `note`.
    interval
        95 % over resampled groups; both ends None where it cannot be had.
    n
        Images that the value rests on.
    note
        Choices and sizes; where `value` is None, the reason.

    Raises
    ------
    ValueError
        If the value is NaN or infinite, or is undefined without a reason.
    """

    heading: Heading
    value: float | None
    interval: Interval
    n: int
    note: str

    def __post_init__(self) -> None:
        if self.value is None and not self.note.startswith("undefined: "):
            raise ValueError(f"{self.heading}: an undefined value needs a note that says why")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.heading}: the value is {self.value}; an undefined number must be None")


def report(headings: Sequence[Heading], estimates: Sequence[Estimate], *, n: int, note: str) -> list[BiasScore]:
    """Report estimates under their headings; undefined where one is NaN."""
    return [
        BiasScore(heading, found.value, found.interval, n, note)
        if math.isfinite(found.value)
        else BiasScore(heading, None, Interval(None, None), n, f"undefined: no held-out image to score; {note}")
        for heading, found in zip(headings, estimates, strict=True)
    ]


def undefined(headings: Sequence[Heading], reason: object, *, n: int = 0) -> list[BiasScore]:
    """Report that there are no values, and why."""
    return [BiasScore(heading, None, Interval(None, None), n, f"undefined: {reason}") for heading in headings]


@dataclass(frozen=True)
class Reference:
    """Out-of-fold predictions of the label by a probe that was fitted already.

    Attributes
    ----------
    held_out
        ``m`` predictions, each image at most once per repeat; the fold of repeat r is ``r * folds + fold``.
    folds
        Folds of one repeat.
    """

    held_out: HeldOut
    folds: int

    @property
    def repeats(self) -> int:
        """Number of repeats."""
        return int(self.held_out.fold.max()) // self.folds + 1

    def first_repeat(self) -> HeldOut:
        """Return the predictions of the first repeat."""
        return select(self.held_out, self.held_out.fold < self.folds)


@dataclass(frozen=True)
class Case:
    """One data set under one encoder.

    Attributes
    ----------
    vectors
        ``(n, d)`` float features.
    labels
        ``(n,)``, unknown where -1.
    groups
        ``(n,)`` codes of what must not straddle a split.
    backgrounds
        Background attributes ``(n,)`` by name, unknown where -1.
    seed
        Seed of every division, draw and resample.
    references
        Predictions of the label by protocol, or the reason why there are none.
    """

    vectors: FloatArray
    labels: Categories
    groups: IntArray
    backgrounds: Mapping[str, Categories]
    seed: int
    references: Mapping[str, Reference | str]

    def reference(self, protocol: str) -> Reference:
        """Return the predictions of a protocol; TooFewError, with the reason, where there are none."""
        found = self.references[protocol]
        if isinstance(found, str):
            raise TooFewError(found)
        return found

    def folds(self) -> Folds:
        """Rows fitted on and rows scored in each fold of the grouped probe's first repeat."""
        held_out = self.reference("grouped").first_repeat()
        return [
            (np.sort(held_out.row[held_out.fold != fold]), np.sort(held_out.row[held_out.fold == fold]))
            for fold in np.unique(held_out.fold).tolist()
        ]


class BiasProbeFunction(Protocol):
    """Probes a case; scores that the design cannot support are reported as undefined, not raised."""

    def __call__(self, case: Case) -> list[BiasScore]:
        """Probe one data set under one encoder."""
        ...


@dataclass(frozen=True)
class BiasProbe:
    """A bias probe by its unique name."""

    name: str
    function: BiasProbeFunction
