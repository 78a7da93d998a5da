"""The linear support vector machine of the probes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from analysis.arrays import FloatArray, IntArray

# liblinear's default of 1,000 passes is too few for some features of real encoders.
MAX_ITERATIONS = 20_000


@dataclass(frozen=True)
class LinearSvm:
    """A fitted one-versus-rest linear classifier.

    Attributes
    ----------
    weights
        ``(classes, d)``.
    intercepts
        ``(classes,)``.
    iterations
        Passes over the data that the slowest class took.
    converged
        False where the solver was stopped before its tolerance.
    """

    weights: FloatArray
    intercepts: FloatArray
    iterations: int
    converged: bool

    def decide(self, vectors: FloatArray) -> FloatArray:
        """Decision values ``(n, classes)`` of ``(n, d)`` vectors; the largest is the prediction."""
        values: FloatArray = vectors @ self.weights.T + self.intercepts
        return values


def fit_linear_svm(X: FloatArray, y: IntArray, C: float, seed: int) -> LinearSvm:
    """Fit `sklearn.svm.LinearSVC`: squared hinge loss, L2 penalty, one versus rest.

    Parameters
    ----------
    X
        ``(n, d)`` standardised features.
    y
        ``(n,)`` codes; every one of ``0 .. classes-1`` occurs, and there are at least two.
    C
        Weight of the loss.
    seed
        Order in which the dual solver visits samples.

    Returns
    -------
    LinearSvm
        With two classes the two decision values differ by scikit-learn's single one.

    Notes
    -----
    The dual is solved: it has the optimum of the primal, which did not finish on real images in nine
    minutes. The five fits of a probe on 2,870 images, 1,280 features and four classes took 77 CPU-seconds.

    References
    ----------
    Fan et al., LIBLINEAR, JMLR 9 (2008).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    model = LinearSVC(C=C, dual=True, max_iter=MAX_ITERATIONS, random_state=seed)
    with warnings.catch_warnings():
        # Reported as `converged` with the result instead.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    weights, intercepts = model.coef_, model.intercept_
    if len(weights) == 1:
        weights = np.concatenate([-weights, weights]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    iterations = int(model.n_iter_)
    return LinearSvm(weights, intercepts, iterations, iterations < MAX_ITERATIONS)
