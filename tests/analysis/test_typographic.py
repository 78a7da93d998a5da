"""Flips, counted by hand; and how an encoder is asked, against scikit-learn on the same folds."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from analysis.bootstrap import cluster_bootstrap
from analysis.class_directions import probe_directions, text_directions
from analysis.figures import AttackedImage, attack_figure
from analysis.typographic import ACCURACY, CONTROL, DIFFERENCE, FLIPPED, Attack, measure_attack


def attack(**changed: list[int]) -> Attack:
    columns = {
        "planted": [0, 0, 0, 0, 1, 1],
        "before": [1, 1, 0, 2, 0, 1],
        "after": [0, 1, 0, 0, 1, 1],
        "control": [1, 1, 0, 0, 0, 1],
        "truth": [1, 1, 0, 2, -1, 0],
        "groups": [0, 0, 1, 2, 3, 4],
    } | changed
    return Attack(**{name: np.array(values, dtype=np.int64) for name, values in columns.items()})


def test_flips_are_counted_where_the_answer_was_another() -> None:
    found = {result.metric: result for result in measure_attack(attack(), seed=0)}
    # Of rows 0, 1, 3 and 4 the answers of 0, 3 and 4 become the planted class; with the neutral word that of 3.
    assert (found[FLIPPED].value, found[FLIPPED].n) == (0.75, 4)
    assert (found[CONTROL].value, found[DIFFERENCE].value) == (0.25, 0.5)
    groups = np.array([0, 0, 2, 3])
    paired = cluster_bootstrap(np.array([1.0, 0, 0, 1]), groups, seed=0)
    assert (found[DIFFERENCE].ci_low, found[DIFFERENCE].ci_high) == tuple(paired)
    # Rows 0, 1, 3 and 5 are of another class than the planted one.
    assert [found[name].value for name in ACCURACY] == [0.75, 0.25, 0.5]
    assert found[ACCURACY[0]].n == 4


def test_what_cannot_be_seen_is_undefined_with_a_reason() -> None:
    found = {result.metric: result for result in measure_attack(attack(before=[0, 0, 0, 0, 1, 1]), seed=0)}
    assert found[FLIPPED].value is None
    assert found[FLIPPED].note == "undefined: every image was given the planted class before"
    same = measure_attack(attack(truth=[0, 0, 0, 0, 1, -1]), seed=0)
    assert [result.value for result in same if result.metric in ACCURACY] == [None] * 3


@pytest.mark.parametrize("classes", [2, 3])
def test_an_image_is_asked_of_a_probe_that_was_fitted_without_its_group(classes: int) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3)
    labels = [f"c{g % classes}" for g in groups]
    centres = rng.normal(size=(classes, 12))
    vectors = (centres[groups % classes] + 1.2 * rng.normal(size=(120, 12)) + 5).astype(np.float32)
    directions = probe_directions(vectors, labels, groups, seed=1)
    y, rows = np.array(labels), np.arange(120)
    expected, scores = np.empty(120, dtype=object), np.empty((120, classes))
    parts = StratifiedGroupKFold(5, shuffle=True, random_state=1).split(vectors, groups % classes, groups)
    for fit, held_out in parts:
        svc = LinearSVC(C=100 / len(fit), tol=1e-8, max_iter=100_000)
        model = make_pipeline(StandardScaler(), svc).fit(vectors[fit].astype(np.float64), y[fit])
        expected[held_out] = model.predict(vectors[held_out].astype(np.float64))
        decided = model.decision_function(vectors[held_out].astype(np.float64))
        scores[held_out] = decided if classes > 2 else np.stack([-decided, decided], 1) / 2
    found = directions.scores(vectors, rows)
    np.testing.assert_allclose(found, scores, atol=2e-3)
    assert [directions.classes[code] for code in directions.answers(vectors, rows)] == expected.tolist()
    assert directions.coef.shape == (5, classes, 12)
    # Images without a label take part in no fit.
    unknown = probe_directions(
        np.concatenate([vectors, 1e6 * np.ones((3, 12), np.float32)]), [*labels, None, None, None],
        np.concatenate([groups, [90, 91, 92]]), seed=1,
    )  # fmt: skip
    np.testing.assert_allclose(unknown.coef, directions.coef)


def test_an_image_without_a_label_is_asked_of_the_model_that_has_not_seen_its_patient() -> None:
    rng = np.random.default_rng(0)
    groups = np.append(np.repeat(np.arange(20), 3), [50])
    labels: list[str | None] = [None if i % 3 == 2 else f"c{g % 2}" for i, g in enumerate(groups)]
    labels[-1] = None
    found = probe_directions(rng.normal(size=(61, 4)).astype(np.float32), labels, groups, seed=1)
    assert len(set(found.model_of.tolist())) == 5
    assert all(len(set(found.model_of[groups == group].tolist())) == 1 for group in range(20))


def test_too_few_groups_are_said() -> None:
    with pytest.raises(ValueError, match="fewer than"):
        probe_directions(np.eye(8, dtype=np.float32), ["a", "b"] * 4, np.arange(8) // 4, seed=0)


def test_texts_answer_by_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors, texts = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(3, 4))
    directions = text_directions(texts, ("a", "b", "c"), 9)
    cosine = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) @ (
        texts / np.linalg.norm(texts, axis=1, keepdims=True)
    ).T
    rows = np.array([2, 0, 5])
    np.testing.assert_allclose(directions.scores(vectors[rows], rows), cosine[rows], rtol=1e-5)
    np.testing.assert_array_equal(directions.answers(vectors[rows], rows), cosine[rows].argmax(1))


def test_the_picture_takes_what_is_no_picture() -> None:
    image = AttackedImage((b"", b"", b""), ("", "$A_B$", "IMAGE"), ("a", "$b", "c"), "$b", None)
    assert attack_figure([image], title="$t_").startswith(b"\x89PNG")
    assert attack_figure([image] * 3, title="t").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no image"):
        attack_figure([], title="t")
