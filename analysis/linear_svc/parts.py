"""Fits binary problems of several training parts, together in float32 or alone in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.linear_svc.newton import (
    BinaryProblems,
    FactoredGram,
    FactoredHessian,
    Solution,
    minimise,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from analysis.arrays import FloatArray, IntArray

# Rows turned to float64 at once.
_BLOCK_ELEMENTS = 2**21
# Newton matrices held at once.
_MATRIX_BYTES = 2**30
# Relative gap of the models of all rows, from which the others start.
_START_TOL = 1e-3
# Below this share of a column's variance a fold's variance is taken again, free of cancellation.
_SUSPICIOUS_VARIANCE = 1e-4


@dataclass(frozen=True)
class Part:
    """Rows of a training part, the codes of the classes in them, the C to use, and the rows' weights if they differ."""

    rows: IntArray
    present: IntArray
    cost: float
    weights: FloatArray | None = None

    @property
    def targets(self) -> IntArray:
        """Codes of the classes that get a binary problem of their own."""
        return self.present[1:] if len(self.present) == 2 else self.present


@dataclass(frozen=True)
class Fit:
    """Weights and intercepts ``(d + 1, k)`` of standardised features and how good they are."""

    v: FloatArray
    objective: FloatArray
    gap: FloatArray
    iterations: int
    mean: FloatArray
    scale: FloatArray

    def within(self, tol: float) -> bool:
        """Whether every gap is at most `tol` of its objective."""
        return bool(np.all(self.gap <= tol * self.objective))


def fit_parts(
    X: FloatArray, codes: IntArray, parts: Sequence[Part], *, standardize: bool, tol: float, max_iter: int
) -> list[Fit]:
    """Fit training parts, together where that pays; fits may miss `tol`, which they tell."""
    used = np.unique(np.concatenate([part.rows for part in parts]))
    if not np.isfinite(X if len(used) == len(X) else X[used]).all():
        raise ValueError("X must be finite")
    fits: dict[int, Fit] = {}
    joint = [
        f for f, part in enumerate(parts) if part.weights is None and len(part.rows) >= max(X.shape[1], len(used) / 2)
    ]
    if len(joint) > 1:
        alike = [parts[f] for f in joint]
        together = _fit_together(X, codes, alike, standardize=standardize, tol=tol, max_iter=max_iter)
        fits = dict(zip(joint, together, strict=True))
    # For each set of classes, the fit of the largest part.
    largest: dict[tuple[int, ...], Fit] = {}
    for f in sorted(range(len(parts)), key=lambda f: -len(parts[f].rows)):
        classes = tuple(parts[f].present.tolist())
        if f not in fits or not fits[f].within(tol):
            start = fits.get(f, largest.get(classes))
            fits[f] = _fit_alone(X, codes, parts[f], standardize=standardize, tol=tol, max_iter=max_iter, start=start)
        largest.setdefault(classes, fits[f])
    return [fits[f] for f in range(len(parts))]


def _standardisation(X: FloatArray, *, standardize: bool) -> tuple[FloatArray, FloatArray]:
    """Mean and scale ``(d,)`` as StandardScaler takes them."""
    if not standardize:
        return np.zeros(X.shape[1]), np.ones(X.shape[1])
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(X)
    return scaler.mean_.astype(np.float64), scaler.scale_.astype(np.float64)


def _signs(codes: IntArray, targets: IntArray) -> npt.NDArray[np.float32]:
    """``(n, k)`` +1 where the row is of the target class, else -1."""
    return np.where(codes[:, None] == targets, np.float32(1), np.float32(-1))


