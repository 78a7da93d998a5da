import numpy as np
import pytest

from analysis.audits import audit_cell
from analysis.audits.duplicates import duplicates
from analysis.audits.leakage import leakage, leakage_by
from analysis.bootstrap import cluster_bootstrap
from analysis.near_duplicates import near_duplicates
from analysis.neighbors import cosine_neighbors
from analysis.space import Space
from tests import worlds


def leaked(world, *, k=15):
    neighbors = cosine_neighbors(world.vectors, k, groups=world.groups)
    nothing = np.zeros_like(world.groups)
    found = leakage(neighbors, nothing, nothing, world.groups, k=k, seed=0, space=Space.of(world.vectors))
    return {result.metric: result for result in found}


@pytest.mark.parametrize("k", [1, 15])
@pytest.mark.parametrize("group_size", [2, 6, 40])
def test_leakage_is_that_of_lists_with_the_group_in_them(group_size, k):
    world = worlds.make_world(lesion=2, background=2, group_size=group_size, seed=3)
    listed = cosine_neighbors(world.vectors, k).indices
    mate = world.groups[listed] == world.groups[:, None]
    found = leaked(world, k=k)
    assert found["same_group_first"].value == pytest.approx(mate[:, 0].mean())
    assert found["same_group_share"].value == pytest.approx(mate.sum() / (240 * min(group_size - 1, k)))
    np.testing.assert_allclose(found["same_group_share"].per_image, mate.sum(axis=1) / min(group_size - 1, k))
    assert found["same_group_first"].expected == pytest.approx((group_size - 1) / 239)
    drawn = k * (group_size - 1) / 239
    assert found["same_group_share"].expected == pytest.approx(drawn / min(group_size - 1, k))
    share = found["same_group_first"]
    assert (share.ci_low, share.ci_high) == cluster_bootstrap(mate[:, 0].astype(float), world.groups, seed=0)
    for result in found.values():
        assert result.ci_low <= result.value <= result.ci_high
        assert result.n == 240


def test_large_groups_are_compared_in_parts(monkeypatch):
    world = worlds.make_world(lesion=2, background=2, group_size=40, seed=3)
    whole = leaked(world)["same_group_share"]
    monkeypatch.setattr("analysis.audits.leakage._BLOCK_ELEMENTS", 41 * 7)
    in_parts = leaked(world)["same_group_share"]
    np.testing.assert_array_equal(in_parts.per_image, whole.per_image)
    assert in_parts.value == whole.value


def test_images_without_group_mates_do_not_count():
    world = worlds.mixed()
    groups = np.where(np.arange(240) < 40, world.groups, 1000 + np.arange(240))
    found = leaked(worlds.World(world.vectors, world.labels, world.confounder, groups))
    assert found["same_group_first"].n == 40
    assert np.isnan(found["same_group_share"].per_image[40:]).all()
    alone = leaked(worlds.World(world.vectors, world.labels, world.confounder, np.arange(240)))
    assert alone["same_group_first"].value is None
    assert "every image is a group of its own" in alone["same_group_first"].note


def test_near_duplicates_are_found_with_their_labels():
    world = worlds.mixed()
    rng = np.random.default_rng(0)
    copied = world.vectors[:20] + 0.01 * rng.normal(size=(20, 16)).astype(np.float32)
    vectors = np.concatenate([world.vectors, copied])
    groups = np.arange(260)
    pairs = near_duplicates(cosine_neighbors(vectors, 10, groups=groups))
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == {(i, 240 + i) for i in range(20)}
    assert (np.diff(pairs.distances) >= 0).all()
    labels = np.concatenate([np.unique(world.labels, return_inverse=True)[1]] * 2)[:260]
    labels[240:245] = 2
    found = duplicates(cosine_neighbors(vectors, 10), labels, labels, groups, k=5, seed=0)
    assert [result.value for result in found] == [40 / 260, 10 / 260]
    assert "20 pairs" in found[0].note
    assert "5 pairs" in found[1].note
    # Told that they belong together, they are no longer looked for.
    groups[240:] = np.arange(20)
    assert len(near_duplicates(cosine_neighbors(vectors, 10, groups=groups)).left) == 0


def test_exact_copies_are_near_duplicates_however_many_there_are():
    world = worlds.duplicates()
    pairs = near_duplicates(cosine_neighbors(world.vectors, 10, groups=world.groups))
    assert pairs.threshold == 0
    assert len(pairs.left) == 240
    assert near_duplicates(cosine_neighbors(world.vectors[:1], 3)) is None


def test_leakage_by_a_column_counts_its_mates_alone():
    # Slides of three images within patients of six: the other slide's images are in the way, not mates.
    world = worlds.make_world(lesion=2, background=2, group_size=6, seed=3)
    slides = np.arange(240) // 3
    slides[:12] = -1
    listed = cosine_neighbors(world.vectors, 15).indices
    mate = (slides[listed] == slides[:, None])[12:]
    neighbors = cosine_neighbors(world.vectors, 15, groups=world.groups)
    first, share = leakage_by("slide", neighbors, slides, world.groups, k=15, seed=0, space=Space.of(world.vectors))
    assert (first.metric, share.metric) == ("same_slide_first", "same_slide_share")
    assert first.value == pytest.approx(mate[:, 0].mean())
    assert share.value == pytest.approx(mate.sum() / (228 * 2))
    assert 0 < first.value < leaked(world)["same_group_first"].value
    assert first.n == 228
    np.testing.assert_allclose(share.per_image[12:], mate.sum(axis=1) / 2)
    assert np.isnan(share.per_image[:12]).all()


def test_a_mate_goes_before_a_copy_outside_the_group():
    # Of three copies each, two are of one group: all are at distance 0, whatever rounding says.
    vectors = np.repeat(np.random.default_rng(0).normal(size=(60, 37)).astype(np.float32), 3, axis=0)
    groups = np.where(np.arange(180) % 3 < 2, np.arange(180) // 3, 1000 + np.arange(180))
    nothing = np.zeros_like(groups)
    neighbors = cosine_neighbors(vectors, 1, groups=groups)
    found = leakage(neighbors, nothing, nothing, groups, k=1, seed=0, space=Space.of(vectors))
    assert [result.value for result in found] == [1, 1]


def test_audits_tell_leakage_of_every_group_column():
    world = worlds.make_world(lesion=2, background=2, group_size=6, seed=3)
    neighbors = cosine_neighbors(world.vectors, 15, groups=world.groups)
    columns = {
        "slide": [f"s{i // 3}" if i >= 12 else None for i in range(240)],
        "patient": [f"p{group}" for group in world.groups],
        "group": [f"g{i // 2}" for i in range(240)],
    }
    found = audit_cell(
        neighbors, world.labels, {}, world.groups, k=15, seed=0, vectors=world.vectors, group_columns=columns,
        only={"leakage"},
    ).summary  # fmt: skip
    value = dict(found.select("metric", "value").iter_rows())
    assert len(value) == found.height == 8
    assert value["same_group_column_first"] < value["same_slide_first"]
    assert value["same_patient_share"] == value["same_group_share"]
    assert value["same_slide_first"] < value["same_group_first"]
    # No background: verdicts are of those.
    assert found["confounder"].null_count() == found.height
