"""CRoMa: by how much the nearest match of the label beats the nearest match of the background, image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import Interval
from analysis.jackknife import jackknife_all
from analysis.results import Audit, AuditResult
from analysis.typed_search import nearest_typed

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import BoolArray, IntArray
    from analysis.neighbors import Neighbors
    from analysis.space import Space
    from analysis.typed_search import Nearest

METRICS = ("croma_median", "croma_tail", "croma_dominated")
NEAREST = 5
TAIL = 0.10
# Found beside those read, so that images can be left out; more where one of the blocks left out holds more.
_SPARES = (5, 15, 45)


def croma(
    neighbors: Neighbors, labels: IntArray, confounder: IntArray, groups: IntArray, *, k: int, seed: int, space: Space
) -> list[AuditResult]:
    """Margin between the nearest SO and the nearest OS neighbours of every image.

    ``(d_OS - d_SO) / (d_OS + d_SO)`` with d the mean cosine distance of the 5 nearest of each type, searched as far as
    they are: 1 where only the label counts, -1 where only the background does.

    Parameters
    ----------
    neighbors
        ``(n, K)``; self and own group left out.
    labels, confounder
        ``(n,)`` codes.
    groups
        ``(n,)`` group codes, left out in blocks for the interval.
    k
        Not read.
    seed
        Seed of the blocks.
    space
        The vectors.

    Returns
    -------
    list of AuditResult
        ``croma_median``; ``croma_tail``, the mean of the lowest tenth; ``croma_dominated``, the share of images at 0 or
        below. Images without 5 neighbours of both types count for nothing, and `n` says so (croma refuses them).

    References
    ----------
    croma 1.0.1 (PyPI), `CRoMa`, with which this agrees.
    """
    everyone = np.ones(len(labels), dtype=np.bool_)
    for spare in _SPARES:
        so, os = nearest_typed(space.unit, neighbors, labels, confounder, groups, m=NEAREST + spare)
        margins = _margins(so, os, everyone)
        intervals = _intervals(so, os, margins, groups, seed=seed)
        if intervals is not None:
            break
    n = int(np.isfinite(margins).sum())
    if n == 0:
        reason = f"no image has {NEAREST} neighbours of both types outside its own group"
        return [AuditResult.undefined(metric, reason, n=0) for metric in METRICS]
    note = f"{n} of {len(labels)} images have {NEAREST} neighbours of both types; 0 is neutral"
    if intervals is None:
        note += f"; no interval: a twentieth of the groups holds more than {_SPARES[-1]} of an image's nearest"
        intervals = dict.fromkeys(METRICS, Interval(None, None))
    return [
        AuditResult(
            metric,
            _summary(margins, metric),
            *intervals[metric],
            None,
            n,
            note,
            per_image=margins if metric == "croma_median" else None,
        )
        for metric in METRICS
    ]


def _intervals(
    so: Nearest, os: Nearest, margins: npt.NDArray[np.float64], groups: IntArray, *, seed: int
) -> dict[str, Interval] | None:
    """Interval of every metric; None where leaving out a block leaves an image without neighbours that it does have."""
    defined = np.isfinite(margins)
    ran_out = False

    def among(keep: BoolArray) -> list[float]:
        nonlocal ran_out
        ran_out = ran_out or _ran_out(so, keep & defined, keep) or _ran_out(os, keep & defined, keep)
        if ran_out:
            return [float("nan")] * len(METRICS)
        kept = _margins(so, os, keep)
        return [_summary(kept, metric) for metric in METRICS]

    within = [(0.0, 1.0) if metric == "croma_dominated" else (-1.0, 1.0) for metric in METRICS]
    found = jackknife_all(among, groups, seed=seed, within=within)
    return None if ran_out else dict(zip(METRICS, found, strict=True))


def _ran_out(nearest: Nearest, asked: BoolArray, keep: BoolArray) -> bool:
    """Whether an image asked for has too few kept neighbours in a list that may go on."""
    held = ((nearest.indices >= 0) & keep[nearest.indices]).sum(axis=1)
    return bool((asked & (held < NEAREST) & (nearest.indices[:, -1] >= 0)).any())


def _margins(so: Nearest, os: Nearest, keep: BoolArray) -> npt.NDArray[np.float64]:
    """Margin of every kept image among the kept images, ``(n,)``; NaN where there is none."""
    d_so, d_os = (_mean_of_nearest(nearest, keep) for nearest in (so, os))
    total = d_so + d_os
    margins = np.full(len(keep), np.nan)
    defined = keep & np.isfinite(total) & (total > 0)
    margins[defined] = (d_os - d_so)[defined] / total[defined]
    return margins


def _mean_of_nearest(nearest: Nearest, keep: BoolArray) -> npt.NDArray[np.float64]:
    there = (nearest.indices >= 0) & keep[nearest.indices]
    read = there & (np.cumsum(there, axis=1) <= NEAREST)
    total: npt.NDArray[np.float64] = np.where(read, nearest.distances, 0).sum(axis=1)
    return np.where(read.sum(axis=1) == NEAREST, total / NEAREST, np.nan)


def _summary(margins: npt.NDArray[np.float64], metric: str) -> float:
    defined = margins[np.isfinite(margins)]
    if not len(defined):
        return float("nan")
    if metric == "croma_median":
        return float(np.median(defined))
    if metric == "croma_tail":
        return float(defined[defined <= np.percentile(defined, 100 * TAIL)].mean())
    return float(np.mean(defined <= 0))


AUDIT = Audit("croma", space_function=croma, compares=True)
