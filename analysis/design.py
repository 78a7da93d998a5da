"""What a design can support: where label and background can be told apart at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.statistics import contingency

if TYPE_CHECKING:
    from analysis.arrays import BoolArray, Categories, IntArray

# A combination of label and background seen in fewer groups than this is one patient's story.
MIN_GROUPS_PER_CELL = 3
_CELLS_NAMED = 8


@dataclass(frozen=True)
class Comparable:
    """The images on which label and background can be set against one another.

    Attributes
    ----------
    keep
        ``(n,)`` True where the image's label occurs with another of the backgrounds kept, and its background with
        another of the labels kept.
    note
        Which labels and backgrounds are left out; empty where none is.
    """

    keep: BoolArray
    note: str


def comparable(labels: Categories, confounder: Categories, groups: IntArray) -> Comparable:
    """Find the images for which following the label and following the background are different things.

    A neighbour of the same label and *another* background must be possible, and one of another label and the *same*
    background: else the image can only be found to follow the one that is possible. Combinations seen in fewer than
    `MIN_GROUPS_PER_CELL` groups do not count; what is left out may take others with it, so this is repeated.

    Parameters
    ----------
    labels, confounder
        ``(n,)`` categories, all known.
    groups
        ``(n,)`` group codes.

    Returns
    -------
    Comparable
        None is kept where label and background coincide.
    """
    seen = groups_per_cell(labels, confounder, groups) >= MIN_GROUPS_PER_CELL
    while True:
        crossed = seen & (seen.sum(axis=1) >= 2)[:, None] & (seen.sum(axis=0) >= 2)[None, :]
        if (crossed == seen).all():
            break
        seen = crossed
    keep = seen[labels.codes, confounder.codes]
    return Comparable(keep, _left_out(keep, seen, labels, confounder))


def groups_per_cell(labels: Categories, confounder: Categories, groups: IntArray) -> IntArray:
    """Count the groups of every combination, ``(labels, backgrounds)``."""
    cells = np.unique(np.stack([labels.codes, confounder.codes, groups], axis=1), axis=0)
    table = np.zeros((len(labels.names), len(confounder.names)), dtype=np.int64)
    np.add.at(table, (cells[:, 0], cells[:, 1]), 1)
    return table


def describe_cells(labels: Categories, confounder: Categories) -> str:
    """Name the combinations that no image has."""
    table = contingency(labels.codes, confounder.codes)
    full = np.zeros((len(labels.names), len(confounder.names)), dtype=np.int64)
    full[: table.shape[0], : table.shape[1]] = table
    empty = [f"{labels.names[i]} with {confounder.names[j]}" for i, j in np.argwhere(full == 0)]
    if not empty:
        return "all combinations of label and background occur"
    more = f" and {len(empty) - _CELLS_NAMED} more" if len(empty) > _CELLS_NAMED else ""
    return f"no image of: {', '.join(empty[:_CELLS_NAMED])}{more}"


def _left_out(keep: BoolArray, seen: BoolArray, labels: Categories, confounder: Categories) -> str:
    if keep.all():
        return ""
    if not keep.any():
        return (
            "label and background cannot be told apart: no label occurs with two backgrounds that each occur with "
            f"another label too, in {MIN_GROUPS_PER_CELL} groups or more"
        )
    gone = [labels.names[i] for i in np.flatnonzero(~seen.any(axis=1))]
    gone += [confounder.names[j] for j in np.flatnonzero(~seen.any(axis=0))]
    named = f", all of {', '.join(gone[:_CELLS_NAMED])}" if gone else ""
    more = f" and {len(gone) - _CELLS_NAMED} more" if len(gone) > _CELLS_NAMED else ""
    return (
        f"on the {int(keep.sum())} images whose label occurs with several backgrounds and whose background with "
        f"several labels; {int((~keep).sum())} left out{named}{more}"
    )