def _chunks(targets: IntArray, bytes_each: int) -> Iterator[IntArray]:
    """Divide classes so that their Newton matrices fit in memory."""
    size = max(1, _MATRIX_BYTES // bytes_each)
    for start in range(0, len(targets), size):
        yield targets[start : start + size]


def _fit_alone(
    X: FloatArray, codes: IntArray, part: Part, *, standardize: bool, tol: float, max_iter: int, start: Fit | None
) -> Fit:
    """Fit one training part, with products in float64."""
    rows = X[part.rows].astype(np.float64)
    mean, scale = _standardisation(X[part.rows], standardize=standardize)
    design = np.column_stack([(rows - mean) / scale, np.ones(len(rows))])
    v = np.zeros((design.shape[1], len(part.targets)))
    if start is not None:
        v = _restate(start.v, start.mean, start.scale, mean, scale)
    signs = _signs(codes[part.rows], part.targets).astype(np.float64)
    weighted = design
    if part.weights is not None:
        roots = np.sqrt(part.weights)[:, None]
        signs, weighted = roots * signs, roots * design
    pieces = []
    for columns in _chunks(np.arange(len(part.targets)), 8 * min(design.shape) ** 2):
        problems = BinaryProblems.plain(signs[:, columns], part.cost, X.shape[1])
        pieces.append(_minimise_alone(design, weighted, problems, v[:, columns], tol=tol, max_iter=max_iter))
    v = np.concatenate([piece.v for piece in pieces], axis=1)
    return Fit(
        v,
        np.concatenate([piece.objective for piece in pieces]),
        np.concatenate([piece.gap for piece in pieces]),
        max(int(piece.iterations.max()) for piece in pieces),
        mean,
        scale,
    )


def _minimise_alone(
    design: FloatArray, weighted: FloatArray, problems: BinaryProblems, v: FloatArray, *, tol: float, max_iter: int
) -> Solution:
    """Minimise with float32 factors, which limit the pace and not the result, then with float64 ones.

    `weighted` is the design with each row times its sign's magnitude: the Newton matrix is a sum over its rows.
    """
    factored = FactoredGram if len(design) < design.shape[1] else FactoredHessian
    try:
        # Features beyond float32 become infinite, which the factors refuse.
        with np.errstate(over="ignore", invalid="ignore"):
            rough = minimise(design, problems, v, factored(weighted, np.float32), tol=tol, max_iter=max_iter // 2)
    except np.linalg.LinAlgError:
        return minimise(design, problems, v, factored(weighted, np.float64), tol=tol, max_iter=max_iter)
    if np.all(rough.gap <= tol * rough.objective):
        return rough
    final = minimise(
        design, problems, rough.v, factored(weighted, np.float64), tol=tol, max_iter=max_iter - max_iter // 2
    )
    return replace(final, iterations=final.iterations + rough.iterations)


def _fit_together(
    X: FloatArray, codes: IntArray, parts: list[Part], *, standardize: bool, tol: float, max_iter: int
) -> list[Fit]:
    """Fit training parts that have most rows in common, in float32 with a float64 check."""
    used = np.unique(np.concatenate([part.rows for part in parts]))
    member = np.stack([np.isin(used, part.rows) for part in parts], axis=1).astype(np.float32)
    mean, scale = _standardisation(X[used], standardize=standardize)
    design = np.ones((len(used), X.shape[1] + 1), dtype=np.float32)
    sums, squares = np.zeros((2, len(parts), X.shape[1]))
    for rows, block in _blocks(X, used, mean, scale):
        design[rows] = block
        sums += member[rows].T @ block[:, :-1]
        squares += member[rows].T @ block[:, :-1] ** 2
    if standardize:
        shift, stretch = _own_standardisation(X, parts, sums, squares, mean, scale)
    else:
        shift, stretch = np.zeros_like(sums.T), np.ones_like(sums.T)
    part_of = np.repeat(np.arange(len(parts)), [len(part.targets) for part in parts])
    class_of = np.concatenate([part.targets for part in parts])
    problems = BinaryProblems(
        _signs(codes[used], class_of) * member[:, part_of],
        np.array([part.cost for part in parts])[part_of],
        shift[:, part_of],
        stretch[:, part_of],
    )
    v = np.empty((design.shape[1], len(part_of)))
    iterations = np.empty(len(part_of), dtype=np.int64)
    # A model of all rows weighs its loss as the parts do, per row.
    cost = float(np.median([part.cost * len(part.rows) for part in parts])) / len(used)
    root = FactoredHessian(design, np.float32)
    for chunk in _chunks(np.unique(class_of), 4 * design.shape[1] ** 2 * (len(parts) + 1)):
        columns = np.flatnonzero(np.isin(class_of, chunk))
        nearest = np.searchsorted(chunk, class_of[columns])
        factored = root.restart()
        common = BinaryProblems.plain(_signs(codes[used], chunk), cost, X.shape[1])
        start = minimise(
            design, common, np.zeros((design.shape[1], len(chunk))), factored, tol=_START_TOL, max_iter=max_iter
        )
        solution = minimise(
            design,
            problems.take(columns),
            start.v[:, nearest],
            factored.restart(nearest.tolist()),
            # Room for the difference between this gap and the one taken in float64.
            tol=tol / 2,
            max_iter=max_iter,
        )
        v[:, columns], iterations[columns] = solution.v, solution.iterations

    objective, gap = _evaluate(_blocks(X, used, mean, scale), problems, v)
    fits = []
    for f in range(len(parts)):
        own = part_of == f
        own_mean, own_scale = mean + scale * shift[:, f], scale * stretch[:, f]
        own_v = _restate(v[:, own], mean, scale, own_mean, own_scale)
        fits.append(Fit(own_v, objective[own], gap[own], int(iterations[own].max()), own_mean, own_scale))
    return fits


def _restate(
    v: FloatArray, mean: FloatArray, scale: FloatArray, new_mean: FloatArray, new_scale: FloatArray
) -> FloatArray:
    """Weights and intercepts ``(d + 1, k)`` of the same function under another standardisation."""
    weights = v[:-1] * (new_scale / scale)[:, None]
    intercept = v[-1] + ((new_mean - mean) / scale) @ v[:-1]
    return np.vstack([weights, intercept])


def _blocks(X: FloatArray, used: IntArray, mean: FloatArray, scale: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Standardised float64 rows with a column of ones, block by block, and where they belong."""
    size = max(1, _BLOCK_ELEMENTS // X.shape[1])
    for first in range(0, len(used), size):
        rows = slice(first, first + size)
        block = np.ones((len(used[rows]), X.shape[1] + 1))
        np.subtract(X[used[rows]], mean, out=block[:, :-1])
        block[:, :-1] /= scale
        yield rows, block


def _own_standardisation(
    X: FloatArray, parts: list[Part], sums: FloatArray, squares: FloatArray, mean: FloatArray, scale: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and scale ``(d, parts)`` of each part in units of the common standardisation."""
    counts = np.array([[len(part.rows)] for part in parts])
    shift = sums / counts
    variance = squares / counts - shift**2
    suspicious = variance < _SUSPICIOUS_VARIANCE
    stretch = np.sqrt(np.where(suspicious, 1.0, variance))
    for f, part in enumerate(parts):
        columns = np.flatnonzero(suspicious[f])
        if len(columns):
            # Constant, or nearly, in this part alone: StandardScaler decides which.
            exact_mean, exact_scale = _standardisation(X[np.ix_(part.rows, columns)], standardize=True)
            shift[f, columns] = (exact_mean - mean[columns]) / scale[columns]
            stretch[f, columns] = exact_scale / scale[columns]
    return shift.T, stretch.T


def _evaluate(
    blocks: Iterator[tuple[slice, FloatArray]], problems: BinaryProblems, v: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Objective and duality gap ``(T,)`` in float64."""
    gradient = problems.penalty_gradient(v)
    objective = 0.5 * np.einsum("jt,jt->t", v, gradient)
    gradient = gradient.copy()
    for rows, block in blocks:
        signs = problems.signs[rows].astype(np.float64)
        violation = np.maximum(np.abs(signs) - signs * (block @ v), 0)
        objective += problems.cost * np.einsum("it,it->t", violation, violation)
        gradient -= 2 * problems.cost * (block.T @ (signs * violation))
    return objective, problems.duality_gap(gradient)
