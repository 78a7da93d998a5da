"""Multiple testing, association of categories, and groups of dependent images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.arrays import Categorical, FloatArray, IntArray


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """Adjust p-values for the false discovery rate.

    Parameters
    ----------
    p_values
        ``(m,)`` in [0, 1].

    Returns
    -------
    ndarray
        ``(m,)``: the smallest rate at which each would be called.

    Raises
    ------
    ValueError
        If a value is outside [0, 1] or NaN.

    References
    ----------
    Benjamini & Hochberg, JRSS B 57 (1995).
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("p-values must lie in [0, 1]")
    m = len(p_values)
    order = np.argsort(p_values)
    scaled = p_values[order] * m / np.arange(1, m + 1)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return adjusted


def contingency(a: IntArray, b: IntArray) -> IntArray:
    """Count pairs of codes, ``(a.max()+1, b.max()+1)``."""
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(a * columns + b, minlength=rows * columns).reshape(rows, columns)


def cramers_v(a: IntArray, b: IntArray) -> float | None:
    """Association of two categorical columns, without bias correction.

    ``V = sqrt(χ² / (n · (min(rows, columns) - 1)))`` over the codes that occur.

    Parameters
    ----------
    a, b
        ``(n,)`` codes ≥ 0.

    Returns
    -------
    float or None
        In [0, 1]; None where a column is constant or empty.

    References
    ----------
    Cramér, Mathematical Methods of Statistics (1946), section 21.9.
    """
    if len(a) == 0:
        return None
    value = float(cramers_v_of_tables(contingency(a, b)[None].astype(np.float64))[0])
    return None if np.isnan(value) else value


def cramers_v_of_tables(tables: FloatArray) -> FloatArray:
    """Cramér's V of each contingency table, ``(r, rows, columns)`` to ``(r,)``; NaN where undefined."""
    row_sums, column_sums = tables.sum(axis=2), tables.sum(axis=1)
    total = row_sums.sum(axis=1)
    expected = row_sums[:, :, None] * column_sums[:, None, :]
    # chi²/n = Σ O² / (row · column) - 1; empty rows and columns add nothing.
    ratio = np.divide(tables**2, expected, out=np.zeros_like(tables), where=expected > 0)
    phi_squared = np.maximum(ratio.sum(axis=(1, 2)) - 1, 0)
    smaller = np.minimum((row_sums > 0).sum(axis=1), (column_sums > 0).sum(axis=1)) - 1
    squared: FloatArray = np.full(len(tables), np.nan)
    np.divide(phi_squared, smaller, out=squared, where=(smaller > 0) & (total > 0))
    root: FloatArray = np.sqrt(squared)
    return root


def connected_groups(columns: Sequence[Categorical]) -> IntArray:
    """Join images that share a value of any column into one group.

    A patient's images share a patient id, near duplicates a cluster id; an image may tie both together.

    Parameters
    ----------
    columns
        One or more ``(n,)`` columns of strings; None shares nothing.

    Returns
    -------
    ndarray
        ``(n,)`` group codes from 0, in order of first appearance. A row without any value is a group of
        its own.

    Raises
    ------
    ValueError
        If there is no column, or lengths differ.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise ValueError(f"group columns must be one or more, of one length, not of lengths {sorted(lengths)}")
    n = lengths.pop()
    # Images are nodes 0 .. n-1; every distinct value of a column is a further node.
    nodes: dict[tuple[int, Any], int] = {}
    rows, values = [], []
    for number, column in enumerate(columns):
        for row, value in enumerate(column):
            if value is not None:
                rows.append(row)
                values.append(n + nodes.setdefault((number, value), len(nodes)))
    size = n + len(nodes)
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, values)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    _, first, inverse = np.unique(component[:n], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
