"""LinearSVC at its optimum, for many folds and classes at once."""

from analysis.linear_svc.models import FoldModel, fit_folds

__all__ = ["FoldModel", "fit_folds"]
