import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from analysis import layouts as module
from analysis.layout_quality import rank_neighbors
from analysis.layouts import (
    COARSE_MIN_DIST,
    COARSE_N_NEIGHBORS,
    STUDY_MIN_DIST,
    STUDY_N_NEIGHBORS,
    turn,
    umap_grid,
)
from analysis.neighbors import cosine_neighbors
from tests.worlds import mixed, null


@pytest.fixture(scope="module")
def grid():
    return umap_grid(mixed().vectors, n_neighbors=(10, 30), min_dist=(0.1, 0.8), seed=0)


def test_cells_come_in_order(grid):
    cells = [(cell.n_neighbors, cell.n_neighbors_requested, cell.min_dist) for cell in grid]
    assert cells == [(10, 10, 0.1), (10, 10, 0.8), (30, 30, 0.1), (30, 30, 0.8)]
    for cell in grid:
        assert cell.coordinates.shape == (240, 2)
        assert cell.coordinates.dtype == np.float32
        assert np.isfinite(cell.coordinates).all()
        np.testing.assert_allclose(cell.coordinates.mean(axis=0), 0, atol=1e-4)
        assert cell.quality.n == 240


def test_as_trustworthy_as_umap_learn(grid):
    vectors = mixed().vectors
    # Given, since umap-learn's own search compiles for ten seconds.
    reference = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(vectors)
    distances, indices = reference.kneighbors(vectors)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        # A seed means one thread; and a given k-NN has no index for new images.
        warnings.filterwarnings("ignore", message="n_jobs value", category=UserWarning)
        warnings.filterwarnings("ignore", message="precomputed_knn", category=UserWarning)
        import umap

        fitted = umap.UMAP(
            n_neighbors=10,
            min_dist=0.1,
            metric="cosine",
            random_state=0,
            precomputed_knn=(indices, distances.astype(np.float32)),
        ).fit_transform(vectors)
    expected = rank_neighbors(vectors, seed=0).judge(fitted)
    made = grid[0].quality
    assert made.trustworthiness == pytest.approx(expected.trustworthiness, abs=0.02)
    assert made.continuity == pytest.approx(expected.continuity, abs=0.02)
    assert made.knn_preservation == pytest.approx(expected.knn_preservation, abs=0.04)
    # A layout of noise by comparison: the agreement is not for want of structure.
    unrelated = rank_neighbors(null().vectors, seed=0).judge(fitted)
    assert expected.trustworthiness > unrelated.trustworthiness + 0.2


def test_min_dist_spreads_points_apart(grid):
    def median_gap(cell):
        gaps = np.linalg.norm(cell.coordinates[:, None] - cell.coordinates[None], axis=2)
        np.fill_diagonal(gaps, np.inf)
        return np.median(gaps.min(axis=1))

    assert median_gap(grid[1]) > 2 * median_gap(grid[0])


def test_same_seed_is_bit_equal_and_another_is_not(grid):
    vectors = mixed().vectors
    # Alone, too: a cell does not depend on which others are asked for.
    [again] = umap_grid(vectors, n_neighbors=(10,), min_dist=(0.1,), seed=0)
    np.testing.assert_array_equal(again.coordinates, grid[0].coordinates)
    [other] = umap_grid(vectors, n_neighbors=(10,), min_dist=(0.1,), seed=1)
    assert not np.array_equal(other.coordinates, grid[0].coordinates)


def test_workers_change_nothing():
    done = {}
    options = {"n_neighbors": (5, 10, 20, 40), "min_dist": (0.1, 0.8), "seed": 0}
    one = umap_grid(mixed().vectors, **options, workers=1)
    two = umap_grid(mixed().vectors, **options, workers=2, finished=done.__setitem__)
    assert {size: layouts.shape for size, layouts in done.items()} == dict.fromkeys((5, 10, 20, 40), (2, 240, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.coordinates, b.coordinates)
        assert a.quality == b.quality


def test_what_is_known_is_not_made_again(monkeypatch):
    options = {"n_neighbors": (5, 10), "min_dist": (0.1, 0.8), "seed": 0}
    kept = {}
    whole = umap_grid(mixed().vectors, **options, finished=kept.__setitem__)
    made = []
    lay_out = module._lay_out
    monkeypatch.setattr(module, "_lay_out", lambda *a: made.append(a[1]) or lay_out(*a))
    again = umap_grid(mixed().vectors, **options, known={10: kept[10]})
    assert made == [5]
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a.coordinates, b.coordinates)
        assert a.quality == b.quality


