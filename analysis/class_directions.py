"""How an encoder answers which class an image is of, so that it can be asked why: by a text, or by a linear probe."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.arrays import Categories, encode, require_aligned
from analysis.linear_svc import FoldModel, fit_folds
from analysis.neighbors import unit_vectors
from analysis.probes import PENALTY
from analysis.splits import grouped_folds

if TYPE_CHECKING:
    from analysis.arrays import Categorical, FloatArray, IntArray

FOLDS = 5


@dataclass(frozen=True)
class ClassDirections:
    """The score of each class as a function of an image's vector.

    Attributes
    ----------
    classes
        Names of the ``k`` classes.
    coef
        ``(models, k, d)`` of unstandardised features; or the vectors of texts, of which there is one model.
    intercept
        ``(models, k)``; zero for texts.
    model_of
        ``(n,)`` which model is asked about an image: one that was fitted without it and its group.
    by_text
        Whether the score is the cosine to a text.
    """

    classes: tuple[str, ...]
    coef: FloatArray
    intercept: FloatArray
    model_of: IntArray
    by_text: bool

    def scores(self, vectors: FloatArray, rows: IntArray) -> FloatArray:
        """Return the score of each class ``(m, k)`` for vectors ``(m, d)`` of the images `rows` ``(m,)``."""
        model = self.model_of[rows]
        seen = unit_vectors(vectors) if self.by_text else vectors
        scores: FloatArray = np.einsum("md,mkd->mk", seen.astype(np.float64), self.coef[model]) + self.intercept[model]
        return scores

    def answers(self, vectors: FloatArray, rows: IntArray) -> IntArray:
        """Return the class with the highest score, ``(m,)`` codes."""
        codes: IntArray = self.scores(vectors, rows).argmax(axis=1)
        return codes


def text_directions(texts: FloatArray, classes: tuple[str, ...], n: int) -> ClassDirections:
    """Ask by texts: one vector for each class, ``(k, d)``; `n` is the number of images."""
    unit = unit_vectors(texts).astype(np.float64)
    return ClassDirections(classes, unit[None], np.zeros((1, len(classes))), np.zeros(n, np.int64), by_text=True)


def probe_directions(vectors: FloatArray, labels: Categorical, groups: IntArray, *, seed: int) -> ClassDirections:
    """Ask by the study's linear SVM: each image that one of five models which was fitted without its group.

    Parameters
    ----------
    vectors
        ``(n, d)``.
    labels
        ``(n,)``; images without one are fitted by no model. Those whose group has none either are asked of the first.
    groups
        ``(n,)`` codes.
    seed
        Seed of the folds.

    Raises
    ------
    ValueError
        If there are fewer than two classes, or a class is in too few groups for the folds.
    """
    from sklearn.exceptions import ConvergenceWarning

    categories = encode(labels, what="labels")
    require_aligned(len(vectors), labels=categories.codes, groups=groups)
    known = np.flatnonzero(categories.known)
    labelled = Categories(categories.codes[known], categories.names)
    folds = grouped_folds(labelled, groups[known], folds=FOLDS, seed=seed)
    parts = [fit for fit, _ in folds]
    with warnings.catch_warnings():
        # A model stopped early answers all but as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        models = fit_folds(vectors[known], labelled.codes, parts, [PENALTY / len(part) for part in parts])
    model_of = np.zeros(len(vectors), np.int64)
    for number, (_, held_out) in enumerate(folds):
        # By group, so that images without a label are not asked of a model that has seen others of their patient.
        model_of[np.isin(groups, groups[known[held_out]])] = number
    coef, intercept = zip(*(_unstandardised(model) for model in models), strict=True)
    return ClassDirections(categories.names, np.stack(coef), np.stack(intercept), model_of, by_text=False)


def _unstandardised(model: FoldModel) -> tuple[FloatArray, FloatArray]:
    """Return weights ``(k, d)`` and offsets ``(k,)`` for the features as they are; of two classes both are given."""
    coef = model.coef / model.scale
    intercept = model.intercept - coef @ model.mean
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return coef, intercept
