"""How much worse images of one and the same label are read in one background than in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.bias_probes.case import BiasProbe, Heading, report, undefined
from analysis.bias_probes.held_out import MIN_GROUPS, Estimate, TooFewError
from analysis.bias_probes.stratum_gap import hits_and_images, worst_and_gap
from analysis.bootstrap import bootstrap_sums

if TYPE_CHECKING:
    from analysis.arrays import Categories, FloatArray, IntArray
    from analysis.bias_probes.case import BiasScore, Case
    from analysis.scoring import HeldOut


def within_label_gap(case: Case) -> list[BiasScore]:
    """Gap in accuracy between background values among images of one label, averaged over labels.

    Whatever labels a background comes with, this gap is 0 where the probe does not read it; a probe that takes the
    background for the label reads images badly whose background usually goes with another. Worst and best value are
    chosen on the other folds, as in `stratum_gap`.

    Parameters
    ----------
    case
        Uses the predictions of the grouped probe.

    Returns
    -------
    list of BiasScore
        Protocol ``grouped``, stratum the attribute. Pairs of label and value seen in fewer than `MIN_GROUPS` groups are
        left out, and labels with fewer than two values; the note names the labels that remain.

    References
    ----------
    Sagawa et al., arXiv:1911.08731, whose groups are pairs of label and attribute.
    """
    scores = []
    for name, column in case.backgrounds.items():
        headings = [Heading("label", "grouped", name, "within_label_gap")]
        try:
            found, n, note = _estimate(case, column)
        except TooFewError as error:
            scores += undefined(headings, error)
            continue
        scores += report(headings, [found], n=n, note=note)
    return scores


def _estimate(case: Case, column: Categories) -> tuple[Estimate, int, str]:
    reference = case.reference("grouped")
    held_out = reference.held_out
    value = column.codes[held_out.row]
    kept = {
        label: values
        for label in np.unique(held_out.truth).tolist()
        if len(values := _common(held_out, value, label, len(column.names))) >= 2
    }
    if not kept:
        raise TooFewError(f"no label occurs in {MIN_GROUPS} groups or more with each of two values")
    # Which pair of label and value an image is of, counted on; -1 for those left out.
    pair = np.full(len(value), -1)
    for start, (label, values) in zip(_starts(kept), kept.items(), strict=True):
        for place, code in enumerate(values):
            pair[(held_out.truth == label) & (value == code)] = start + place
    member = pair >= 0
    pairs = int(pair.max()) + 1
    sums = hits_and_images(
        held_out.group[member],
        held_out.fold[member] * pairs + pair[member],
        held_out.truth[member] == held_out.predicted[member],
        reference.repeats * reference.folds * pairs,
    )

    def mean_gap(drawn: FloatArray) -> FloatArray:
        cells = drawn.reshape(len(drawn), reference.repeats, reference.folds, pairs, 2)
        gaps = [
            worst_and_gap(cells[:, :, :, start : start + len(values)])[:, 1]
            for start, values in zip(_starts(kept), kept.values(), strict=True)
        ]
        return np.mean(gaps, axis=0)[:, None]  # type: ignore[no-any-return]

    [gap] = mean_gap(sums.sum(axis=0)[None])[0].tolist()
    [interval] = bootstrap_sums(sums, mean_gap, seed=case.seed)
    names = ", ".join(case.labels.names[label] for label in kept)
    note = f"within {names}; worst and best value chosen on the other folds"
    return Estimate(gap, interval), np.unique(held_out.row[member]).size, note


def _common(held_out: HeldOut, value: IntArray, label: int, n_values: int) -> list[int]:
    """Values that occur in enough groups of a label."""
    group = [held_out.group[(held_out.truth == label) & (value == code)] for code in range(n_values)]
    return [code for code, of_value in enumerate(group) if np.unique(of_value).size >= MIN_GROUPS]


def _starts(kept: dict[int, list[int]]) -> list[int]:
    """Where each label's pairs begin."""
    return np.cumsum([0, *(len(values) for values in kept.values())])[:-1].tolist()  # type: ignore[no-any-return]


PROBE = BiasProbe("within_label_gap", within_label_gap)
