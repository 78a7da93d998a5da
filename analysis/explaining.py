"""What an image's neighbours have in common, whether or not the image is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA = {
    "attribute": pl.String,
    "value": pl.String,
    "neighbors": pl.Int64,
    "of": pl.Int64,
    "share": pl.Float64,
    "share_in_data_set": pl.Float64,
    "labels": pl.String,
}


def what_neighbors_share(
    neighbors: Sequence[int], labels: Sequence[str | None], backgrounds: Mapping[str, Sequence[str | None]]
) -> pl.DataFrame:
    """Rank labels and background values by how much more frequent they are among neighbours than in the data set.

    Parameters
    ----------
    neighbors
        Rows of the neighbours.
    labels
        ``(n,)`` label of every image of the data set; None is unknown.
    backgrounds
        Background attributes by name, each as `labels`.

    Returns
    -------
    polars.DataFrame
        `SCHEMA`, a row per value that any neighbour has, the largest excess first; the attribute of the label is called
        ``label``. `of` counts the neighbours whose value is known, and `labels` says what the neighbours with the value
        are: one background and several labels is a neighbourhood of the background.
    """
    rows = []
    for name, values in {"label": labels, **backgrounds}.items():
        known = [value for value in values if value is not None]
        near = [values[row] for row in neighbors if values[row] is not None]
        for value in dict.fromkeys(near):
            having = [labels[row] or "unknown" for row in neighbors if values[row] == value]
            counted = sorted(
                {label: having.count(label) for label in having}.items(), key=lambda each: (-each[1], each[0])
            )
            rows.append(
                {
                    "attribute": name,
                    "value": value,
                    "neighbors": len(having),
                    "of": len(near),
                    "share": len(having) / len(near),
                    "share_in_data_set": sum(each == value for each in known) / len(known),
                    "labels": ", ".join(f"{label} {count}" for label, count in counted),
                }
            )
    excess = pl.col("share") - pl.col("share_in_data_set")
    return pl.DataFrame(rows, schema=SCHEMA).sort([excess, "attribute", "value"], descending=[True, False, False])
