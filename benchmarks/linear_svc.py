"""Six fits (five folds and the whole) of every class: `fit_folds` beside scikit-learn's LinearSVC.

Run as ``python benchmarks/linear_svc.py [--quick] [--features file.npz ...]``. A features file holds the arrays
``vectors`` (n, d) and ``labels`` (n,). Times are CPU-seconds of this process on one thread, both sides in one run.
The baseline is StandardScaler and LinearSVC in its default settings with the dual solver, which on these shapes is
the faster of its two; it may stop unconverged, so that its objective lies above ours.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from analysis.linear_svc import FoldModel, fit_folds

PENALTY = 100
COLUMNS = (
    f"{'case':<26}{'baseline s':>11}{'fits':>5}{'ours s':>8}{'ratio':>7}{'accuracy':>16}{'objective':>22}{'agree %':>9}"
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A data set, and how many of its six baseline fits are timed (the rest is extrapolated)."""

    name: str
    X: Array
    y: Array
    baseline_fits: int = 6


def synthesise(n: int, d: int, classes: int, *, separation: float, seed: int = 0) -> tuple[Array, Array]:
    """Features with a power-law spectrum, overlapping classes of low rank and Zipf-like class sizes.

    Parameters
    ----------
    n, d, classes
        Sizes.
    separation
        Distance of class means in units of the mean standard deviation; 1 to 3 give accuracies of 0.6 to 0.9.
    seed
        Seed of everything.

    Returns
    -------
    tuple
        ``(n, d)`` float32 features and ``(n,)`` labels.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1)
    y = rng.choice(classes, n, p=share / share.sum())
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    spread = np.arange(1, d + 1) ** -0.8
    spread /= np.sqrt((spread**2).mean())
    means = separation * rng.normal(size=(classes, 16)) @ basis[:16]
    return ((rng.normal(size=(n, d)) * spread) @ basis + means[y]).astype(np.float32), y


def synthetic_cases(*, quick: bool) -> list[Case]:
    """Sizes of the study's data sets; only a small one if `quick`."""
    shapes = [("quick", 600, 256, 3, 1.5, 6)]
    if not quick:
        shapes = [
            ("more features than rows", 600, 1536, 5, 3.0, 6),
            ("BrainMR", 2_870, 1024, 4, 1.5, 6),
            ("BreakHis", 7_909, 1024, 2, 1.0, 6),
            ("ISIC2019", 25_331, 1024, 9, 1.5, 1),
        ]
    return [
        Case(f"{name} {n}x{d}x{classes}", *synthesise(n, d, classes, separation=separation), fits)
        for name, n, d, classes, separation, fits in shapes
    ]


def load_case(path: Path) -> Case:
    """Read real features."""
    with np.load(path) as stored:
        X, y = stored["vectors"], stored["labels"]
    return Case(f"{path.stem.removeprefix('features_')} {len(X)}x{X.shape[1]}x{len(set(y.tolist()))}", X, y)


def objective(X: Array, y: Array, model: FoldModel, coef: Array, intercept: Array) -> Array:
    """Objective ``(k,)`` of given weights on a training part standardised as in `model`."""
    targets = model.classes[1:] if len(model.classes) == 2 else model.classes
    sign = np.where(y[:, None] == targets, 1.0, -1.0)
    violation = np.maximum(0, 1 - sign * (((X - model.mean) / model.scale) @ coef.T + intercept))
    value: Array = 0.5 * ((coef**2).sum(axis=1) + intercept**2) + model.C * (violation**2).sum(axis=0)
    return value


def measure(case: Case) -> str:
    """Return one line of the table."""
    whole = np.arange(len(case.X))
    splits = [*StratifiedKFold(5, shuffle=True, random_state=0).split(case.X, case.y), (whole, whole)]
    begin = time.process_time()
    models = fit_folds(case.X, case.y, [fit for fit, _ in splits], [PENALTY / len(fit) for fit, _ in splits])
    ours = time.process_time() - begin

    baseline = 0.0
    differences, agreements, accuracies = [], [], []
    for (fit, held_out), model in list(zip(splits, models, strict=True))[: case.baseline_fits]:
        begin = time.process_time()
        scaler = StandardScaler().fit(case.X[fit])
        with warnings.catch_warnings():
            # Its default number of passes is part of the comparison.
            warnings.simplefilter("ignore", ConvergenceWarning)
            svc = LinearSVC(C=model.C, dual=True, random_state=0).fit(scaler.transform(case.X[fit]), case.y[fit])
        baseline += time.process_time() - begin
        theirs = objective(case.X[fit], case.y[fit], model, svc.coef_, svc.intercept_)
        differences.append((model.objective - theirs) / theirs)
        if held_out is not whole:
            expected = svc.predict(scaler.transform(case.X[held_out]))
            predicted = model.predict(case.X[held_out])
            agreements.append(predicted == expected)
            accuracies.append((np.mean(expected == case.y[held_out]), np.mean(predicted == case.y[held_out])))
    baseline *= len(splits) / case.baseline_fits
    difference = np.concatenate(differences)
    theirs_accuracy, ours_accuracy = np.mean(accuracies, axis=0)
    return (
        f"{case.name:<26}{baseline:>11.2f}{case.baseline_fits:>5}{ours:>8.2f}{baseline / ours:>7.1f}"
        f"{theirs_accuracy:>8.4f}{ours_accuracy:>8.4f}{difference.min():>11.1e}{difference.max():>11.1e}"
        f"{100 * np.mean(np.concatenate(agreements)):>9.3f}{'' if all(m.converged for m in models) else ' UNCONVERGED'}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case")
    parser.add_argument("--features", type=Path, nargs="*", default=[], help="real features beside the synthetic ones")
    arguments = parser.parse_args()
    print("CPU-seconds of six fits, one thread. fits: baseline fits timed, extrapolated to six. accuracy: baseline,")
    print("ours, on held-out folds. objective: least and largest (ours - baseline) / baseline over fits and classes.")
    print(COLUMNS)
    with threadpool_limits(limits=1):
        for case in [*map(load_case, arguments.features), *synthetic_cases(quick=arguments.quick)]:
            print(measure(case), flush=True)


if __name__ == "__main__":
    main()
