"""Separability against scikit-learn and by hand."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import davies_bouldin_score, silhouette_samples, silhouette_score

from analysis.separability import METRICS, separability, silhouettes, spread


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], [40, 60, 50])
    return rng.normal(size=(150, 6)) + 1.5 * np.eye(3, 6)[codes] + 5, codes


def measured(vectors: np.ndarray, codes: np.ndarray, **more: object) -> dict[str, dict[str, object]]:
    values = [None if code < 0 else f"c{code}" for code in codes]
    frame = separability(vectors, values, np.arange(len(codes)) // 2, target="label", seed=0, **more)
    return {row["metric"]: row for row in frame.iter_rows(named=True)}


def test_the_measures_are_those_of_scikit_learn_and_by_hand(world: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, codes = world
    found = measured(vectors, codes)
    centres = np.stack([vectors[codes == c].mean(0) for c in range(3)])
    intra = np.mean([np.linalg.norm(vectors[codes == c] - centres[c], axis=1).mean() for c in range(3)])
    inter = np.mean([np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2))])
    within = sum(np.trace(np.cov(vectors[codes == c].T, bias=True)) * (codes == c).sum() for c in range(3))
    between = np.trace(np.cov(vectors.T, bias=True)) * len(codes) - within
    expected = {
        "intra": intra,
        "inter": inter,
        "ratio": inter / intra,
        "davies_bouldin": davies_bouldin_score(vectors, codes),
        "fisher": between / within,
        "silhouette": silhouette_score(vectors, codes, metric="cosine"),
    }
    for metric, value in expected.items():
        assert found[metric]["value"] == pytest.approx(value), metric
        assert found[metric]["ci_low"] < value < found[metric]["ci_high"]
        assert found[metric]["n"] == 150


def test_unknown_values_and_lone_images_are_left_out(world: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, codes = world
    rng = np.random.default_rng(1)
    more = np.concatenate([vectors, rng.normal(size=(3, 6)) * 100])
    found = measured(more, np.concatenate([codes, [-1, -1, 9]]))
    assert found["davies_bouldin"]["value"] == pytest.approx(davies_bouldin_score(vectors, codes))
    assert found["davies_bouldin"]["n"] == 150


def test_one_class_has_no_separability(world: tuple[np.ndarray, np.ndarray]) -> None:
    found = measured(world[0], np.zeros(150, np.int64))
    assert {row["note"] for row in found.values()} == {"undefined: fewer than two classes have two images or more"}
    assert set(found) == {*METRICS, "silhouette"}


def test_classes_without_spread_have_no_ratio() -> None:
    vectors = np.repeat(np.eye(2, 3), 5, axis=0)
    found = measured(vectors, np.repeat([0, 1], 5))
    assert found["intra"]["value"] == 0
    assert found["ratio"]["value"] is None
    assert found["ratio"]["note"] == "undefined: classes without any spread"
    assert found["fisher"]["value"] is None


def test_every_image_counts_in_the_silhouette(world: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    vectors = np.concatenate([world[0] + 0.1 * rng.normal(size=world[0].shape) for _ in range(30)])
    codes = np.tile(world[1], 30)
    found = measured(vectors, codes)["silhouette"]
    assert found["n"] == 4500
    assert found["note"] is None
    np.testing.assert_allclose(silhouettes(vectors[:900], codes[:900]), silhouette_samples(
        vectors[:900], codes[:900], metric="cosine"), atol=1e-12)  # fmt: skip


def test_vectors_of_one_direction_have_a_silhouette_of_zero() -> None:
    vectors = np.outer(np.arange(1, 41), np.random.default_rng(0).normal(size=7))
    assert measured(vectors, np.arange(40) % 2)["silhouette"]["value"] == 0


def test_classes_about_one_centre_have_no_davies_bouldin_index() -> None:
    vectors = np.array([[1, 2.0], [1, -2], [1, 1], [1, -1], [3, 0], [5, 0]])
    found = measured(vectors, np.array([0, 0, 1, 1, 2, 2]))
    assert found["ratio"]["value"] > 0
    assert found["davies_bouldin"]["value"] is None
    assert found["davies_bouldin"]["note"] == "undefined: two classes have one centre"


def test_rotation_and_names_change_nothing(world: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, codes = world
    turned = vectors @ np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    np.testing.assert_allclose(spread(turned, 2 - codes), spread(vectors, codes))
    renamed = separability(turned, [f"x{2 - c}" for c in codes], np.arange(150) // 2, target="label", seed=0)
    before = separability(vectors, [f"c{c}" for c in codes], np.arange(150) // 2, target="label", seed=0)
    assert renamed["value"].to_list() == pytest.approx(before["value"].to_list())
    assert isinstance(before, pl.DataFrame)
