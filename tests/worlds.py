"""Synthetic worlds whose answer is known: what an encoder sees is planted, not hoped for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class World:
    """Features of images whose lesion and background are known.

    Attributes
    ----------
    vectors
        ``(n, d)`` float32.
    labels, confounder
        ``(n,)`` strings.
    groups
        ``(n,)`` codes.
    """

    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.str_]
    confounder: npt.NDArray[np.str_]
    groups: npt.NDArray[np.int64]


def make_world(
    *, lesion: float, background: float, n: int = 240, d: int = 16, group_size: int = 2, seed: int = 0
) -> World:
    """Plant a lesion and a background of given strengths, independent of one another."""
    rng = np.random.default_rng(seed)
    n_groups = n // group_size
    # Balanced and crossed, then shuffled over groups: a group has one label and one background.
    label = rng.permutation(np.arange(n_groups) % 2)
    confounder = np.empty(n_groups, dtype=np.int64)
    for value in (0, 1):
        members = np.flatnonzero(label == value)
        confounder[members] = rng.permutation(np.arange(len(members)) % 3)
    groups = np.repeat(np.arange(n_groups), group_size)
    label, confounder = label[groups], confounder[groups]
    # Images of one group resemble each other beyond what label and background explain.
    vectors = rng.normal(size=(n, d)) + rng.normal(size=(n_groups, d))[groups]
    directions = np.linalg.qr(rng.normal(size=(d, 5)))[0].T
    vectors += lesion * directions[:2][label] + background * directions[2:][confounder]
    return World(
        vectors.astype(np.float32),
        np.array(["benign", "malignant"])[label],
        np.array(["breast", "axilla", "none"])[confounder],
        groups,
    )


def null(seed: int = 0) -> World:
    """Vectors know nothing."""
    return make_world(lesion=0, background=0, seed=seed)


def lesion_only(seed: int = 0) -> World:
    """Vectors show the label and nothing of the background."""
    return make_world(lesion=12, background=0, seed=seed)


def background_only(seed: int = 0) -> World:
    """Vectors show the background and nothing of the label."""
    return make_world(lesion=0, background=12, seed=seed)


def mixed(seed: int = 0) -> World:
    """Vectors show both."""
    return make_world(lesion=5, background=5, seed=seed)


def one_group(seed: int = 0) -> World:
    """All images are of one patient."""
    world = mixed(seed)
    return World(world.vectors, world.labels, world.confounder, np.zeros_like(world.groups))


def one_class(seed: int = 0) -> World:
    """All images have one label."""
    world = mixed(seed)
    return World(world.vectors, np.full_like(world.labels, "benign"), world.confounder, world.groups)


def duplicates(seed: int = 0) -> World:
    """Every image is there twice, under two group codes: what a leak looks like."""
    world = null(seed)
    return World(
        np.repeat(world.vectors, 2, axis=0),
        np.repeat(world.labels, 2),
        np.repeat(world.confounder, 2),
        np.arange(2 * len(world.groups)),
    )


WORLDS = {
    world.__name__: world for world in (null, lesion_only, background_only, mixed, one_group, one_class, duplicates)
}
