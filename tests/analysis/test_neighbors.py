import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from analysis.neighbors import Neighbors, cosine_neighbors, unit_vectors
from tests.worlds import mixed


def test_agrees_with_brute_force():
    vectors = mixed().vectors
    found = cosine_neighbors(vectors, 12)
    reference = NearestNeighbors(n_neighbors=13, metric="cosine", algorithm="brute").fit(vectors)
    distances, indices = reference.kneighbors(vectors)
    np.testing.assert_array_equal(found.indices, indices[:, 1:])
    np.testing.assert_allclose(found.distances, distances[:, 1:], atol=1e-6)
    assert found.indices.dtype == np.int64
    assert found.distances.dtype == np.float32


@pytest.mark.parametrize("block_rows", [1, 7, 1024])
def test_block_size_changes_nothing(block_rows):
    vectors = mixed().vectors
    expected = cosine_neighbors(vectors, 9, block_rows=64)
    found = cosine_neighbors(vectors, 9, block_rows=block_rows)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-6)


def test_ties_go_to_the_lower_index():
    rng = np.random.default_rng(0)
    distinct = rng.normal(size=(5, 33)).astype(np.float32)
    # 40 copies of each, shuffled: the cut at k falls inside a run of ties for every row.
    rows = rng.permutation(np.repeat(np.arange(5), 40))
    found = cosine_neighbors(distinct[rows], 50, block_rows=13)
    for i in range(len(rows)):
        copies = np.flatnonzero(rows == rows[i])
        copies = copies[copies != i]
        np.testing.assert_array_equal(found.indices[i, :39], copies)
        np.testing.assert_array_equal(found.distances[i, :39], 0)
        nearest_other = rows[found.indices[i, 39]]
        assert (rows[found.indices[i, 39:]] == nearest_other).all()
        np.testing.assert_array_equal(found.indices[i, 39:], np.flatnonzero(rows == nearest_other)[:11])


def test_own_group_is_left_out_and_short_lists_are_padded():
    vectors = mixed().vectors[:6]
    groups = np.array([0, 0, 0, 0, 1, 2])
    found = cosine_neighbors(vectors, 4, groups=groups)
    for i in range(6):
        others = np.flatnonzero(groups != groups[i])
        held = min(4, len(others))
        assert set(found.indices[i, :held]) <= set(others)
        assert len(set(found.indices[i, :held])) == held
        assert (found.indices[i, held:] == -1).all()
        assert np.isinf(found.distances[i, held:]).all()
        assert (np.diff(found.distances[i, :held]) >= 0).all()
    # Against brute force over the other groups.
    similarity = unit_vectors(vectors) @ unit_vectors(vectors).T
    nearest = max(np.flatnonzero(groups != 0), key=lambda j: similarity[0, j])
    assert found.indices[0, 0] == nearest


def test_k_is_clipped_to_the_other_images():
    assert cosine_neighbors(mixed().vectors[:5], 100).k == 4
    assert cosine_neighbors(mixed().vectors[:1], 3).indices.shape == (1, 0)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_scale_changes_nothing(scale):
    vectors = mixed().vectors
    scaled = vectors * np.float32(scale)
    np.testing.assert_array_equal(cosine_neighbors(scaled, 5).indices, cosine_neighbors(vectors, 5).indices)


def test_impossible_inputs_are_refused_by_row():
    vectors = mixed().vectors.copy()
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        cosine_neighbors(vectors, 0)
    with pytest.raises(ValueError, match=r"groups must have shape \(240,\)"):
        cosine_neighbors(vectors, 3, groups=np.zeros(3, dtype=np.int64))
    vectors[17] = 0
    with pytest.raises(ValueError, match=r"vector 17 is zero \(1 such rows\)"):
        cosine_neighbors(vectors, 3)
    vectors[[4, 9], 2] = np.nan
    with pytest.raises(ValueError, match=r"vector 4 is not finite \(2 such rows\)"):
        cosine_neighbors(vectors, 3)
    with pytest.raises(ValueError, match=r"vectors must have shape \(n, d\)"):
        cosine_neighbors(vectors[0], 3)


def test_first_takes_the_nearest():
    found = cosine_neighbors(mixed().vectors, 8)
    np.testing.assert_array_equal(found.first(3).indices, found.indices[:, :3])
    np.testing.assert_array_equal(found.first(3).distances, found.distances[:, :3])
    for k in (0, 9):
        with pytest.raises(ValueError, match="lists hold 1 to 8"):
            found.first(k)


def test_among_equals_neighbours_of_the_kept_images():
    world = mixed()
    rng = np.random.default_rng(1)
    keep = rng.random(len(world.vectors)) < 0.6
    full = cosine_neighbors(world.vectors, len(keep), groups=world.groups)
    expected = cosine_neighbors(world.vectors[keep], len(keep), groups=world.groups[keep])
    found = full.among(keep)
    np.testing.assert_array_equal(found.indices[:, : expected.k], expected.indices)
    np.testing.assert_allclose(found.distances[:, : expected.k], expected.distances, atol=1e-6)
    assert (found.indices[:, expected.k :] == -1).all()
    with pytest.raises(ValueError, match="keep must have shape"):
        full.among(keep[1:])


def test_arrays_must_match():
    with pytest.raises(ValueError, match=r"share one \(n, K\) shape"):
        Neighbors(np.zeros((3, 2), dtype=np.int64), np.zeros((3, 1), dtype=np.float32))
