"""LinearSVC models of many folds and classes, each fold with its own standardisation and C."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.linear_svc.parts import Part, fit_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class FoldModel:
    """One-versus-rest models of one training part.

    Attributes
    ----------
    classes
        Sorted labels that occur in the training part.
    coef, intercept
        ``(k, d)`` and ``(k,)`` in standardised features; k is 1 for two classes (positive is
        ``classes[1]``), else the number of classes.
    mean, scale
        ``(d,)`` the standardisation: ``(x - mean) / scale``.
    C
        Weight of the loss.
    objective, gap
        ``(k,)`` objective reached and duality gap, which bounds its distance to the minimum.
    iterations
        Newton steps of the slowest class, after its start from another model.
    converged
        Whether every gap is within the tolerance.
    """

    classes: npt.NDArray[Any]
    coef: FloatArray
    intercept: FloatArray
    mean: FloatArray
    scale: FloatArray
    C: float
    objective: FloatArray
    gap: FloatArray
    iterations: int
    converged: bool

    def decision_function(self, X: FloatArray) -> FloatArray:
        """Signed scores of rows ``(n, d)``: ``(n,)`` for two classes, else ``(n, classes)``."""
        scores: FloatArray = ((X - self.mean) / self.scale) @ self.coef.T + self.intercept
        return scores[:, 0] if len(self.coef) == 1 else scores

    def predict(self, X: FloatArray) -> npt.NDArray[Any]:
        """Labels ``(n,)`` of rows ``(n, d)``."""
        scores = self.decision_function(X)
        codes = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes[codes]  # type: ignore[no-any-return]


def fit_folds(
    X: FloatArray,
    y: npt.ArrayLike,
    folds: Sequence[npt.ArrayLike],
    C: float | Sequence[float],
    *,
    sample_weight: npt.ArrayLike | None = None,
    standardize: bool = True,
    tol: float = 1e-6,
    max_iter: int = 100,
) -> list[FoldModel]:
    """Fit scikit-learn's LinearSVC to several training parts of one data set, together and exactly.

    Every model minimises ½‖w‖² + ½b² + C Σ max(0, 1 - y (w·z + b))² over its own rows, one class
    against the rest, where z is x standardised over these rows: `sklearn.svm.LinearSVC` at its optimum
    in a pipeline after `StandardScaler`.

    Parameters
    ----------
    X
        ``(n, d)`` finite features, float32 or float64.
    y
        ``(n,)`` labels.
    folds
        Rows of each training part, as indices without repetition or as a mask ``(n,)``. Rows in no
        part are never read.
    C
        Weight of the loss, one for all parts or one for each.
    sample_weight
        Positive weights of the rows' losses, ``(n,)``, or ``(parts, n)`` to give each part its own; those of rows
        that a part has not are not read. Standardisation is unweighted. Parts are then fitted one by one.
    standardize
        False to fit the features as they are.
    tol
        Largest duality gap, relative to the objective: each objective is at most so far from its
        minimum. Checked in float64.
    max_iter
        Newton steps allowed.

    Returns
    -------
    list[FoldModel]
        One for each training part, in order.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, a part repeats a row or has fewer than two classes, or
        a C or a weight is not positive.
    numpy.linalg.LinAlgError
        If products of the features overflow.

    Warns
    -----
    ConvergenceWarning
        If a model misses `tol`; it says so in `converged` as well.

    Notes
    -----
    Each model is found by Newton's method on the rows that violate their margin (the active set),
    with Cholesky factors and an exact line search. Parts that have at least d rows and at least half
    of all rows are fitted together: in the weights of commonly standardised features a part's own
    standardisation only alters the penalty, so all problems share one float32 matrix, multiply it by
    all weights at once, and start from a model of all rows, adding to its Newton matrix and removing
    from it the rows in which they differ. Gaps are then taken in float64; a part that misses `tol`
    goes on alone in float64. Any other part is fitted alone from the start, over the Gram matrix of
    its rows where these are fewer than d, beginning at the model of the largest part.

    Matrix products run on the BLAS threads the caller allows; no thread is started and no limit is
    set. Limit BLAS to one thread (`threadpoolctl`) where several fits run side by side. With the
    number of threads fixed, equal input gives bit-equal output.

    References
    ----------
    Fan et al., LIBLINEAR, JMLR 9 (2008), for the objective. Keerthi & DeCoste, JMLR 6 (2005), for
    the method.
    """
    X, labels = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or labels.shape != (len(X),):
        raise ValueError(f"X must be (n, d) and y (n,), not {X.shape} and {labels.shape}")
    classes, codes = np.unique(labels, return_inverse=True)
    costs = np.broadcast_to(np.asarray(C, dtype=np.float64), len(folds)).tolist()
    parts = [_part(fold, codes, cost) for fold, cost in zip(folds, costs, strict=True)]
    if sample_weight is not None:
        given = np.asarray(sample_weight, dtype=np.float64)
        if given.shape not in ((len(X),), (len(parts), len(X))):
            raise ValueError(f"sample_weight must be (n,) or (parts, n), not {given.shape}")
        weights = np.broadcast_to(given, (len(parts), len(X)))
        parts = [_weighted(part, own) for part, own in zip(parts, weights, strict=True)]
    fits = fit_parts(X, codes, parts, standardize=standardize, tol=tol, max_iter=max_iter) if parts else []
    short = [f for f, fit in enumerate(fits) if not fit.within(tol)]
    if short:
        from sklearn.exceptions import ConvergenceWarning

        worst = max(float((fits[f].gap / fits[f].objective).max()) for f in short)
        message = f"training parts {short}: relative gap up to {worst:.1e} > {tol:.1e}"
        warnings.warn(message, ConvergenceWarning, stacklevel=2)
    return [
        FoldModel(
            classes=classes[part.present],
            coef=np.ascontiguousarray(fit.v[:-1].T),
            intercept=fit.v[-1].copy(),
            mean=fit.mean,
            scale=fit.scale,
            C=part.cost,
            objective=fit.objective,
            gap=fit.gap,
            iterations=fit.iterations,
            converged=fit.within(tol),
        )
        for part, fit in zip(parts, fits, strict=True)
    ]


def _weighted(part: Part, weights: FloatArray) -> Part:
    """Give a training part the weights of its rows, out of those of all rows."""
    own = weights[part.rows]
    if not (np.isfinite(own) & (own > 0)).all():
        raise ValueError("weights must be positive and finite: leave out the rows that shall not count")
    return replace(part, weights=own)


def _part(fold: npt.ArrayLike, codes: IntArray, cost: float) -> Part:
    """Check one training part."""
    rows = np.asarray(fold)
    if rows.dtype == np.bool_:
        if rows.shape != codes.shape:
            raise ValueError(f"a mask of rows must have shape {codes.shape}, not {rows.shape}")
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError("a training part must be a mask or a list of row numbers")
    ordered = np.unique(rows).astype(np.int64)
    if len(ordered) != len(rows):
        raise ValueError("a training part repeats a row")
    if len(rows) and not 0 <= ordered[0] <= ordered[-1] < len(codes):
        raise ValueError(f"row numbers must be in 0 .. {len(codes) - 1}")
    if not (cost > 0 and np.isfinite(cost)):
        raise ValueError(f"C must be positive and finite, not {cost}")
    present = np.unique(codes[ordered])
    if len(present) < 2:
        raise ValueError(f"a training part needs at least two classes, not {len(present)} class")
    return Part(ordered, present, cost)
