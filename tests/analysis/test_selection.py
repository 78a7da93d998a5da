import tracemalloc

import numpy as np
import pytest

from analysis.selection import one_of_every, smallest


@pytest.mark.parametrize("values", [3, 50, 10**9])
@pytest.mark.parametrize(("n", "width", "k"), [(40, 3, 1), (40, 30, 30), (7, 2000, 5), (60, 700, 40), (300, 5000, 11)])
def test_the_smallest_are_those_of_a_stable_sort(values, n, width, k):
    rng = np.random.default_rng(0)
    distances = (rng.integers(0, values, (n, width)) / values).astype(np.float32)
    distances[rng.random((n, width)) < 0.2] = np.inf
    columns, found = smallest(distances, k)
    np.testing.assert_array_equal(columns, np.argsort(distances, axis=1, kind="stable")[:, :k])
    np.testing.assert_array_equal(found, np.sort(distances, axis=1)[:, :k])


def test_rows_unlike_their_sample_are_exact():
    # Only a few columns are near, and the sample meets none of them, or all.
    for near in (np.setdiff1d(np.arange(4000), one_of_every(16, 4000))[:20], one_of_every(16, 4000)[:40]):
        distances = np.ones((3, 4000), np.float32)
        distances[:, near] = np.linspace(0, 0.5, len(near), dtype=np.float32)
        columns, _ = smallest(distances, 10)
        np.testing.assert_array_equal(columns, np.tile(near[:10], (3, 1)))


def test_ties_take_little_memory():
    distances = np.zeros((256, 16_384), np.float32)
    tracemalloc.start()
    smallest(distances, 50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * distances.nbytes


def test_a_sample_is_spread_and_meets_every_phase():
    drawn = one_of_every(16, 1003)
    assert ((drawn // 16) == np.arange(62)).all()
    assert np.bincount(drawn % 4, minlength=4).min() > 5
    assert one_of_every(1, 5).tolist() == [0, 1, 2, 3, 4]
