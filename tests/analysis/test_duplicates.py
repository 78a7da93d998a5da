"""Copies by content, near-duplicates by distance, groups by hanging together, a threshold by what is ordinary."""

import numpy as np
import polars as pl
import pytest

from analysis.duplicates import ALONE, MAX_DISTANCE, calibrate, corrected, find_duplicates
from analysis.metadata import group_codes


def descriptors(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 64)).astype(np.float32)


def hashes(n):
    return [f"h{i}" for i in range(n)]


def test_planted_duplicates_are_found_and_nothing_else():
    vectors, content = descriptors(60), hashes(60)
    rng = np.random.default_rng(1)
    for copy, original in ((10, 3), (20, 3), (31, 30)):
        vectors[copy] = vectors[original] + 0.1 * rng.normal(size=64)
    vectors[50], content[50] = vectors[40], content[40]
    found = find_duplicates(vectors, content)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), found.exact.tolist(), strict=True))
    assert pairs == {(40, 50, True), (3, 10, False), (3, 20, False), (10, 20, False), (30, 31, False)}
    groups = {frozenset(np.flatnonzero(found.groups == g).tolist()) for g in np.unique(found.groups)}
    assert {g for g in groups if len(g) > 1} == {frozenset({3, 10, 20}), frozenset({30, 31}), frozenset({40, 50})}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(
        found.distance, 1 - np.einsum("ij,ij->i", unit[found.first], unit[found.second]), atol=1e-6
    )


def test_a_data_set_of_nothing_but_pairs():
    vectors = np.repeat(descriptors(100), 2, axis=0)
    vectors += 0.1 * np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    found = find_duplicates(vectors, hashes(200))
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == {(2 * i, 2 * i + 1) for i in range(100)}
    assert found.uncalibrated is None


def test_a_threshold_that_cannot_be_calibrated_says_so():
    same = np.repeat(descriptors(2), 30, axis=0)
    same += 1e-4 * np.random.default_rng(1).normal(size=same.shape).astype(np.float32)
    found = find_duplicates(same, hashes(60))
    assert len(np.unique(found.groups)) == 2
    assert "as near to many others" in found.uncalibrated
    assert "fewer than 20" in find_duplicates(descriptors(5), hashes(5)).uncalibrated


def test_a_chain_is_one_group():
    vectors = descriptors(40)
    step = 0.2 * np.linalg.norm(vectors[0]) * np.eye(64, dtype=np.float32)[0]
    vectors[1], vectors[2] = vectors[0] + step, vectors[0] + 2 * step
    found = find_duplicates(vectors, hashes(40))
    assert found.groups[0] == found.groups[1] == found.groups[2]
    assert (0, 2) not in set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def test_pictures_of_one_colour_are_copies_only_by_content():
    vectors, content = descriptors(30), hashes(30)
    vectors[[4, 5, 6]] = 0
    content[6] = content[5]
    found = find_duplicates(vectors, content)
    assert list(zip(found.first, found.second, found.exact, strict=True)) == [(5, 6, True)]


def test_the_threshold_follows_the_ordinary_distance():
    rng = np.random.default_rng(2)
    apart, alike = np.exp(rng.normal(np.log(0.6), 0.2, 500)), np.exp(rng.normal(np.log(0.04), 0.3, 500))
    assert calibrate(apart) == MAX_DISTANCE
    assert calibrate(alike) == pytest.approx(0.04 * np.exp(-0.9), rel=0.1)
    # A third of duplicates do not move it beyond the limit.
    assert calibrate(np.concatenate([apart, np.full(200, 0.001)])) == MAX_DISTANCE
    assert calibrate(alike[:5]) == MAX_DISTANCE


def test_of_few_images_and_of_none():
    assert find_duplicates(descriptors(1), ["a"]).groups.tolist() == [0]
    assert find_duplicates(descriptors(2), ["a", "a"]).exact.tolist() == [True]
    assert find_duplicates(np.empty((0, 64), np.float32), []).groups.tolist() == []
    with pytest.raises(ValueError, match="2 content hashes for 3"):
        find_duplicates(descriptors(3), ["a", "b"])


