"""Newton's method for the squared hinge loss, for many binary problems on one matrix of rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from analysis.arrays import BoolArray, FloatArray, IntArray

_MAX_LINE_STEPS = 30


@dataclass(frozen=True)
class BinaryProblems:
    """Binary problems that share their rows; column t of every array belongs to problem t.

    Problem t is to minimise, over weights ``u = v[:-1]`` and an intercept ``c = v[-1]``,

        ½ Σ_j (stretch_j u_j)² + ½ (c + Σ_j shift_j u_j)² + cost Σ_i max(0, |sign_i| - sign_i (x_i·u + c))²

    This is the LinearSVC objective of the features ``(x - shift) / stretch``, written in the weights of
    the features x.

    Attributes
    ----------
    signs
        ``(n, T)`` +1 or -1; 0 where the row is none of the problem's. A magnitude other than 1 is the root of the
        row's weight.
    cost
        ``(T,)`` the C of each problem.
    shift, stretch
        ``(p - 1, T)``.
    """

    signs: FloatArray
    cost: FloatArray
    shift: FloatArray
    stretch: FloatArray

    @classmethod
    def plain(cls, signs: FloatArray, cost: float, features: int) -> BinaryProblems:
        """Return problems of one `cost` on features as they are."""
        shape = features, signs.shape[1]
        return cls(signs, np.full(shape[1], cost), np.zeros(shape), np.ones(shape))

    def take(self, columns: IntArray | BoolArray) -> BinaryProblems:
        """Return some of the problems."""
        return BinaryProblems(
            self.signs[:, columns], self.cost[columns], self.shift[:, columns], self.stretch[:, columns]
        )

    def penalty_gradient(self, v: FloatArray) -> FloatArray:
        """Gradient ``(p, T)`` of the penalty, which is also its matrix times `v`."""
        intercept = v[-1] + _dot(self.shift, v[:-1])
        gradient: FloatArray = np.vstack([self.stretch**2 * v[:-1] + self.shift * intercept, intercept])
        return gradient

    def duality_gap(self, gradient: FloatArray) -> FloatArray:
        """Bound ``(T,)`` on how far the objective is from its minimum: ½‖g‖², g taken in scaled features.

        The penalty makes the objective 1-strongly convex there; the bound is the exact duality gap at
        the dual point ``2 cost max(0, 1 - y x·v)``.
        """
        scaled = (gradient[:-1] - self.shift * gradient[-1]) / self.stretch
        return 0.5 * (_dot(scaled, scaled) + gradient[-1] ** 2)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Solution:
    """Where the iteration ended: ``v`` is ``(p, T)``, all else ``(T,)``."""

    v: FloatArray
    objective: FloatArray
    gap: FloatArray
    iterations: IntArray


class Direction(Protocol):
    """Solves the Newton system of the problems `todo`, for the given active rows."""

    def __call__(self, todo: IntArray, problems: BinaryProblems, gradient: FloatArray, active: BoolArray) -> FloatArray:
        """Return the step ``(p, T)``; inexact ones are allowed."""
        ...


def minimise(
    design: FloatArray,
    problems: BinaryProblems,
    v: FloatArray,
    direction: Direction,
    *,
    tol: float,
    max_iter: int,
) -> Solution:
    """Minimise by Newton steps with exact line search until each gap is at most `tol` of its objective.

    Parameters
    ----------
    design
        ``(n, p)`` rows; its precision is that of all products over rows.
    problems
        T problems.
    v
        ``(p, T)`` float64 start.
    direction
        Where the Newton steps come from.
    tol
        Relative duality gap to stop at.
    max_iter
        Newton steps allowed.

    Returns
    -------
    Solution
        May have gaps above `tol`, after `max_iter` steps or where rounding lets a step gain nothing:
        callers check.

    References
    ----------
    Keerthi & DeCoste, A modified finite Newton method for fast solution of large scale linear SVMs,
    JMLR 6 (2005).
    """
    v = v.copy()
    rounding = float(np.finfo(design.dtype).eps)
    objective, gap = np.full((2, v.shape[1]), np.inf)
    iterations = np.zeros(v.shape[1], dtype=np.int64)
    todo = np.arange(v.shape[1])
    scores = design @ v.astype(design.dtype)
    for iteration in range(max_iter + 1):
        slack = np.abs(problems.signs) - problems.signs * scores
        violation = np.maximum(slack, 0)
        penalty_gradient = problems.penalty_gradient(v[:, todo])
        gradient = penalty_gradient - 2 * problems.cost * (design.T @ (problems.signs * violation))
        before = objective[todo], gap[todo]
        objective[todo] = 0.5 * _dot(v[:, todo], penalty_gradient) + problems.cost * _dot(violation, violation)
        gap[todo] = problems.duality_gap(gradient)
        stalled = (objective[todo] >= before[0] * (1 - 4 * rounding)) & (gap[todo] > before[1] / 4)
        unfinished = (gap[todo] > tol * objective[todo]) & ~stalled
        if iteration == max_iter or not unfinished.any():
            break
        if not unfinished.all():
            problems, todo = problems.take(unfinished), todo[unfinished]
            scores, slack, gradient = scores[:, unfinished], slack[:, unfinished], gradient[:, unfinished]
        step = direction(todo, problems, gradient, slack > 0)
        change = design @ step.astype(design.dtype, copy=False)
        length = _line_search(problems, gradient, slack, step, change)
        v[:, todo] += length * step
        scores += (length * change).astype(design.dtype, copy=False)
        iterations[todo] += 1
    return Solution(v, objective, gap, iterations)


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    """Scalar product ``(T,)`` of corresponding columns."""
    product: FloatArray = np.einsum("it,it->t", a, b)
    return product


def _line_search(
    problems: BinaryProblems, gradient: FloatArray, slack: FloatArray, step: FloatArray, change: FloatArray
) -> FloatArray:
    """Length ``(T,)`` of each step: Newton's method, bracketed, on the slope of a convex piecewise quadratic.

    The full step is taken where it leaves at most a tenth of the slope. Slopes are summed from
    differences to the slope at 0, so that they keep their digits close to the minimum.
    """
    initial = _dot(gradient, step)
    bend = _dot(step, problems.penalty_gradient(step))
    drop = problems.signs * change
    violation = np.maximum(slack, 0)
    # A step that does not descend is rounding error: stay.
    length = np.where(initial < 0, 1.0, 0.0)
    low, high = np.zeros_like(length), np.full_like(length, np.inf)
    for _ in range(_MAX_LINE_STEPS):
        moved = np.maximum(slack - length.astype(slack.dtype) * drop, 0)
        slope = initial + length * bend + 2 * problems.cost * _dot(violation - moved, drop)
        open_ = (length > 0) & (np.abs(slope) > 0.1 * np.abs(initial))
        if not open_.any():
            break
        curvature = bend + 2 * problems.cost * _dot(drop * (moved > 0), drop)
        low, high = np.where(slope < 0, length, low), np.where(slope < 0, high, length)
        newton = length - slope / np.maximum(curvature, np.finfo(np.float64).tiny)
        inside = (newton > low) & (newton < high)
        halved = np.where(np.isinf(high), 2 * length, (low + high) / 2)
        length = np.where(open_, np.where(inside, newton, halved), length)
    return length


class FactoredHessian:
    """Newton steps from a Cholesky factor of each problem's matrix.

    The matrix is the penalty's plus 2C Σ x_i x_iᵀ over active rows. The sum is kept between steps, and
    only rows that became active or ceased to be are added or subtracted.

    Parameters
    ----------
    design
        ``(n, p)`` rows.
    dtype
        Precision of the matrices; one below that of `design` only makes the steps less exact.
    """

    def __init__(self, design: FloatArray, dtype: npt.DTypeLike) -> None:
        self._design = design
        self._dtype = np.dtype(dtype)
        # For each problem, its active rows and their Σ x_i x_iᵀ (lower triangle).
        self._sums: dict[int, tuple[BoolArray, FloatArray]] = {}
        # The sum over all rows, with which every cold start begins; taken once for all.
        self._whole: list[FloatArray] = []

    def restart(self, origin: Sequence[int] = ()) -> FactoredHessian:
        """Return one for new problems: sum t starts from that of problem ``origin[t]`` of this one, if it has one."""
        other = FactoredHessian(self._design, self._dtype)
        other._whole = self._whole
        for problem, source in enumerate(origin):
            if source in self._sums:
                rows, total = self._sums[source]
                other._sums[problem] = rows, total.copy(order="F")
        return other

    def __call__(self, todo: IntArray, problems: BinaryProblems, gradient: FloatArray, active: BoolArray) -> FloatArray:
        """Return steps that are exact up to the precision of the factors."""
        (syr,) = get_blas_funcs(("syr",), dtype=self._dtype)
        step = np.empty_like(gradient)
        for i, problem in enumerate(todo.tolist()):
            matrix = (2 * problems.cost[i]).astype(self._dtype) * self._sum(problem, active[:, i])
            diagonal = np.diag_indices(len(matrix) - 1)
            matrix[diagonal] += problems.stretch[:, i] ** 2
            matrix = syr(1.0, np.append(problems.shift[:, i], 1.0), lower=1, a=matrix, overwrite_a=1)
            step[:, i] = _solve(_factor(matrix), -gradient[:, i])
        return step

    def _sum(self, problem: int, active: BoolArray) -> FloatArray:
        """Bring the sum of a problem up to date by the cheapest way, and return it."""
        before, total = self._sums.get(problem, (None, None))
        if before is None and active.all():
            if not self._whole:
                self._whole.append(self._add(active, 1.0, None))
            total = self._whole[0].copy(order="F")
        elif before is None or np.count_nonzero(before != active) > np.count_nonzero(active):
            total = self._add(active, 1.0, None)
        else:
            total = self._add(active & ~before, 1.0, total)
            total = self._add(before & ~active, -1.0, total)
        self._sums[problem] = active.copy(), total
        return total

    def _add(self, rows: BoolArray, sign: float, total: FloatArray | None) -> FloatArray:
        """Add ``sign`` Σ x_i x_iᵀ over `rows` to `total`, in place; None stands for zero."""
        if total is None:
            total = np.zeros((self._design.shape[1],) * 2, dtype=self._dtype, order="F")
        if rows.any():
            (syrk,) = get_blas_funcs(("syrk",), dtype=self._dtype)
            block = self._design[rows].astype(self._dtype, copy=False)
            total = syrk(sign, block.T, beta=1.0, c=total, lower=1, overwrite_c=1)
        return total


class FactoredGram:
    """Newton steps from Cholesky factors over the active rows, for few rows and the plain penalty ½‖v‖².

    With G = I / 2C + A Aᵀ of the active rows A, the Woodbury identity gives the step -g + Aᵀ G⁻¹ A g.

    Parameters
    ----------
    design
        ``(n, p)`` rows.
    dtype
        Precision of the steps.
    """

    def __init__(self, design: FloatArray, dtype: npt.DTypeLike) -> None:
        self._design = design.astype(dtype, copy=False)
        (syrk,) = get_blas_funcs(("syrk",), dtype=self._design.dtype)
        lower = syrk(1.0, self._design.T, trans=1, lower=1)
        self._gram: FloatArray = lower + np.tril(lower, -1).T

    def __call__(self, todo: IntArray, problems: BinaryProblems, gradient: FloatArray, active: BoolArray) -> FloatArray:
        """Return steps that are exact up to the precision of the factors."""
        gradient = gradient.astype(self._design.dtype)
        scores = self._design @ gradient
        weights = np.zeros_like(scores)
        for i, cost in enumerate(problems.cost.tolist()):
            rows = np.flatnonzero(active[:, i])
            if len(rows):
                matrix = self._gram[np.ix_(rows, rows)]
                matrix[np.diag_indices(len(rows))] += 1 / (2 * cost)
                weights[rows, i] = _solve(_factor(matrix.T), scores[rows, i])
        return self._design.T @ weights - gradient


def _factor(matrix: FloatArray) -> FloatArray:
    """Lower Cholesky factor; where rounding made the matrix indefinite, of the matrix plus a multiple of I."""
    trace = float(np.trace(matrix))
    if not np.isfinite(trace):
        raise np.linalg.LinAlgError(f"the Newton matrix overflows {matrix.dtype}")
    (potrf,) = get_lapack_funcs(("potrf",), dtype=matrix.dtype)
    factor, failed = potrf(matrix, lower=1, clean=0)
    ridge = trace * float(np.finfo(matrix.dtype).eps)
    while failed:
        # Ends, at the latest, where the ridge exceeds the trace.
        factor, failed = potrf(matrix + ridge * np.eye(len(matrix), dtype=matrix.dtype), lower=1, clean=0)
        ridge *= 10
    return factor  # type: ignore[no-any-return]


def _solve(factor: FloatArray, right: FloatArray) -> FloatArray:
    """Solve the system of a lower Cholesky factor for ``(p,)`` or ``(p, T)`` right-hand sides."""
    (potrs,) = get_lapack_funcs(("potrs",), dtype=factor.dtype)
    return potrs(factor, right, lower=1)[0]  # type: ignore[no-any-return]
