"""Test part and folds of a probe, at random or by group."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.arrays import Categories, IntArray

PROTOCOLS = ("published", "grouped")
TEST_PARTS = 5


@dataclass(frozen=True)
class Split:
    """Rows of a held-out test part and of the folds of the rest.

    Attributes
    ----------
    test
        Rows of the test part, ascending.
    folds
        For each fold the rows to fit on and the rows to score; the latter cover the rest exactly once.
    """

    test: IntArray
    folds: tuple[tuple[IntArray, IntArray], ...]


def split_images(labels: Categories, groups: IntArray, *, protocol: str, folds: int, seed: int) -> Split:
    """Hold out a fifth of the images for test and divide the rest into folds.

    Parameters
    ----------
    labels
        ``(n,)`` known categories.
    groups
        ``(n,)`` group codes.
    protocol
        ``published``: random, stratified by label, groups ignored. ``grouped``: whole groups, stratified
        as far as the groups allow; the test part is one of five such parts, about 20 %.
    folds
        Number of folds.
    seed
        Seed of both divisions.

    Returns
    -------
    Split
        Test part and folds.

    Raises
    ------
    ValueError
        For an unknown protocol, a single class, a class with fewer images (groups) than ``folds + 1``, or
        groups so unequal that a fold would be fitted without some class.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    _require_members(labels, groups if protocol == "grouped" else None, folds)
    y, rows = labels.codes, np.arange(len(labels.codes))
    with _small_classes_allowed():
        if protocol == "published":
            rest, test = train_test_split(rows, test_size=1 / TEST_PARTS, stratify=y, random_state=seed)
            rest.sort()
            splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
            parts = list(splitter.split(rest, y[rest]))
        else:
            _require_groups(groups, TEST_PARTS)
            holdout = StratifiedGroupKFold(TEST_PARTS, shuffle=True, random_state=seed)
            rest, test = next(holdout.split(rows, y, groups))
            _require_groups(groups[rest], folds)
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            parts = list(splitter.split(rest, y[rest], groups[rest]))
    split = Split(np.sort(test), tuple((rest[fit], rest[held_out]) for fit, held_out in parts))
    _require_all_classes(split, labels)
    return split


def grouped_folds(
    labels: Categories, groups: IntArray, *, folds: int, seed: int
) -> tuple[tuple[IntArray, IntArray], ...]:
    """Divide all images into folds of whole groups, stratified by label as far as the groups allow.

    Parameters
    ----------
    labels, groups, folds, seed
        As in `split_images`.

    Returns
    -------
    tuple
        For each fold the rows to fit on and the rows held out; the latter cover all rows exactly once.

    Raises
    ------
    ValueError
        As `split_images`, save that no test part is needed.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    _require_members(labels, groups, folds - 1)
    _require_groups(groups, folds)
    with _small_classes_allowed():
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        parts = tuple(splitter.split(np.arange(len(labels.codes)), labels.codes, groups))
    _require_all_classes(Split(np.array([], np.int64), parts), labels)
    return parts


def _require_members(labels: Categories, groups: IntArray | None, folds: int) -> None:
    """Refuse a class too small to stand in the test part and in every fold."""
    if len(labels.names) < 2:
        raise ValueError(f"a probe needs two classes or more, not {len(labels.names)}: {labels.names}")
    units = np.arange(len(labels.codes)) if groups is None else groups
    what = "images" if groups is None else "groups"
    for code, name in enumerate(labels.names):
        count = np.unique(units[labels.codes == code]).size
        if count < folds + 1:
            raise ValueError(
                f"class {name!r} has {count} {what}, fewer than the {folds + 1} that {folds} folds and a "
                f"test part need: drop it, merge it with another class, or take fewer folds"
            )


def _require_groups(groups: IntArray, parts: int) -> None:
    count = np.unique(groups).size
    if count < parts:
        raise ValueError(
            f"{count} groups cannot be divided into {parts} parts: take fewer folds, or the published protocol"
        )


def _require_all_classes(split: Split, labels: Categories) -> None:
    for number, (fit, _) in enumerate(split.folds):
        missing = sorted(set(range(len(labels.names))) - set(labels.codes[fit].tolist()))
        if missing:
            names = ", ".join(repr(labels.names[code]) for code in missing)
            raise ValueError(
                f"fold {number} would be fitted without class {names}, whose images lie in too few groups: "
                "drop or merge the class, take fewer folds, or another seed"
            )


@contextmanager
def _small_classes_allowed() -> Iterator[None]:
    with warnings.catch_warnings():
        # A class of six loses one or two to the test part, and then misses from one held-out fold; every
        # fold is still fitted with it, which is checked.
        warnings.filterwarnings("ignore", message="The least populated class in y", category=UserWarning)
        yield


class Parts(NamedTuple):
    """Rows of the three parts of a training, ascending."""

    train: IntArray
    validation: IntArray
    test: IntArray


def training_parts(labels: Categories, groups: IntArray, *, seed: int) -> Parts:
    """Divide images of one label each into parts for training by gradient, whole groups together.

    The test part is that of the grouped probes of the same seed, a fifth; the validation part is their first fold,
    a fifth of the rest.

    Parameters
    ----------
    labels
        ``(n,)`` known categories.
    groups
        ``(n,)`` group codes.
    seed
        Seed of the division.

    Raises
    ------
    ValueError
        As `split_images`.
    """
    split = split_images(labels, groups, protocol="grouped", folds=TEST_PARTS, seed=seed)
    train, validation = split.folds[0]
    return Parts(np.sort(train), np.sort(validation), split.test)


def training_parts_of_sets(groups: IntArray, *, seed: int) -> Parts:
    """Divide images of several labels each: 70, 15 and 15 % of the groups at random, as the study does by patient.

    Parameters
    ----------
    groups
        ``(n,)`` group codes.
    seed
        Seed of the division.

    Raises
    ------
    ValueError
        If there are too few groups for three parts.

    References
    ----------
    Sadman, Zulkernine & Kwan, arXiv:2506.14136.
    """
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    held_out = round(0.15 * len(names))
    if held_out < 1:
        raise ValueError(f"{len(names)} groups cannot be divided into parts of 70, 15 and 15 %: four are needed")
    test, validation = names[:held_out], names[held_out : 2 * held_out]
    part_of = [np.flatnonzero(np.isin(groups, part)) for part in (names[2 * held_out :], validation, test)]
    return Parts(*part_of)
