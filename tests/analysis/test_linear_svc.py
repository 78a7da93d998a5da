"""Models are compared with liblinear at a tiny tolerance; objectives and gaps are taken anew here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from analysis.linear_svc import FoldModel, fit_folds, newton, parts
from analysis.linear_svc.estimator import ExactLinearSVC

if TYPE_CHECKING:
    from pathlib import Path

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Cohort:
    X: Array
    y: Array

    def folds(self, count: int = 3) -> list[tuple[Array, Array]]:
        return list(StratifiedKFold(count, shuffle=True, random_state=0).split(self.X, self.y))


def overlapping(n: int, d: int, classes: int, *, seed: int = 0, separation: float = 0.8) -> Cohort:
    """Class means in few directions of correlated features."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    means = rng.normal(size=(classes, min(d, 4))) @ basis[: min(d, 4)]
    spread = np.arange(1, d + 1) ** -0.5
    return Cohort((rng.normal(size=(n, d)) * spread) @ basis + separation * means[y], y)


def ill_conditioned() -> Cohort:
    """Copies, sums, constants, offsets and scales far apart, and duplicated rows."""
    plain = overlapping(150, 12, 3)
    X = plain.X
    offset = X[:, :3] * [1e-6, 1.0, 1e6] + [0.0, 1e5, -1e8]
    X = np.column_stack([X, X[:, :4], X[:, 4:6] + X[:, 6:8], np.full(150, 3.7), np.zeros(150), offset])
    rows = np.concatenate([np.arange(150), np.arange(40), np.zeros(20, dtype=np.int64)])
    return Cohort(X[rows], plain.y[rows])


def tiny_class() -> Cohort:
    plain = overlapping(120, 8, 3)
    return Cohort(plain.X, np.where(np.arange(120) < 4, "rare", np.array(["a", "b", "c"])[plain.y]))


def constant_in_one_fold() -> Cohort:
    """Two columns vary only in rows of one held-out part: there StandardScaler's scale is 1."""
    plain = overlapping(120, 8, 2)
    held_out = plain.folds()[1][1]
    X = np.column_stack([plain.X, np.zeros(120), np.full(120, 0.1)])
    X[held_out[:9], 8] = np.arange(1, 10)
    X[held_out[:9], 9] += 5.0
    return Cohort(X, plain.y)


COHORTS = {
    "two classes": lambda: overlapping(240, 20, 2),
    "five classes": lambda: overlapping(300, 30, 5),
    "float32": lambda: Cohort(overlapping(240, 20, 3).X.astype(np.float32), np.arange(240) % 3),
    "separable": lambda: overlapping(120, 40, 3, separation=4.0),
    "more features than rows": lambda: overlapping(60, 100, 3),
    "folds narrower than the whole": lambda: overlapping(60, 50, 2),
    "ill-conditioned": ill_conditioned,
    "tiny class": tiny_class,
    "constant in one fold": constant_in_one_fold,
}


def scaled(X: Array, model: FoldModel) -> Array:
    """Standardised features with the column of the intercept."""
    return np.column_stack([(X - model.mean) / model.scale, np.ones(len(X))])


def signs(y: Array, model: FoldModel) -> Array:
    targets = model.classes[1:] if len(model.classes) == 2 else model.classes
    return np.where(y[:, None] == targets, 1.0, -1.0)


def objective(Z: Array, sign: Array, v: Array, C: float) -> Array:
    return 0.5 * (v**2).sum(axis=0) + C * (np.maximum(0, 1 - sign * (Z @ v)) ** 2).sum(axis=0)


def gradient(Z: Array, sign: Array, v: Array, C: float) -> Array:
    return v - 2 * C * Z.T @ (sign * np.maximum(0, 1 - sign * (Z @ v)))


def weights(model: FoldModel) -> Array:
    return np.vstack([model.coef.T, model.intercept])


def liblinear(X: Array, y: Array, C: float) -> Any:
    return make_pipeline(StandardScaler(), LinearSVC(C=C, dual=True, tol=1e-9, max_iter=10**6, random_state=0)).fit(
        X.astype(np.float64), y
    )


