import warnings

import numpy as np
import pytest

from analysis.layouts import umap_grid
from analysis.placing import _memberships, place
from tests.worlds import mixed

OPTIONS = {"n_neighbors": 10, "min_dist": 0.1, "seed": 0}


@pytest.fixture(scope="module")
def world():
    """A layout of most images, and the rest."""
    vectors = mixed().vectors.astype(np.float32)
    held_out = np.arange(len(vectors)) % 8 == 0
    [layout] = umap_grid(vectors[~held_out], n_neighbors=(10,), min_dist=(0.1,), seed=0)
    return vectors[~held_out], layout.coordinates, vectors[held_out]


def distance_to_own(placed, new, vectors, coordinates):
    """Mean distance from where an image lies to where its five nearest in feature space lie."""
    unit, new_unit = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, new))
    nearest = np.argsort(-new_unit @ unit.T, axis=1)[:, :5]
    return float(np.linalg.norm(coordinates[nearest] - placed[:, None], axis=2).mean())


def test_new_images_lie_where_umap_learn_puts_them(world):
    vectors, coordinates, new = world
    placed = place(new, vectors, coordinates, **OPTIONS)
    assert placed.shape == (len(new), 2)
    assert placed.dtype == np.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap

        fitted = umap.UMAP(metric="cosine", n_neighbors=10, min_dist=0.1, random_state=0).fit(vectors)
        # Into the same layout.
        fitted.embedding_ = coordinates
        reference = fitted.transform(new)
    ours, theirs = (distance_to_own(where, new, vectors, coordinates) for where in (placed, reference))
    shuffled = distance_to_own(placed[::-1], new, vectors, coordinates)
    assert ours == pytest.approx(theirs, rel=0.25)
    assert ours < shuffled / 2


def test_does_not_depend_on_what_else_is_placed(world):
    vectors, coordinates, new = world
    together = place(new, vectors, coordinates, **OPTIONS)
    np.testing.assert_allclose(place(new[3:4], vectors, coordinates, **OPTIONS), together[3:4], atol=1e-4)
    assert len(place(new[:0], vectors, coordinates, **OPTIONS)) == 0


def test_a_copy_lies_beside_its_original(world):
    vectors, coordinates, _ = world
    placed = place(vectors[:20], vectors, coordinates, **OPTIONS)
    off = np.linalg.norm(placed - coordinates[:20], axis=1)
    assert np.median(off) < 0.05 * np.ptp(coordinates, axis=0).max()


def test_memberships_sum_to_the_logarithm():
    distances = np.sort(np.random.default_rng(0).uniform(0.1, 1, (5, 16)).astype(np.float32), axis=1)
    memberships = _memberships(distances)
    # umap-learn's search leaves the first out of the sum.
    np.testing.assert_allclose(memberships[:, 1:].sum(axis=1), 4, atol=1e-3)
    assert (np.diff(memberships, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("new", "coordinates", "message"),
    [
        (np.ones((2, 5)), np.ones((20, 2)), "cannot be placed among"),
        (np.ones((2, 4)), np.ones((19, 2)), "cannot be placed among"),
        (np.zeros((2, 4)), np.ones((20, 2)), "vector 0 is zero"),
    ],
)
def test_wrong_inputs_are_refused(new, coordinates, message):
    with pytest.raises(ValueError, match=message):
        place(new, np.ones((20, 4)), coordinates, **OPTIONS)
