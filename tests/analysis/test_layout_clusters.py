import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from analysis.layout_clusters import (
    Association,
    _mutual_information,
    association,
    find_clusters,
    recurring_clusters,
    shows,
)


def blobs(sizes=(60, 50, 40), *, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [5, 0], [0, 5], [5, 5]])[: len(sizes)]
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return centres[codes] + spread * rng.normal(size=(len(codes), 2)), codes


def test_finds_what_an_eye_sees():
    coordinates, codes = blobs()
    found = find_clusters(coordinates)
    assert adjusted_mutual_info_score(found, codes) > 0.95
    assert found.max() == 2


def test_too_few_images_hold_no_cluster():
    assert (find_clusters(np.random.default_rng(0).normal(size=(19, 2))) == -1).all()


def test_the_same_cluster_is_counted_once_however_it_is_numbered():
    halves = np.repeat([0, 1], 50)
    assignments = [halves, 1 - halves, np.where(np.arange(100) < 45, 5, -1), np.repeat([0, 1, 2, 3], 25)]
    first, second, *rest = recurring_clusters(assignments)
    # 45 of 50 overlap by nine tenths: the same; 25 of 50 do not.
    assert first.shown_by == (0, 1, 2)
    np.testing.assert_array_equal(first.members, halves == 0)
    np.testing.assert_array_equal(first.layouts_of_image, np.r_[np.full(45, 3), np.full(5, 2), np.zeros(50)])
    pairs = 50 * 49
    together = [1, 1, 45 * 44 / pairs, 2 * 25 * 24 / pairs]
    assert first.coassignment == pytest.approx(np.mean(together))
    assert second.shown_by == (0, 1)
    assert [cluster.shown_by for cluster in rest] == [(3,)] * 4


def test_no_clusters_recur_where_there_are_none():
    assert recurring_clusters([np.full(30, -1)] * 3) == []


def test_mutual_information_agrees_with_sklearn():
    rng = np.random.default_rng(0)
    clusters, codes = rng.integers(4, size=200), rng.integers(3, size=(5, 200))
    expected = [mutual_info_score(clusters, row) for row in codes]
    np.testing.assert_allclose(_mutual_information(clusters, codes), expected, atol=1e-12)


def test_association_is_sklearns_on_the_known_images():
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 1, -1], [80, 80, 40])
    attribute = np.where(rng.random(200) < 0.8, clusters + 1, rng.integers(3, size=200))
    attribute[:10] = -1
    found = association(clusters, attribute, np.arange(200), seed=0)
    assert found.value == pytest.approx(adjusted_mutual_info_score(attribute[10:], clusters[10:]))
    assert (found.n, found.n_clusters, found.note) == (190, 2, "")
    assert found.p_value == pytest.approx(1 / 200)
    assert abs(found.expected) < 0.02


def test_what_goes_by_way_of_the_label_is_expected():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 100)
    attribute = np.where(rng.random(200) < 0.9, label, 1 - label)
    plain = association(label, attribute, np.arange(200), seed=0)
    within = association(label, attribute, np.arange(200), seed=0, within=label)
    assert plain.p_value < 0.01 < 0.9 < within.p_value
    assert plain.expected < 0.05
    # Within the label nothing is left to permute: all of it is expected.
    assert within.expected == pytest.approx(within.value)


def test_noise_is_not_flagged_however_large_its_groups():
    rng = np.random.default_rng(0)
    # A cluster per four groups, and an attribute by group: dependent images, nothing beyond chance.
    groups = np.repeat(np.arange(40), 10)
    p_values = []
    for seed in range(20):
        attribute = rng.integers(2, size=40)[groups]
        p_values.append(association(groups // 4, attribute, groups, seed=seed).p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.15


@pytest.mark.parametrize(
    ("clusters", "attribute", "reason"),
    [
        ([-1] * 20, [0, 1] * 10, "the layout has no clusters"),
        ([0] * 10 + [1] * 10, [0, 1] * 5 + [-1] * 10, "all images whose value is known lie in one cluster"),
        ([0] * 10 + [1] * 10, [-1] * 20, "all images whose value is known lie in one cluster"),
        ([0] * 10 + [1] * 10, [1] * 20, "all images have one value"),
    ],
)
def test_undefined_says_why(clusters, attribute, reason):
    found = association(np.array(clusters), np.array(attribute), np.arange(20), seed=0)
    assert found.value is found.expected is found.p_value is None
    assert found.note == f"undefined: {reason}"


def test_shown_is_both_significant_and_strong():
    def of(value, p):
        return Association(value, 0.05, p, 3, 100, "")

    undefined = Association(None, None, None, 0, 100, "undefined: the layout has no clusters")
    adjusted, shown = shows([of(0.5, 0.01), of(0.14, 0.01), of(0.5, 0.2), undefined])
    assert shown == [True, False, False, False]
    assert adjusted == [pytest.approx(0.015), pytest.approx(0.015), pytest.approx(0.2), None]