@pytest.mark.parametrize("name", COHORTS)
def test_agrees_with_liblinear_in_every_fold(name: str) -> None:
    cohort = COHORTS[name]()
    X, y = cohort.X, cohort.y
    splits = [*cohort.folds(), (np.arange(len(X)), np.arange(len(X)))]
    costs = [100 / len(fit) for fit, _ in splits]
    models = fit_folds(X, y, [fit for fit, _ in splits], costs)
    for (fit, held_out), C, model in zip(splits, costs, models, strict=True):
        reference = liblinear(X[fit], y[fit], C)
        scaler, svc = reference[0], reference[1]
        np.testing.assert_array_equal(model.classes, svc.classes_)
        assert model.coef.shape == svc.coef_.shape
        np.testing.assert_allclose(model.scale, scaler.scale_, rtol=1e-9)
        np.testing.assert_allclose(model.mean, scaler.mean_, rtol=1e-9, atol=1e-9 * scaler.scale_.max())
        Z, sign = scaled(X[fit], model), signs(y[fit], model)
        theirs = objective(Z, sign, np.vstack([svc.coef_.T, svc.intercept_]), C)
        ours = objective(Z, sign, weights(model), C)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        assert (ours <= theirs * (1 + 1e-6)).all()
        np.testing.assert_allclose(
            model.decision_function(X[held_out]), reference.decision_function(X[held_out].astype(np.float64)), atol=1e-2
        )
        np.testing.assert_array_equal(model.predict(X[held_out]), reference.predict(X[held_out].astype(np.float64)))


@pytest.mark.parametrize("name", COHORTS)
def test_reported_objective_and_gap_are_true(name: str) -> None:
    cohort = COHORTS[name]()
    parts_ = [fit for fit, _ in cohort.folds()]
    for rows, model in zip(parts_, fit_folds(cohort.X, cohort.y, parts_, 0.5), strict=True):
        Z, sign = scaled(cohort.X[rows], model), signs(cohort.y[rows], model)
        gap = 0.5 * (gradient(Z, sign, weights(model), 0.5) ** 2).sum(axis=0)
        np.testing.assert_allclose(model.objective, objective(Z, sign, weights(model), 0.5), rtol=1e-9)
        assert model.converged
        assert (gap <= 1.01e-6 * model.objective).all()
        np.testing.assert_allclose(model.gap, gap, rtol=0.05, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(8, 60),
    d=st.integers(1, 40),
    classes=st.integers(2, 4),
    log_C=st.floats(-4, 3),
    seed=st.integers(0, 10**6),
    rounded=st.booleans(),
)
def test_gradient_vanishes_on_any_data(n: int, d: int, classes: int, log_C: float, seed: int, rounded: bool) -> None:
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, d)), np.arange(n) % classes
    if rounded:
        # Many ties, duplicates and constant columns.
        X = np.round(X / 2)
    whole = np.arange(n)
    C = 10**log_C
    for rows, model in zip([whole, whole[2:]], fit_folds(X, y, [whole, whole[2:]], C), strict=True):
        Z, sign = scaled(X[rows], model), signs(y[rows], model)
        g = gradient(Z, sign, weights(model), C)
        assert model.converged
        assert (0.5 * (g**2).sum(axis=0) <= 1.01e-6 * objective(Z, sign, weights(model), C)).all()


def test_a_fold_without_a_class_has_no_model_of_it() -> None:
    cohort = overlapping(150, 10, 3)
    without = np.flatnonzero(cohort.y != 1)
    whole, two = fit_folds(cohort.X, cohort.y, [np.arange(150), without], 0.3)
    reference = liblinear(cohort.X[without], cohort.y[without], 0.3)
    assert whole.classes.tolist() == [0, 1, 2]
    assert two.classes.tolist() == [0, 2]
    np.testing.assert_allclose(two.coef, reference[1].coef_, atol=2e-3)
    np.testing.assert_array_equal(two.predict(cohort.X), reference.predict(cohort.X))


def test_each_fold_has_its_own_cost() -> None:
    cohort = overlapping(150, 10, 2)
    rows = np.arange(150)
    together = fit_folds(cohort.X, cohort.y, [rows, rows], [0.01, 10.0])
    for C, model in zip([0.01, 10.0], together, strict=True):
        alone = fit_folds(cohort.X, cohort.y, [rows], C)[0]
        assert model.C == C
        np.testing.assert_allclose(model.objective, alone.objective, rtol=2e-6)