def test_after_an_error_no_other_row_is_begun(monkeypatch):
    begun, failed = [], threading.Event()

    def lay_out(neighbors, size, *_):
        begun.append(size)
        if size == 30:
            failed.set()
            raise RuntimeError("of the second")
        # The largest goes on for a while after the second has failed.
        assert failed.wait(10)
        time.sleep(0.3)
        return [np.random.default_rng(size).normal(size=(240, 2)).astype(np.float32)]

    monkeypatch.setattr(module, "_lay_out", lay_out)
    sizes = (2, 3, 4, 5, 30, 40)
    with pytest.raises(RuntimeError, match="of the second"):
        umap_grid(mixed().vectors, n_neighbors=sizes, min_dist=(0.1,), seed=0, workers=2)
    # The thread that failed may have taken up one more before the error was seen.
    assert len(begun) <= 3


def test_graphs_are_made_one_at_a_time(monkeypatch):
    make, at_once, lock = module.umap_learn().fuzzy_simplicial_set, [0, 0], threading.Lock()

    def watched(*arguments, **options):
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        time.sleep(0.1)
        made = make(*arguments, **options)
        with lock:
            at_once[0] -= 1
        return made

    monkeypatch.setattr(module.umap_learn(), "fuzzy_simplicial_set", watched)
    neighbors = cosine_neighbors(mixed().vectors, 9)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(module._fuzzy_graph, [neighbors] * 3))
    assert at_once == [0, 1]


def test_cells_are_turned_not_scaled(grid):
    # Of the four, the first is nearest to umap-learn's defaults.
    first = grid[0].coordinates.astype(np.float64)
    [alone] = umap_grid(mixed().vectors, n_neighbors=(30,), min_dist=(0.1,), seed=0)
    aligned, raw = grid[2].coordinates, alone.coordinates
    assert np.linalg.norm(aligned) == pytest.approx(np.linalg.norm(raw), rel=1e-5)
    product = aligned.T.astype(np.float64) @ first
    # Best possible turn: the cross product is symmetric and positive.
    assert product[0, 1] == pytest.approx(product[1, 0], rel=1e-3, abs=1e-2)
    assert np.trace(product) > 0


def test_turning_undoes_a_rotation_a_mirror_and_a_shift():
    layout = np.random.default_rng(0).normal(size=(50, 2))
    turned = layout @ np.array([[0.6, 0.8], [0.8, -0.6]]) + [3, -8]
    np.testing.assert_allclose(turn(turned, layout), layout - layout.mean(axis=0), atol=1e-5)


def test_n_neighbors_is_cut_to_the_images():
    vectors = mixed().vectors[:40]
    cells = umap_grid(vectors, n_neighbors=(39, 40, 1000), min_dist=(0.1,), seed=0)
    assert [cell.n_neighbors for cell in cells] == [39, 39, 39]
    assert [cell.n_neighbors_requested for cell in cells] == [39, 40, 1000]
    np.testing.assert_array_equal(cells[1].coordinates, cells[0].coordinates)


def test_smallest_and_awkward_inputs():
    vectors = mixed().vectors[:10]
    [cell] = umap_grid(vectors, n_neighbors=(2,), min_dist=(0.0,), seed=0)
    assert np.isfinite(cell.coordinates).all()
    # Many exact duplicates: graph in pieces, distances of 0.
    copies = np.repeat(mixed().vectors[:12], 8, axis=0)
    [cell] = umap_grid(copies, n_neighbors=(4,), min_dist=(0.5,), seed=0)
    assert np.isfinite(cell.coordinates).all()
    for flat in (np.ones((20, 3)), np.linspace(1, 2, 20)[:, None]):
        [cell] = umap_grid(flat, n_neighbors=(5,), min_dist=(0.1,), seed=0)
        assert np.isfinite(cell.coordinates).all()


def test_more_min_dist_than_are_made_at_once(grid):
    distances = (*np.linspace(0, 1, 9), 0.1)
    cells = umap_grid(mixed().vectors, n_neighbors=(10,), min_dist=distances, seed=0)
    assert [cell.min_dist for cell in cells] == list(distances)
    np.testing.assert_allclose(turn(cells[-1].coordinates, grid[0].coordinates), grid[0].coordinates, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbors": (1,)}, "n_neighbors must be 2 or more"),
        ({"n_neighbors": ()}, "at least one"),
        ({"min_dist": (1.5,)}, r"min_dist must lie in \[0, 1\]"),
        ({"min_dist": ()}, "at least one"),
        ({"vectors": np.ones((9, 4))}, "needs 10 images or more, not 9"),
        ({"vectors": np.zeros((20, 4))}, "vector 0 is zero"),
    ],
)
def test_wrong_inputs_are_refused(options, message):
    arguments = {"vectors": mixed().vectors, "n_neighbors": (5,), "min_dist": (0.1,)} | options
    vectors = arguments.pop("vectors")
    with pytest.raises(ValueError, match=message):
        umap_grid(vectors, **arguments, seed=0)


def test_grids():
    assert len(STUDY_N_NEIGHBORS) * len(STUDY_MIN_DIST) == 50
    assert set(COARSE_N_NEIGHBORS) < set(STUDY_N_NEIGHBORS)
    assert set(COARSE_MIN_DIST) < set(STUDY_MIN_DIST)
