import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from analysis import layout_clusters as module
from analysis.layout_clusters import (
    Association,
    _adjusted_mutual_information,
    associations,
    find_clusters,
    recurring_clusters,
    shows,
)
from analysis.permutation import permute_codes


def blobs(sizes=(60, 50, 40), *, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [5, 0], [0, 5], [5, 5]])[: len(sizes)]
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return centres[codes] + spread * rng.normal(size=(len(codes), 2)), codes


def association(clusters, attribute, groups, **options):
    [found] = associations([clusters], attribute, groups, **options)
    return found


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


def test_mutual_information_agrees_with_sklearn(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 600)
    rng = np.random.default_rng(0)
    clusterings, codes = [rng.integers(4, size=200), rng.integers(2, size=200)], rng.integers(3, size=200)
    permuted = permute_codes(codes, np.arange(200), seed=0, permutations=8)
    columns = [codes, *permuted.codes[permuted.unit].T]
    expected = [[adjusted_mutual_info_score(column, clusters) for column in columns] for clusters in clusterings]
    found = _adjusted_mutual_information(clusterings, codes, permuted)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_mutual_information_of_every_permutation_is_sklearns():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, size=60))
    clusters, codes = groups % 4, rng.integers(2, size=60)[groups]
    permuted = permute_codes(codes, groups, seed=0, permutations=20)
    columns = [codes, *permuted.codes[permuted.unit].T]
    assert len({tuple(column) for column in columns}) > 5
    expected = [adjusted_mutual_info_score(column, clusters) for column in columns]
    np.testing.assert_allclose(_adjusted_mutual_information([clusters], codes, permuted), [expected], atol=1e-6)


def test_what_cannot_be_permuted_is_not_tested():
    clusters = np.repeat([0, 1], 40)
    # Patients of one value have two images each, those of the other four: none can change places.
    groups = np.concatenate([np.repeat(np.arange(20), 2), np.repeat(np.arange(20, 30), 4)])
    found = association(clusters, clusters, groups, seed=0)
    assert found.value == pytest.approx(1)
    assert (found.expected, found.p_value, found.p_over_layouts) == (None, None, None)
    assert found.note.startswith("cannot be permuted")
    assert shows({"site": [found]}) == {"site": [(None, False)]}


def test_association_is_sklearns_on_the_known_images():
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 1, -1], [80, 80, 40])
    attribute = np.where(rng.random(200) < 0.8, clusters + 1, rng.integers(3, size=200))
    attribute[:10] = -1
    found = association(clusters, attribute, np.arange(200), seed=0)
    assert found.value == pytest.approx(adjusted_mutual_info_score(attribute[10:], clusters[10:]))
    assert (found.n, found.n_clusters, found.note) == (190, 2, "")
    assert found.p_value == found.p_over_layouts == pytest.approx(1 / 2000)
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
        ([0] * 10 + [1] * 10, [-1] * 20, "of no image is the value known"),
        ([-1] * 20, [-1] * 20, "of no image is the value known"),
        ([0] * 10 + [1] * 10, [1] * 20, "all images have one value"),
    ],
)
def test_undefined_says_why(clusters, attribute, reason):
    found = association(np.array(clusters), np.array(attribute), np.arange(20), seed=0)
    assert found.value is found.expected is found.p_value is found.p_over_layouts is None
    assert found.note == f"undefined: {reason}"


def test_undefined_where_the_label_is_not_known():
    halves = np.repeat([0, 1], 10)
    found = association(halves, np.where(halves, 0, -1), np.arange(20), seed=0, within=np.where(halves, -1, 0))
    assert found.note == "undefined: of no image are the value and the label known"


def noise_and_signal(n=120, attributes=12, layouts=6):
    """Layouts of two clusters that differ in some images, and attributes of which the first goes along with them."""
    rng = np.random.default_rng(0)
    halves = np.repeat([0, 1], n // 2)
    assignments = [np.where(rng.random(n) < 0.03, 1 - halves, halves) for _ in range(layouts)]
    return assignments, [halves] + [rng.integers(2, size=n) for _ in range(attributes - 1)]


@pytest.mark.parametrize("layouts", [1, 6, 50])
def test_one_of_twelve_attributes_can_be_shown(layouts):
    assignments, attributes = noise_and_signal(layouts=layouts)
    found = {f"a{i}": associations(assignments, a, np.arange(120), seed=0) for i, a in enumerate(attributes)}
    adjusted = shows(found)
    assert [shown for _, shown in adjusted["a0"]] == [True] * layouts
    assert not any(shown for name in list(adjusted)[1:] for _, shown in adjusted[name])
    assert max(p for p, _ in adjusted["a0"]) == pytest.approx(12 / 2000)


def test_layouts_are_adjusted_for_together():
    rng = np.random.default_rng(0)
    attributes = [rng.integers(2, size=100) for _ in range(40)]
    unrelated = [rng.integers(3, size=100) for _ in range(12)]
    found = [associations(unrelated, a, np.arange(100), seed=0) for a in attributes]
    alone = np.array([[result.p_value for result in results] for results in found])
    together = np.array([[result.p_over_layouts for result in results] for results in found])
    assert (together >= alone).all()
    # Of a dozen layouts one is significant by itself for about half of the attributes; together for a twentieth.
    assert (alone.min(axis=1) < 0.05).mean() > 0.25
    assert (together.min(axis=1) < 0.05).mean() <= 0.125
    # The same layout many times is no more to look at than once.
    once, many = (associations(unrelated[:1] * times, attributes[0], np.arange(100), seed=0) for times in (1, 12))
    assert many == once * 12


def test_shown_is_both_significant_and_strong():
    def of(value, p):
        return Association(value, 0.05, p / 2, p, 3, 100, "")

    undefined = Association(None, None, None, None, 0, 100, "undefined: the layout has no clusters")
    adjusted = shows(
        {"a": [of(0.5, 0.01), of(0.14, 0.01), of(0.5, 0.2), undefined], "b": [of(0.5, 0.8)], "c": [undefined]}
    )
    # Over two attributes: the third has none to adjust for.
    assert adjusted == {
        "a": [(pytest.approx(0.02), True), (pytest.approx(0.02), False), (pytest.approx(0.4), False), (None, False)],
        "b": [(pytest.approx(0.8), False)],
        "c": [(None, False)],
    }