def test_what_float32_cannot_reach_is_finished_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = []
    fit_alone = parts._fit_alone

    def spy(*args: Any, **kwargs: Any) -> parts.Fit:
        finished.append(kwargs["start"] is not None)
        return fit_alone(*args, **kwargs)

    monkeypatch.setattr(parts, "_fit_alone", spy)
    cohort = overlapping(300, 20, 2)
    rows = [fit for fit, _ in cohort.folds()]
    models = fit_folds(cohort.X, cohort.y, rows, 1.0, tol=1e-16)
    assert finished == [True, True, True]
    assert all(model.converged for model in models)


def random_problems(n: int, d: int) -> tuple[Array, newton.BinaryProblems, Array, Array]:
    """Two problems with their own cost and penalty, a point, and its gradient."""
    rng = np.random.default_rng(0)
    design = np.column_stack([rng.normal(size=(n, d)), np.ones(n)])
    problems = newton.BinaryProblems(
        rng.choice([-1.0, 0.0, 1.0], size=(n, 2)),
        np.array([0.5, 2.0]),
        0.3 * rng.normal(size=(d, 2)),
        rng.uniform(0.5, 2.0, size=(d, 2)),
    )
    v = 0.3 * rng.normal(size=(d + 1, 2))
    slack = np.abs(problems.signs) - problems.signs * (design @ v)
    g = problems.penalty_gradient(v) - 2 * problems.cost * (design.T @ (problems.signs * np.maximum(slack, 0)))
    return design, problems, slack, g


@pytest.mark.parametrize("shape", [(80, 6), (20, 30)])
def test_steps_solve_the_newton_system(shape: tuple[int, int]) -> None:
    design, problems, slack, g = random_problems(*shape)
    plain = newton.BinaryProblems(
        problems.signs, problems.cost, np.zeros_like(problems.shift), np.ones_like(problems.stretch)
    )
    for solved in (problems, plain):
        step = newton.FactoredHessian(design, np.float64)(np.arange(2), solved, g, slack > 0)
        for t in range(2):
            active = design[slack[:, t] > 0]
            penalty = np.column_stack([solved.penalty_gradient(np.tile(e[:, None], 2))[:, t] for e in np.eye(len(g))])
            expected = -np.linalg.solve(penalty + 2 * solved.cost[t] * active.T @ active, g[:, t])
            np.testing.assert_allclose(step[:, t], expected, rtol=1e-8, atol=1e-12)
    # The Gram matrix gives the same steps.
    np.testing.assert_allclose(
        newton.FactoredGram(design, np.float64)(np.arange(2), plain, g, slack > 0), step, rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("factor", [0.01, 1.0, 30.0])
def test_line_search_leaves_a_tenth_of_the_slope(factor: float) -> None:
    design, problems, slack, g = random_problems(80, 6)
    step = factor * newton.FactoredHessian(design, np.float64)(np.arange(2), problems, g, slack > 0)
    length = newton._line_search(problems, g, slack, step, design @ step)
    moved = np.maximum(slack - length * problems.signs * (design @ step), 0)
    penalty = g + 2 * problems.cost * (design.T @ (problems.signs * np.maximum(slack, 0)))
    after = (
        penalty + problems.penalty_gradient(length * step) - 2 * problems.cost * (design.T @ (problems.signs * moved))
    )
    assert (np.abs((after * step).sum(axis=0)) <= 0.1 * np.abs((g * step).sum(axis=0))).all()
    # Straight uphill there is nothing to gain.
    assert not newton._line_search(problems, g, slack, g, design @ g).any()


def test_features_as_they_are_are_fitted_like_liblinear() -> None:
    cohort = overlapping(200, 15, 3)
    rows = [fit for fit, _ in cohort.folds()]
    for fit, model in zip(rows, fit_folds(cohort.X, cohort.y, rows, 0.5, standardize=False), strict=True):
        reference = LinearSVC(C=0.5, dual=True, tol=1e-9, max_iter=10**6, random_state=0).fit(
            cohort.X[fit], cohort.y[fit]
        )
        np.testing.assert_allclose(model.coef, reference.coef_, atol=2e-3)
        np.testing.assert_allclose(model.intercept, reference.intercept_, atol=2e-3)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e4, 1e8])
