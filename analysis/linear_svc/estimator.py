"""The same solver as a scikit-learn estimator; apart from the rest, which loads without scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from analysis.linear_svc.models import fit_folds

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.arrays import FloatArray


class ExactLinearSVC(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """`sklearn.svm.LinearSVC` (squared hinge, L2 penalty, one against the rest) solved to a certified gap.

    Parameters
    ----------
    C
        Weight of the loss.
    tol
        Largest duality gap relative to the objective.
    max_iter
        Newton steps allowed.

    Attributes
    ----------
    classes_
        Sorted labels.
    coef_, intercept_
        ``(k, d)`` and ``(k,)``; k is 1 for two classes (positive is ``classes_[1]``). The intercept is
        penalised, as with ``intercept_scaling=1``.
    n_iter_
        Newton steps of the slowest class.

    References
    ----------
    Fan et al., LIBLINEAR, JMLR 9 (2008).
    """

    def __init__(self, C: float = 1.0, *, tol: float = 1e-6, max_iter: int = 100) -> None:
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> ExactLinearSVC:
        """Fit to features ``(n, d)`` and labels ``(n,)``; ConvergenceWarning where `tol` is missed."""
        checked, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        (model,) = fit_folds(
            checked, labels, [np.arange(len(checked))], self.C, standardize=False, tol=self.tol, max_iter=self.max_iter
        )
        self.classes_ = model.classes
        self.coef_ = model.coef
        self.intercept_ = model.intercept
        self.n_iter_ = model.iterations
        return self

    def decision_function(self, X: npt.ArrayLike) -> FloatArray:
        """Signed scores: ``(n,)`` for two classes, else ``(n, classes)``."""
        check_is_fitted(self)
        checked = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        scores: FloatArray = checked @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.coef_) == 1 else scores

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Labels ``(n,)``."""
        scores = self.decision_function(X)
        codes = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[codes]  # type: ignore[no-any-return]
