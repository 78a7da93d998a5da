import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.manifold import trustworthiness

from analysis import layout_quality as module
from analysis.layout_quality import rank_neighbors
from tests.worlds import mixed


def noisy(noise, n=240):
    return mixed().vectors[:n, :2] + noise * np.random.default_rng(0).normal(size=(n, 2))


def cosine_distances(vectors):
    distances = cdist(vectors, vectors, "cosine")
    np.fill_diagonal(distances, -1)
    return distances


@pytest.mark.parametrize("noise", [0.0, 1.0, 30.0])
def test_trustworthiness_agrees_with_sklearn(noise):
    vectors = mixed().vectors
    expected = trustworthiness(vectors, noisy(noise), n_neighbors=15, metric="cosine")
    assert rank_neighbors(vectors, seed=0).judge(noisy(noise)).trustworthiness == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1.0, 30.0])
def test_continuity_is_trustworthiness_with_the_spaces_exchanged(noise):
    vectors, layout = mixed().vectors, noisy(noise)
    # What sklearn takes for the layout is compared by Euclidean distance: of unit vectors, which order as cosine does.
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = trustworthiness(layout, unit, n_neighbors=15)
    assert rank_neighbors(vectors, seed=0).judge(layout).continuity == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_neighbours_and_densities_agree_with_plain_arithmetic(noise):
    vectors, layout = mixed().vectors, noisy(noise)
    far, near = cosine_distances(vectors), cdist(layout, layout)
    np.fill_diagonal(near, -1)
    lists = [np.argsort(distances, axis=1)[:, 1:16] for distances in (far, near)]
    kept = [len(set(a) & set(b)) / 15 for a, b in zip(*lists, strict=True)]
    radii = [np.log(np.take_along_axis(d, i, axis=1).mean(axis=1)) for d, i in zip((far, near), lists, strict=True)]
    quality = rank_neighbors(vectors, seed=0).judge(layout)
    assert quality.knn_preservation == pytest.approx(np.mean(kept), abs=1e-6)
    assert quality.density_preservation == pytest.approx(np.corrcoef(*radii)[0, 1], abs=1e-4)
    assert (quality.k, quality.n) == (15, 240)


def test_few_images_read_fewer_neighbours():
    vectors = mixed().vectors[:11]
    quality = rank_neighbors(vectors, seed=0).judge(vectors[:, :2])
    assert quality.k == 5
    expected = trustworthiness(vectors, vectors[:, :2], n_neighbors=5, metric="cosine")
    assert quality.trustworthiness == pytest.approx(expected, abs=1e-6)


def test_a_sample_estimates_the_whole(monkeypatch):
    vectors, layout = mixed().vectors, noisy(1.0)
    whole = rank_neighbors(vectors, seed=0).judge(layout)
    monkeypatch.setattr(module, "ALL_RANKED", 100)
    monkeypatch.setattr(module, "SAMPLE", 120)
    sampled = [rank_neighbors(vectors, seed=seed).judge(layout) for seed in range(8)]
    assert all(quality.n == 120 for quality in sampled)
    for name in ("trustworthiness", "continuity", "knn_preservation", "density_preservation"):
        values = [getattr(quality, name) for quality in sampled]
        # Two samples may come to the same share.
        assert len(set(values)) >= 6
        assert np.mean(values) == pytest.approx(getattr(whole, name), abs=0.03)


def test_points_on_one_spot_are_not_their_own_neighbours():
    vectors = mixed().vectors
    quality = rank_neighbors(vectors, seed=0).judge(np.zeros((240, 2)))
    # A layout that says nothing is as good as a random one, and has no densities.
    assert quality.trustworthiness == pytest.approx(0.5, abs=0.1)
    assert quality.density_preservation is None


def test_images_on_one_spot_share_the_mean_of_their_ranks():
    vectors = mixed().vectors
    ranked = rank_neighbors(vectors, seed=0)
    # Every rank is that of the middle, (1 + 239) / 2.
    collapsed = ranked.judge(np.zeros((240, 2)))
    assert collapsed.continuity == pytest.approx(1 - 2 * (120 - 15) / (2 * 240 - 3 * 15 - 1))
    # Some on few spots: scipy's ranks.
    layout = np.random.default_rng(0).integers(4, size=(240, 2)).astype(float)
    distances = cdist(layout, layout)
    np.fill_diagonal(distances, np.inf)
    ranks = np.take_along_axis(rankdata(distances, axis=1), ranked.nearest, axis=1)
    missing = np.maximum(ranks - 15, 0).sum()
    assert ranked.judge(layout).continuity == pytest.approx(1 - 2 * missing / (240 * 15 * (2 * 240 - 3 * 15 - 1)))
