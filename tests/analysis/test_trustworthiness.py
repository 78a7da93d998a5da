import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from analysis import trustworthiness as module
from analysis.trustworthiness import rank_neighbors
from tests.worlds import mixed


@pytest.mark.parametrize("noise", [0.0, 1.0, 30.0])
def test_agrees_with_sklearn(noise):
    vectors = mixed().vectors
    layout = vectors[:, :2] + noise * np.random.default_rng(0).normal(size=(240, 2))
    expected = trustworthiness(vectors, layout, n_neighbors=15, metric="cosine")
    assert rank_neighbors(vectors, seed=0).trustworthiness(layout) == pytest.approx(expected, abs=1e-6)


def test_few_images_read_fewer_neighbours():
    vectors = mixed().vectors[:11]
    ranks = rank_neighbors(vectors, seed=0)
    assert ranks.k == 5
    expected = trustworthiness(vectors, vectors[:, :2], n_neighbors=5, metric="cosine")
    assert ranks.trustworthiness(vectors[:, :2]) == pytest.approx(expected, abs=1e-6)


def test_a_sample_estimates_the_whole(monkeypatch):
    vectors = mixed().vectors
    whole = rank_neighbors(vectors, seed=0).trustworthiness(vectors[:, :2])
    monkeypatch.setattr(module, "ALL_RANKED", 100)
    monkeypatch.setattr(module, "SAMPLE", 120)
    sampled = [rank_neighbors(vectors, seed=seed) for seed in range(8)]
    assert all(len(ranks.queries) == 120 for ranks in sampled)
    values = [ranks.trustworthiness(vectors[:, :2]) for ranks in sampled]
    assert len(set(values)) == 8
    assert np.mean(values) == pytest.approx(whole, abs=0.01)


def test_points_on_one_spot_are_not_their_own_neighbours():
    vectors = mixed().vectors
    value = rank_neighbors(vectors, seed=0).trustworthiness(np.zeros((240, 2)))
    # A layout that says nothing is as good as a random one.
    assert value == pytest.approx(0.5, abs=0.1)
