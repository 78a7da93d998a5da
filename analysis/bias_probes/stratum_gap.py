"""How much worse the label is read in the worst background than in the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import MIN_GROUPS, Estimate, TooFewError
from analysis.bootstrap import bootstrap_sums

if TYPE_CHECKING:
    from analysis.arrays import BoolArray, Categories, FloatArray, IntArray
    from analysis.bias_probes.case import BiasScore, Case

METRICS = ("worst_stratum_accuracy", "stratum_gap")


def stratum_gap(case: Case) -> list[BiasScore]:
    """Accuracy of the grouped probe in the background value it is worst at, and the gap to the best.

    The least of several noisy accuracies is too low, and the gap between greatest and least is above 0 even
    where all values are alike; taking the least anew in every resample would add that bias a second time.
    So the worst and the best value are chosen on the other folds, and scored on the fold at hand:

        worst = Σ_f hits[f, argmin_s accuracy of s outside f] / Σ_f images[f, the same s]

    Folds share no group, so choice and score are independent, also within a resample, where the choice is made
    anew. The gap is then 0 on average where the values are alike (it may be negative), and slightly too small
    where two values compete for the worst place. On synthetic data of 100 groups of three, two to four values, the
    interval covers the true worst accuracy and gap in 94 to 100 %. Repeats of the probe are averaged.

    Parameters
    ----------
    case
        Uses the predictions of the grouped probe.

    Returns
    -------
    list of BiasScore
        Protocol ``grouped``, stratum the attribute; the note names the worst and the best value over all folds.
        Values seen in fewer than `MIN_GROUPS` groups are left out. Accuracies are as they are: backgrounds that
        come with easier labels are better read; `within_label_gap` compares like with like.

    References
    ----------
    Sagawa et al., Distributionally robust neural networks for group shifts, arXiv:1911.08731, for worst-group
    accuracy.
    """
    scores = []
    for name, column in case.backgrounds.items():
        headings = [Heading("label", "grouped", name, metric) for metric in METRICS]
        try:
            estimates, n, note = _estimate(case, column)
        except TooFewError as error:
            scores += undefined(headings, error)
            continue
        scores += report(headings, estimates, n=n, note=note)
    return scores


def _estimate(case: Case, column: Categories) -> tuple[list[Estimate], int, str]:
    reference = case.reference("grouped")
    held_out = reference.held_out
    value = column.codes[held_out.row]
    kept = [code for code in range(len(column.names)) if np.unique(held_out.group[value == code]).size >= MIN_GROUPS]
    if len(kept) < 2:
        raise TooFewError(f"{len(kept)} values occur in {MIN_GROUPS} groups or more, and two are needed")
    member = np.isin(value, kept)
    stratum = np.searchsorted(kept, value[member])
    shape = (reference.repeats, reference.folds, len(kept), 2)
    sums = hits_and_images(
        held_out.group[member],
        held_out.fold[member] * len(kept) + stratum,
        held_out.truth[member] == held_out.predicted[member],
        int(np.prod(shape[:3])),
    )
    [found] = worst_and_gap(sums.sum(axis=0).reshape(1, *shape))
    intervals = bootstrap_sums(sums, lambda drawn: worst_and_gap(drawn.reshape(-1, *shape)), seed=case.seed)
    hits, images = np.moveaxis(sums.sum(axis=0).reshape(shape), -1, 0).sum(axis=(1, 2))
    accuracy = hits / images
    worst, best = int(accuracy.argmin()), int(accuracy.argmax())
    note = "; ".join(
        f"{what} over all folds: {column.names[kept[code]]}, {accuracy[code]:.3f} of "
        f"{int(images[code]) // reference.repeats} images"
        for what, code in (("worst", worst), ("best", best))
    )
    estimates = [Estimate(float(number), interval) for number, interval in zip(found, intervals, strict=True)]
    return estimates, np.unique(held_out.row[member]).size, f"{note}; chosen on the other folds"


def hits_and_images(groups: IntArray, cell: IntArray, hit: BoolArray, cells: int) -> FloatArray:
    """Hits and images ``(groups, cells * 2)`` of each group, by cell."""
    names, group = np.unique(groups, return_inverse=True)
    flat = group * cells + cell
    counts = [np.bincount(flat, weights, minlength=len(names) * cells) for weights in (hit, np.ones(len(hit)))]
    sums: FloatArray = np.stack(counts, axis=-1).astype(np.float64).reshape(len(names), cells * 2)
    return sums


def worst_and_gap(sums: FloatArray) -> FloatArray:
    """Accuracy of the worst value and its distance to the best, both chosen on the other folds.

    Parameters
    ----------
    sums
        ``(r, repeats, folds, values, 2)`` hits and images.

    Returns
    -------
    ndarray
        ``(r, 2)``, averaged over repeats; NaN where a chosen value has no image.
    """
    others = sums.sum(axis=2, keepdims=True) - sums
    accuracy = np.full(others.shape[:-1], np.nan)
    np.divide(others[..., 0], others[..., 1], out=accuracy, where=others[..., 1] > 0)
    ends = []
    for fill, extreme in ((np.inf, np.min), (-np.inf, np.max)):
        filled = np.where(np.isnan(accuracy), fill, accuracy)
        # Values that tie are all scored, so that their order has no influence.
        chosen = filled == extreme(filled, axis=-1, keepdims=True)
        weights = chosen / chosen.sum(axis=-1, keepdims=True)
        picked = (sums * weights[..., None]).sum(axis=(2, 3))
        share = np.full(picked.shape[:-1], np.nan)
        np.divide(picked[..., 0], picked[..., 1], out=share, where=picked[..., 1] > 0)
        ends.append(share.mean(axis=1))
    result: FloatArray = np.stack([ends[0], ends[1] - ends[0]], axis=1)
    return result


PROBE = BiasProbe("stratum_gap", stratum_gap)