def test_groups_of_duplicates_merge_with_patients():
    images = pl.DataFrame(
        {"patient": ["p", "p", "q", None], "slide": [None] * 4, "attributes": [None] * 4},
        schema={"patient": pl.String, "slide": pl.String, "attributes": pl.String},
    )
    codes = group_codes(images, ["a", "b", "c", "d"], [], [None, "g", "g", None])
    assert codes[0] == codes[1] == codes[2] != codes[3]
    assert len(set(group_codes(images, ["a", "b", "c", "d"], []))) == 3


def corrected_world(said):
    """Six images: 0, 1, 2 hang together through 1; 3 and 4 are one; 5 is alone. Ids are letters."""
    vectors = descriptors(40)
    rng = np.random.default_rng(1)
    vectors[1] = vectors[0] + 0.1 * rng.normal(size=64)
    vectors[2], vectors[4] = vectors[1] + 0.1 * rng.normal(size=64), vectors[3] + 0.1 * rng.normal(size=64)
    ids = [f"{i:02}" for i in range(40)]
    found = corrected(find_duplicates(vectors, hashes(40)), ids, said)
    groups = [frozenset(np.flatnonzero(found.groups == g).tolist()) for g in np.unique(found.groups)]
    return found, {group for group in groups if len(group) > 1}


@pytest.mark.parametrize(
    ("said", "groups"),
    [
        ({}, [{0, 1, 2}, {3, 4}]),
        ({"02": ALONE}, [{0, 1}, {3, 4}]),
        ({"00": ALONE}, [{1, 2}, {3, 4}]),
        ({"05": "00"}, [{0, 1, 2, 5}, {3, 4}]),
        ({"04": "00", "03": "00"}, [{0, 1, 2, 3, 4}]),
        ({"05": "pair", "06": "pair"}, [{0, 1, 2}, {3, 4}, {5, 6}]),
        # Under the name of a group whose first image was taken out, and of an image that leads no group.
        ({"00": ALONE, "05": "00"}, [{1, 2, 5}, {3, 4}]),
        ({"05": "07"}, [{0, 1, 2}, {3, 4}, {5, 7}]),
        ({"not among them": "00"}, [{0, 1, 2}, {3, 4}]),
    ],
)
def test_what_a_person_says_of_groups_goes_first(said, groups):
    found, made = corrected_world(said)
    assert made == {frozenset(group) for group in groups}
    assert (found.first < found.second).all()
    np.testing.assert_array_equal(np.isnan(found.distance), found.kind == "corrected")


def test_a_name_that_no_other_image_has_ties_nothing():
    _, made = corrected_world({"05": "a name", "04": "another"})
    assert made == {frozenset({0, 1, 2})}


@pytest.mark.parametrize(
    ("said", "groups"),
    [
        ({}, [{0, 1, 2, 3, 4}]),
        # What is said of the image that stands for a content is not said of its copies.
        ({"00": ALONE}, [{1, 2, 3, 4}]),
        ({"00": ALONE, "01": ALONE}, [{2, 3, 4}]),
        ({"00": ALONE, "03": ALONE}, [{1, 2, 4}]),
        ({"00": "a", "01": "a"}, [{0, 1}, {2, 3, 4}]),
        ({"00": ALONE, "01": ALONE, "02": ALONE}, [{3, 4}]),
    ],
)
def test_copies_stay_together_when_the_first_is_taken_out(said, groups):
    # 0, 1 and 2 are copies of one content and 3 and 4 of another, which looks alike.
    vectors, content = descriptors(40), hashes(40)
    vectors[3] = vectors[0] + 0.1 * np.random.default_rng(1).normal(size=64)
    for copies in ((0, 1, 2), (3, 4)):
        for copy in copies:
            vectors[copy], content[copy] = vectors[copies[0]], content[copies[0]]
    found = corrected(find_duplicates(vectors, content), [f"{i:02}" for i in range(40)], said)
    made = {frozenset(np.flatnonzero(found.groups == g).tolist()) for g in np.unique(found.groups)}
    assert {group for group in made if len(group) > 1} == {frozenset(group) for group in groups}
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert all(first < second for first, second in pairs)
    assert all(content[first] == content[second] for first, second in np.array(pairs)[found.exact].tolist())
