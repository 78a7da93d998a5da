"""What of a saliency map lies where: inside a lesion, on burned-in words, on marks, on the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from analysis.bootstrap import cluster_bootstrap
from analysis.results import AuditResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from analysis.arrays import FloatArray, IntArray

# A map is cut at this share of its maximum, where it is compared with a region as a region.
THRESHOLD = 0.5
# Places a map has when two are compared with each other.
_COMPARED_SIDE = 28
METRICS = ("energy", "area", "energy / area", "pointing", "iou")
LEARNED = "energy less that of random weights"


@dataclass(frozen=True)
class RegionScore:
    """One map against one region.

    Attributes
    ----------
    energy
        Share of the map's sum that lies inside.
    area
        Share of the model's input that the region covers: what a map without preference has inside.
    hit
        Share of the highest place that lies inside: 1 or 0, or between where it is on the border or where several
        places are as high.
    iou
        Intersection over union of the region and the map cut at `THRESHOLD` of its maximum.
    """

    energy: float
    area: float
    hit: float
    iou: float


def box_coverage(boxes: Iterable[Sequence[float]], shape: tuple[int, int]) -> FloatArray:
    """Return how much of each px boxes cover, ``(h, w)`` in [0, 1].

    Parameters
    ----------
    boxes
        ``x0, y0, x1, y1`` in px, which may lie between px.
    shape
        Height and width.
    """
    height, width = shape
    covered = np.zeros(shape)
    for x0, y0, x1, y1 in boxes:
        across = np.clip(np.minimum(np.arange(width) + 1, x1) - np.maximum(np.arange(width), x0), 0, 1)
        down = np.clip(np.minimum(np.arange(height) + 1, y1) - np.maximum(np.arange(height), y0), 0, 1)
        np.maximum(covered, down[:, None] * across, out=covered)
    return covered


def score_map(salient: FloatArray, region: FloatArray) -> RegionScore | None:
    """Score a map against a region.

    Parameters
    ----------
    salient
        ``(h, w)``, not negative.
    region
        ``(h, w)`` how much of each px the region covers: a mask, or what `box_coverage` returns.

    Returns
    -------
    RegionScore or None
        None where the map is zero everywhere: it says nothing.

    Raises
    ------
    ValueError
        If shapes differ, or the map has negative or infinite values.

    References
    ----------
    Energy inside: Wang et al., Score-CAM, arXiv:1910.01279. Pointing game: Zhang et al., arXiv:1608.00507, here without
    a margin around the region.
    """
    salient = np.asarray(salient, np.float64)
    if salient.shape != region.shape:
        raise ValueError(f"a map of shape {salient.shape} and a region of shape {region.shape} differ")
    total = salient.sum()
    if not np.isfinite(total) or salient.min() < 0:
        raise ValueError("a map must be finite and not negative")
    if total == 0:
        return None
    cut = salient >= THRESHOLD * salient.max()
    union = np.maximum(cut, region).sum()
    return RegionScore(
        energy=float((salient * region).sum() / total),
        area=float(region.mean()),
        hit=float(region[salient == salient.max()].mean()),
        iou=float(np.minimum(cut, region).sum() / union),
    )


def rank_correlation(one: FloatArray, other: FloatArray) -> float | None:
    """Spearman correlation of two maps ``(h, w)`` of one size; None where one of them is constant.

    Both are brought to 28 places a side at most first: a map from a layer of 7 x 7 places says no more at 224 px.

    References
    ----------
    Adebayo et al., arXiv:1810.03292, who compare maps of trained and randomised models so.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(_coarse(salient)) for salient in (one, other)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _coarse(salient: FloatArray) -> FloatArray:
    rows, columns = (
        np.unique(np.linspace(0, side, min(side, _COMPARED_SIDE), endpoint=False).astype(np.int64))
        for side in salient.shape
    )
    sums = np.add.reduceat(np.add.reduceat(salient.astype(np.float64), rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff(np.append(starts, side)) for starts, side in zip((rows, columns), salient.shape, strict=True)
    )
    means: FloatArray = (sums / heights[:, None] / widths).ravel()
    return means


def summarise(scores: pl.DataFrame, groups: Mapping[str, int], *, seed: int) -> pl.DataFrame:
    """Return means over images for each kind of map and region, with intervals.

    Parameters
    ----------
    scores
        A row for each image, kind of map (``method``, ``weights``, ``asked``) and ``region``: ``image_id``, ``energy``,
        ``area``, ``hit``, ``iou``; null where the map is zero. ``correlation``, with the map of random weights, is on
        rows whose region is null.
    groups
        Group codes of images by id; intervals resample whole groups.
    seed
        Seed of the resamples.

    Returns
    -------
    polars.DataFrame
        ``method, weights, asked, region, metric, value, ci_low, ci_high, expected, n, note``. ``expected`` is what a
        map without preference has: its area inside. ``energy / area`` is a ratio of sums, and 1 without preference.
        Where there are maps of random weights too, the difference of ``energy`` to them, paired by image, says what is
        learned: a convolutional network's maps favour the middle whatever its weights.
    """
    keys = ["method", "weights", "asked", "region"]
    rows: list[dict[str, Any]] = []
    for key, part in scores.group_by(keys, maintain_order=True):
        named = dict(zip(keys, key, strict=True))
        codes = np.array([groups[image_id] for image_id in part["image_id"]], dtype=np.int64)
        results = _compared(part, codes, seed) if named["region"] is None else _inside(part, codes, seed)
        if named["region"] is not None and named["weights"] == "trained":
            results += _learned(part, scores.filter(pl.col("region") == named["region"]), groups, seed)
        rows += [
            {
                **named,
                "metric": result.metric,
                "value": result.value,
                "ci_low": result.ci_low,
                "ci_high": result.ci_high,
                "expected": result.expected,
                "n": result.n,
                "note": result.note,
            }
            for result in results
        ]
    schema = dict.fromkeys([*keys, "metric"], pl.String) | dict.fromkeys(
        ["value", "ci_low", "ci_high", "expected"], pl.Float64
    )
    return pl.DataFrame(rows, schema=schema | {"n": pl.Int64, "note": pl.String}, orient="row")


def _compared(part: pl.DataFrame, codes: IntArray, seed: int) -> list[AuditResult]:
    defined = part["correlation"].is_not_null().to_numpy()
    name = "correlation with random weights"
    if not defined.any():
        return [AuditResult.undefined(name, "no image has a map under both", n=0)]
    values = part["correlation"].drop_nulls().to_numpy()
    low, high = cluster_bootstrap(values, codes[defined], seed=seed)
    note = (
        f"Spearman; {part.height - len(values)} images with an empty map left out" if not defined.all() else "Spearman"
    )
    return [AuditResult(name, float(values.mean()), low, high, None, len(values), note)]


def _learned(part: pl.DataFrame, scores: pl.DataFrame, groups: Mapping[str, int], seed: int) -> list[AuditResult]:
    """Compare with the maps of random weights of the same kind; nothing where there are none."""
    random = scores.filter(pl.col("weights") == "random").select("image_id", "method", "asked", "energy")
    both = part.join(random, on=["image_id", "method", "asked"], suffix="_random", maintain_order="left")
    both = both.drop_nulls(["energy", "energy_random"])
    if both.is_empty():
        return []
    codes = np.array([groups[image_id] for image_id in both["image_id"]], dtype=np.int64)
    difference = (both["energy"] - both["energy_random"]).to_numpy()
    return [_mean(LEARNED, difference, codes, seed, 0.0, "paired by image")]


def _inside(part: pl.DataFrame, codes: IntArray, seed: int) -> list[AuditResult]:
    defined = part["energy"].is_not_null().to_numpy()
    if not defined.any():
        return [AuditResult.undefined(name, "every map is zero", n=0) for name in METRICS]
    left_out = part.height - int(defined.sum())
    note = f"{left_out} images with an empty map left out" if left_out else ""
    energy, area, hit, iou = (part[c].to_numpy()[defined] for c in ("energy", "area", "hit", "iou"))
    groups = codes[defined]
    chance = float(area.mean())
    return [
        _mean("energy", energy, groups, seed, chance, note),
        _mean("area", area, groups, seed, None, note),
        _ratio(energy, area, groups, seed, note),
        _mean("pointing", hit, groups, seed, chance, note),
        _mean("iou", iou, groups, seed, None, f"map cut at {THRESHOLD:g} of its maximum"),
    ]


def _mean(name: str, values: FloatArray, groups: IntArray, seed: int, expected: float | None, note: str) -> AuditResult:
    low, high = cluster_bootstrap(values, groups, seed=seed)
    return AuditResult(name, float(values.mean()), low, high, None, len(values), note, expected)


def _ratio(energy: FloatArray, area: FloatArray, groups: IntArray, seed: int, note: str) -> AuditResult:
    if not area.sum():
        return AuditResult.undefined("energy / area", "the regions cover nothing of the input", n=len(area))
    low, high = cluster_bootstrap(energy, groups, seed=seed, denominators=area)
    value = float(energy.sum() / area.sum())
    return AuditResult("energy / area", value, low, high, None, len(area), note, 1.0)
