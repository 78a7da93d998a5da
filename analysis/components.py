"""A first look at vectors: the two directions in which they vary most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analysis.arrays import FloatArray


def principal_components(vectors: FloatArray) -> FloatArray:
    """Return the places ``(n, 2)`` of vectors ``(n, d)`` along their first two principal components.

    By way of the ``(n, n)`` products, so that many dimensions cost little: for some hundred vectors. The sign of a
    component is chosen so that its largest place is positive.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, basis = np.linalg.eigh(centred @ centred.T)
    places = np.zeros((len(vectors), 2))
    # In ascending order; one or two vectors have fewer directions.
    for column, (value, direction) in enumerate(zip(values[::-1][:2], basis.T[::-1][:2], strict=True)):
        signed = direction * np.sign(direction[np.abs(direction).argmax()])
        places[:, column] = signed * np.sqrt(max(value, 0.0))
    return places
