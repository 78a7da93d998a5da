"""What an audit is, and what it reports: a value with its support, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray
    from analysis.neighbors import Neighbors
    from analysis.space import Space


@dataclass(frozen=True)
class AuditResult:
    """One metric of one audit.

    Attributes
    ----------
    metric
        Name of the metric.
    value
        The estimate; None where undefined, with the reason in `note`.
    ci_low, ci_high
        Interval over resampled groups; None where it cannot be had.
    p_value
        From permutation; None where nothing is tested.
    n
        Images the value rests on.
    note
        Support, choices and, where `value` is None, the reason.
    expected
        The value expected by chance (mean over permutations); None where not defined.
    k
        Neighbours read per image; None for metrics that read none.
    per_image
        ``(n,)`` the metric of each image handed in, NaN where it has none; None for metrics of the whole only.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, or an undefined value gives no reason.
    """

    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    n: int
    note: str
    expected: float | None = None
    k: int | None = None
    per_image: FloatArray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("value", "ci_low", "ci_high", "p_value", "expected"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.metric}: {name} is {number}; an undefined number must be None")
        if self.value is None and not self.note:
            raise ValueError(f"{self.metric}: an undefined value needs a note that says why")

    @classmethod
    def undefined(cls, metric: str, reason: str, *, n: int, k: int | None = None) -> AuditResult:
        """Report that a metric has no value, and why."""
        return cls(metric, None, None, None, None, n, f"undefined: {reason}", k=k)


class ListAudit(Protocol):
    """Reads neighbour lists, reports metrics.

    All arrays are ``(n,)`` codes ≥ 0 without unknown values, aligned to the lists. `k` is the number of
    neighbours to read (or the largest to choose from), `seed` that of resamples and permutations.
    """

    def __call__(
        self,
        neighbors: Neighbors,
        labels: IntArray,
        confounder: IntArray,
        groups: IntArray,
        *,
        k: int,
        seed: int,
    ) -> list[AuditResult]:
        """Audit one data set under one encoder."""
        ...


class SpaceAudit(Protocol):
    """As `ListAudit`, and reads the vectors themselves."""

    def __call__(
        self,
        neighbors: Neighbors,
        labels: IntArray,
        confounder: IntArray,
        groups: IntArray,
        *,
        k: int,
        seed: int,
        space: Space,
    ) -> list[AuditResult]:
        """Audit one data set under one encoder."""
        ...


@dataclass(frozen=True)
class Audit:
    """One way of looking at neighbour lists.

    Attributes
    ----------
    name
        Unique name, as in the report.
    function
        The audit itself.
    reads_confounder
        False where only labels matter: such an audit runs once and is handed a constant confounder.
    compares
        Whether it sets label against background: such an audit is handed only the images on which the two can be
        told apart (`analysis.design.comparable`).
    space_function
        In place of `function`, where the audit reads vectors; it is left out where there are none.

    Raises
    ------
    ValueError
        Unless there is just one of the two functions.
    """

    name: str
    function: ListAudit | None = None
    reads_confounder: bool = True
    compares: bool = False
    space_function: SpaceAudit | None = None

    def __post_init__(self) -> None:
        if (self.function is None) == (self.space_function is None):
            raise ValueError(f"audit {self.name!r} must have one function, of lists or of vectors")