def test_raw_features_of_any_scale(scale: float) -> None:
    cohort = overlapping(90, 6, 2)
    X = cohort.X * scale
    model = ExactLinearSVC(C=1.0).fit(X, cohort.y)
    Z, sign = np.column_stack([X, np.ones(90)]), np.where(cohort.y == 1, 1.0, -1.0)[:, None]
    v = np.vstack([model.coef_.T, model.intercept_])
    gap = 0.5 * (gradient(Z, sign, v, 1.0) ** 2).sum(axis=0)
    assert gap <= 1.1e-6 * objective(Z, sign, v, 1.0)


def test_equal_input_gives_equal_bits() -> None:
    cohort = overlapping(240, 30, 3)
    rows = [fit for fit, _ in cohort.folds()]
    first, second = (fit_folds(cohort.X, cohort.y, rows, 0.4) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.coef.tobytes() == b.coef.tobytes()
        assert a.intercept.tobytes() == b.intercept.tobytes()


def test_masks_order_and_labels_change_nothing() -> None:
    cohort = overlapping(200, 10, 3)
    rows = [fit for fit, _ in cohort.folds()]
    masks = [np.isin(np.arange(200), fit) for fit in rows]
    order = np.random.default_rng(0).permutation(200)
    names = np.array(["x", "y", "z"])[cohort.y]
    expected = fit_folds(cohort.X, cohort.y, rows, 0.4, tol=1e-10)
    for other in (
        fit_folds(cohort.X, names, masks, 0.4, tol=1e-10),
        fit_folds(cohort.X[order], cohort.y[order], [np.argsort(order)[fit] for fit in rows], 0.4, tol=1e-10),
        # Rows that no part uses are never read.
        fit_folds(np.vstack([cohort.X, np.full((1, 10), np.nan)]), [*cohort.y, 7], rows, 0.4, tol=1e-10),
        # Standardised features do not depend on units.
        fit_folds(cohort.X * 8 + 1, cohort.y, rows, 0.4, tol=1e-10),
    ):
        for a, b in zip(expected, other, strict=True):
            np.testing.assert_allclose(a.coef, b.coef, atol=1e-4)


@pytest.mark.parametrize("shape", [(120, 10), (40, 60)])
def test_too_few_steps_are_told(shape: tuple[int, int]) -> None:
    cohort = overlapping(*shape, 2)
    rows = [fit for fit, _ in cohort.folds()]
    with pytest.warns(ConvergenceWarning, match=r"parts \[0, 1, 2\]: relative gap"):
        models = fit_folds(cohort.X, cohort.y, rows, 1.0, max_iter=1)
    assert not any(model.converged for model in models)
    with pytest.warns(ConvergenceWarning, match="relative gap"):
        ExactLinearSVC(max_iter=1).fit(cohort.X, cohort.y)


@pytest.mark.parametrize("scale", [1e25, 1e200])
def test_features_too_large_to_certify_are_told(scale: float) -> None:
    cohort = overlapping(90, 6, 2)
    # The products overflow from about 1e154 on; before, rounding alone exceeds the tolerance.
    with pytest.raises(ConvergenceWarning) if scale < 1e154 else pytest.raises(np.linalg.LinAlgError):
        ExactLinearSVC(C=1.0).fit(cohort.X * scale, cohort.y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": [[0, 1, 1, 2]]}, "repeats a row"),
        ({"folds": [[0, 2, 4]]}, "at least two classes"),
        ({"folds": [[]]}, "mask or a list"),
        ({"folds": [np.empty(0, dtype=int)]}, "at least two classes"),
        ({"folds": [[0, 1, 30]]}, "must be in 0 .. 29"),
        ({"folds": [[-1, 0, 1]]}, "must be in 0 .. 29"),
        ({"folds": [np.ones(29, dtype=bool)]}, "a mask of rows"),
        ({"C": 0.0}, "C must be positive"),
        ({"C": float("nan")}, "C must be positive"),
        ({"sample_weight": np.zeros(30)}, "weights must be positive"),
        ({"sample_weight": np.ones(29)}, "sample_weight must be"),
        ({"y": np.zeros(29)}, "X must be"),
        ({"X": np.full((30, 4), np.nan)}, "finite"),
        ({"X": np.zeros(30)}, "X must be"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    cohort = overlapping(30, 4, 2)
    arguments = {"X": cohort.X, "y": cohort.y, "folds": [np.arange(30)], "C": 1.0} | change
    with pytest.raises(ValueError, match=message):
        fit_folds(**arguments)


@pytest.mark.parametrize("shape", [(150, 12), (40, 60)])
def test_weighted_rows_agree_with_liblinear(shape: tuple[int, int]) -> None:
    cohort = overlapping(*shape, 3)
    X, y = cohort.X, cohort.y
    own = np.random.default_rng(0).uniform(0.1, 8, size=(3, len(X)))
    rows = [fit for fit, _ in cohort.folds()]
    for fit, weight, model in zip(rows, own, fit_folds(X, y, rows, 0.4, sample_weight=own), strict=True):
        Z = scaled(X[fit], model)
        reference = LinearSVC(C=0.4, dual=True, tol=1e-9, max_iter=10**6, random_state=0)
        reference.fit(Z[:, :-1], y[fit], sample_weight=weight[fit])
        theirs = np.column_stack([reference.coef_, reference.intercept_]).T
        np.testing.assert_allclose(weights(model), theirs, atol=2e-3)
        np.testing.assert_allclose(weights(model), theirs, atol=1e-3)
        violation = np.maximum(0, 1 - signs(y[fit], model) * (Z @ theirs))
        lowest = 0.5 * (theirs**2).sum(axis=0) + 0.4 * (weight[fit] @ violation**2)
        np.testing.assert_allclose(model.objective, lowest, rtol=1e-6)


def test_weight_two_is_the_row_twice() -> None:
    cohort = overlapping(60, 6, 2)
    weight = np.where(np.arange(60) < 20, 2.0, 1.0)
    [once] = fit_folds(cohort.X, cohort.y, [np.arange(60)], 0.3, sample_weight=weight, standardize=False, tol=1e-10)
    rows = np.r_[np.arange(60), np.arange(20)]
    [twice] = fit_folds(cohort.X[rows], cohort.y[rows], [np.arange(80)], 0.3, standardize=False, tol=1e-10)
    np.testing.assert_allclose(weights(once), weights(twice), atol=1e-4)


def test_no_parts_no_models() -> None:
    assert fit_folds(np.zeros((3, 2)), [0, 1, 0], [], 1.0) == []


def test_few_classes_at_a_time_give_the_same_models(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = overlapping(200, 10, 4)
    rows = [fit for fit, _ in cohort.folds()]
    expected = fit_folds(cohort.X, cohort.y, rows, 0.4, tol=1e-10)
    monkeypatch.setattr(parts, "_MATRIX_BYTES", 1)
    for a, b in zip(expected, fit_folds(cohort.X, cohort.y, rows, 0.4, tol=1e-10), strict=True):
        np.testing.assert_allclose(a.coef, b.coef, atol=1e-4)


@parametrize_with_checks([ExactLinearSVC()])
def test_is_a_scikit_learn_estimator(estimator: ExactLinearSVC, check: Any) -> None:
    check(estimator)


@pytest.mark.real
def test_agrees_with_liblinear_on_radiographs(real_data: Path) -> None:
    with np.load(real_data / "pneumoniamnist.npz") as stored:
        X = stored["train_images"].reshape(-1, 28 * 28)[:1500].astype(np.float64)
        y = stored["train_labels"].ravel()[:1500]
    splits = Cohort(X, y).folds(2)
    for (fit, held_out), model in zip(splits, fit_folds(X, y, [fit for fit, _ in splits], 100 / 750), strict=True):
        reference = liblinear(X[fit], y[fit], 100 / 750)
        Z, sign = scaled(X[fit], model), signs(y[fit], model)
        theirs = objective(Z, sign, np.vstack([reference[1].coef_.T, reference[1].intercept_]), 100 / 750)
        np.testing.assert_allclose(model.objective, theirs, rtol=1e-5)
        assert np.mean(model.predict(X[held_out]) == reference.predict(X[held_out])) >= 0.9995
