import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from analysis import neighbors as neighbors_module
from analysis import tiled_neighbors
from analysis.neighbors import Neighbors, cosine_neighbors, nearest_among, unit_vectors
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


def spread(n, d=24, *, copies=0, seed=0):
    """Rows with neighbourhoods of uneven density, some of them copies of others."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) + 4 * rng.normal(size=(7, d))[rng.integers(0, 7, n)] * rng.random((n, 1))
    rows = rows.astype(np.float32)
    rows[rng.integers(0, n, copies)] = rows[rng.integers(0, n, copies)]
    return rows


def small_tiles(monkeypatch):
    """Make tiles and samples so small that 1,500 rows go through all that 25,000 do."""
    monkeypatch.setattr(neighbors_module, "TILED_FROM", 100)
    for name, value in (("_TILE", 256), ("_SAMPLE", 200)):
        monkeypatch.setattr(tiled_neighbors, name, value)


@pytest.mark.parametrize("k", [1, 40, 150])
@pytest.mark.parametrize("group_size", [1, 3, 400])
@pytest.mark.parametrize("copies", [0, 300])
def test_tiles_give_what_whole_rows_give(k, group_size, copies, monkeypatch):
    small_tiles(monkeypatch)
    monkeypatch.setattr(tiled_neighbors, "_BLOCK_ELEMENTS", 2**17)
    vectors, groups = spread(1500, copies=copies), np.random.default_rng(1).permutation(1500) // group_size
    found = cosine_neighbors(vectors, k, groups=groups)
    expected = cosine_neighbors(vectors, k, groups=groups, block_rows=512)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-6)
    # Distances that differ in the last digit may change places.
    assert (found.indices == expected.indices).mean() > 0.999
    assert (groups[found.indices] != groups[:, None]).all()
    assert (np.diff(found.distances, axis=1) >= 0).all()
    tied = np.diff(found.distances, axis=1) == 0
    assert (np.diff(found.indices, axis=1)[tied] > 0).all()


def by_rows_of(monkeypatch):
    """Count the rows that are compared with everything."""
    redone = []
    by_rows = neighbors_module._by_rows

    def counted(unit, k, groups, queries, block_rows):
        redone.append(len(queries))
        return by_rows(unit, k, groups, queries, block_rows)

    monkeypatch.setattr(neighbors_module, "_by_rows", counted)
    return redone


# A store that is soon full; a sample so small that thresholds miss by far.
@pytest.mark.parametrize("setting", [("_chunks", lambda m, sampled, room: m), ("_SAMPLE", 20)])
def test_rows_that_lose_candidates_are_compared_again(setting, monkeypatch):
    small_tiles(monkeypatch)
    monkeypatch.setattr(tiled_neighbors, *setting)
    redone = by_rows_of(monkeypatch)
    vectors = spread(1500, copies=30)
    found = cosine_neighbors(vectors, 150)
    assert len(redone) == 1
    assert 0 < redone[0] < 1500
    expected = cosine_neighbors(vectors, 150, block_rows=512)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-6)
    assert (found.indices == expected.indices).mean() > 0.999


@pytest.mark.parametrize(("n", "k"), [(4096, 204), (5000, 500), (6200, 60)])
def test_hardly_a_row_is_compared_twice(n, k, monkeypatch):
    redone = by_rows_of(monkeypatch)
    rng = np.random.default_rng(0)
    cosine_neighbors(rng.normal(size=(n, 16)), k)
    # Neither where rows repeat with the period of a sample at fixed places.
    cosine_neighbors(rng.normal(size=(4, 16))[np.arange(n) % 4] + 0.5 * rng.normal(size=(n, 16)), k)
    assert sum(redone) < 0.02 * n


def test_distances_that_are_rounded_alike_come_by_index(monkeypatch):
    small_tiles(monkeypatch)
    vectors = np.eye(1500) + 1e-10 * np.random.default_rng(0).normal(size=(1500, 1500))
    found = cosine_neighbors(vectors, 3)
    np.testing.assert_array_equal(found.indices, cosine_neighbors(vectors, 3, block_rows=512).indices)
    np.testing.assert_array_equal(found.indices[0], [1, 2, 3])


def test_large_sets_agree_with_brute_force():
    vectors = spread(neighbors_module.TILED_FROM + 300, copies=200)
    found = cosine_neighbors(vectors, 12)
    reference = NearestNeighbors(n_neighbors=12, metric="cosine", algorithm="brute").fit(vectors)
    queries = np.arange(0, len(vectors), 9)
    unit = unit_vectors(vectors).astype(np.float64)
    distances, _ = reference.kneighbors(vectors[queries], n_neighbors=13)
    # The reference lists the image itself, or a copy of it, first.
    np.testing.assert_allclose(found.distances[queries], distances[:, 1:], atol=1e-6)
    true = 1 - np.einsum("qd,qkd->qk", unit[queries], unit[found.indices[queries]])
    np.testing.assert_allclose(found.distances[queries], true, atol=1e-6)
    assert (found.indices[queries] != queries[:, None]).all()
    again = cosine_neighbors(vectors, 12)
    np.testing.assert_array_equal(found.indices, again.indices)


def test_strata_are_searched_one_by_one():
    world = mixed()
    strata = np.random.default_rng(0).integers(0, 3, 240)
    strata[:4] = 3
    found = nearest_among(unit_vectors(world.vectors), strata, 8, groups=world.groups)
    for stratum in range(4):
        rows = np.flatnonzero(strata == stratum)
        expected = cosine_neighbors(world.vectors[rows], 8, groups=world.groups[rows])
        np.testing.assert_array_equal(
            found.indices[rows, : expected.k], np.where(expected.indices >= 0, rows[expected.indices], -1)
        )
        assert (found.indices[rows, expected.k :] == -1).all()


def test_room_of_large_sets_is_bounded(monkeypatch):
    assert tiled_neighbors.tiles_fit(200_000, 100)
    assert not tiled_neighbors.tiles_fit(1_000_000, 100)
    assert not tiled_neighbors.tiles_fit(200_000, 1000)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 8))
    tiled = cosine_neighbors(vectors, 10)
    # Too large for what may be kept: row by row.
    monkeypatch.setattr(tiled_neighbors, "_KEPT_BYTES", 0)
    monkeypatch.setattr("analysis.neighbor_kernels.keep_near", None)
    np.testing.assert_array_equal(cosine_neighbors(vectors, 10).indices, tiled.indices)
