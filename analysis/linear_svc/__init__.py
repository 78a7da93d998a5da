"""LinearSVC at its optimum, for many folds and classes at once."""

from analysis.linear_svc.models import ExactLinearSVC, FoldModel, fit_folds

__all__ = ["ExactLinearSVC", "FoldModel", "fit_folds"]
