"""A shift is a cosine distance, and means something beside the distances of classes and of duplicates."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, cosine

from analysis.shifts import PER_CLASS_DISTANCE, PER_DUPLICATE_DISTANCE, SHIFT, measure_shift, reference_distances


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(40, 8)) + np.repeat(np.eye(8)[:2] * 3, 20, axis=0)


def test_references_are_those_of_scipy(vectors):
    labels = np.repeat([0, 1], 20)
    labels[5] = -1
    references = reference_distances(vectors, labels, np.array([0, 3]), np.array([1, 9]))
    between = cdist(vectors[labels == 0], vectors[labels == 1], "cosine")
    assert references.between_classes == pytest.approx(between.mean(), abs=1e-6)
    expected = np.mean([cosine(vectors[0], vectors[1]), cosine(vectors[3], vectors[9])])
    assert references.between_duplicates == pytest.approx(expected, abs=1e-6)


def test_the_shift_relative_to_both(vectors):
    labels, groups = np.repeat([0, 1], 20), np.arange(40) // 2
    references = reference_distances(vectors, labels, np.array([0]), np.array([1]))
    after = vectors + np.random.default_rng(1).normal(size=vectors.shape)
    results = {r.metric: r for r in measure_shift(vectors, after, groups, references, seed=0)}
    expected = np.mean([cosine(a, b) for a, b in zip(vectors, after, strict=True)])
    assert results[SHIFT].value == pytest.approx(expected, abs=1e-6)
    assert results[SHIFT].ci_low < expected < results[SHIFT].ci_high
    assert results[PER_CLASS_DISTANCE].value == pytest.approx(expected / references.between_classes, rel=1e-6)
    assert results[PER_DUPLICATE_DISTANCE].value == pytest.approx(expected / references.between_duplicates, rel=1e-6)
    still = measure_shift(vectors, 5 * vectors, groups, references, seed=0)
    assert still[0].value == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_told_says_why(vectors):
    nothing = np.empty(0, np.int64)
    references = reference_distances(vectors, np.zeros(40, np.int64), nothing, nothing)
    results = {r.metric: r for r in measure_shift(vectors, vectors, np.arange(40), references, seed=0)}
    assert "fewer than two classes" in results[PER_CLASS_DISTANCE].note
    assert "no near-duplicates" in results[PER_DUPLICATE_DISTANCE].note
    same = reference_distances(np.ones((4, 3)), np.array([0, 0, 1, 1]), np.array([0]), np.array([1]))
    zero = measure_shift(vectors[:4], vectors[:4], np.arange(4), same, seed=0)
    assert all("zero" in r.note for r in zero if r.metric != SHIFT)
    (first, *_) = measure_shift(vectors[:0], vectors[:0], nothing, references, seed=0, unmoved="because")
    assert "because" in first.note
    empty = measure_shift(vectors[:0], vectors[:0], nothing, references, seed=0)
    assert [r.value for r in empty] == [None, None, None]
