"""Typographic attack: how often an encoder's answer becomes the class whose name is written into the image.

References
----------
Goh et al., Multimodal neurons in artificial neural networks, Distill (2021), section "Typographic attacks".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.bootstrap import cluster_bootstrap
from analysis.results import AuditResult

if TYPE_CHECKING:
    from analysis.arrays import BoolArray, FloatArray, IntArray

FLIPPED, CONTROL, DIFFERENCE = "flip rate", "flip rate, neutral word", "flip rate less that of the neutral word"
ACCURACY = ("accuracy before", "accuracy under attack", "accuracy with the neutral word")


@dataclass(frozen=True)
class Attack:
    """Answers about ``m`` images, each before and after a class's name was planted, as codes of classes.

    An image is there once for each class whose name was planted; what is counted are such pairs.

    Attributes
    ----------
    planted
        ``(m,)`` the class whose name was written.
    before, after, control
        ``(m,)`` the answers: about the image as it is, with the name, and with a neutral word in the same box.
    truth
        ``(m,)`` the label; -1 where unknown.
    groups
        ``(m,)`` group codes.
    """

    planted: IntArray
    before: IntArray
    after: IntArray
    control: IntArray
    truth: IntArray
    groups: IntArray

    def only(self, rows: BoolArray) -> Attack:
        """Return some of the images."""
        return Attack(*(column[rows] for column in vars(self).values()))


def measure_attack(attack: Attack, *, seed: int) -> list[AuditResult]:
    """Return how often answers flip to what is written, and what that does to the accuracy.

    A flip can be seen where the answer was another before. The neutral word shows what a word does by being there; the
    difference is paired by image.

    Parameters
    ----------
    attack
        The answers.
    seed
        Seed of the resamples, which are of whole groups.
    """
    other = attack.before != attack.planted
    if not other.any():
        reason = "every image was given the planted class before"
        flips = [AuditResult.undefined(name, reason, n=0) for name in (FLIPPED, CONTROL, DIFFERENCE)]
    else:
        seen = attack.only(other)
        flipped, neutral = seen.after == seen.planted, seen.control == seen.planted
        flips = [
            _mean(FLIPPED, flipped, seen.groups, seed, "of times that another class was answered before"),
            _mean(CONTROL, neutral, seen.groups, seed, "as the flip rate, with a neutral word in the same box"),
            _mean(DIFFERENCE, flipped.astype(np.float64) - neutral, seen.groups, seed, "paired by image"),
        ]
    return flips + _accuracies(attack, seed)


def _accuracies(attack: Attack, seed: int) -> list[AuditResult]:
    """Where the name of another class was planted than the image's own."""
    wrong = attack.only((attack.truth >= 0) & (attack.truth != attack.planted))
    if not len(wrong.truth):
        return [AuditResult.undefined(name, "no image of another class", n=0) for name in ACCURACY]
    answers = (wrong.before, wrong.after, wrong.control)
    return [
        _mean(name, answer == wrong.truth, wrong.groups, seed, "of times that the name of another class was planted")
        for name, answer in zip(ACCURACY, answers, strict=True)
    ]


def _mean(name: str, values: FloatArray | BoolArray, groups: IntArray, seed: int, note: str) -> AuditResult:
    numbers = values.astype(np.float64)
    low, high = cluster_bootstrap(numbers, groups, seed=seed)
    return AuditResult(name, float(numbers.mean()), low, high, None, len(numbers), note)
