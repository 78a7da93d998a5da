import numpy as np
import pytest

from analysis.encoder_agreement import (
    PERSISTENCE,
    encoder_agreement,
    linear_cka,
    overlap_at_depths,
    rank_biased_overlap,
)
from analysis.neighbors import cosine_neighbors, unit_vectors
from tests import worlds


def test_overlap_by_hand():
    a, b = np.array([[1, 2, 3], [4, 5, -1]]), np.array([[2, 1, 9], [5, -1, -1]])
    np.testing.assert_array_equal(overlap_at_depths(a, b), [[0, 2, 2], [0, 1, 1]])


def test_rank_biased_overlap_agrees_with_its_sum():
    rng = np.random.default_rng(0)
    a, b = (np.stack([rng.permutation(60)[:50] for _ in range(20)]) for _ in range(2))
    found = rank_biased_overlap(overlap_at_depths(a, b))
    for i in range(20):
        shared = [len(set(a[i, :d]) & set(b[i, :d])) for d in range(1, 51)]
        # Extrapolated: the last agreement holds for ever after.
        agreement = [shared[d - 1] / d for d in range(1, 51)] + [shared[-1] / 50] * 2000
        expected = (1 - PERSISTENCE) * sum(PERSISTENCE**d * value for d, value in enumerate(agreement))
        assert found[i] == pytest.approx(expected)
    np.testing.assert_allclose(rank_biased_overlap(overlap_at_depths(a, a)), 1)


def test_alignment_agrees_with_kernel_matrices():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    y = x @ rng.normal(size=(6, 9)) + rng.normal(size=(40, 9))

    def hsic(a, b):
        n = len(a)
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        one = np.ones(n)
        middle = (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
        return (np.trace(a @ b) + middle - 2 / (n - 2) * (one @ a @ b @ one)) / (n * (n - 3))

    u, v = unit_vectors(x).astype(float), unit_vectors(y).astype(float)
    a, b = u @ u.T, v @ v.T
    assert linear_cka(x, y) == pytest.approx(hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)), abs=1e-9)
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, x @ np.linalg.qr(rng.normal(size=(6, 6)))[0]) == pytest.approx(1, abs=1e-5)
    assert linear_cka(x[:3], y[:3]) is None
    assert linear_cka(np.ones((9, 4)), y[:9]) is None


def test_strangers_have_nothing_in_common_and_copies_everything():
    world, other = worlds.mixed(), worlds.make_world(lesion=0, background=0, seed=9)
    turned = world.vectors @ np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0].astype(np.float32)
    vectors = {"one": world.vectors, "turned": turned, "stranger": other.vectors}
    lists = {name: cosine_neighbors(v, 15, groups=world.groups).indices for name, v in vectors.items()}
    frame = encoder_agreement(lists, vectors, world.groups, seed=0)
    assert frame.select("encoder", "other_encoder").unique(maintain_order=True).rows() == [
        ("one", "turned"), ("one", "stranger"), ("turned", "stranger"),
    ]  # fmt: skip
    same = frame.filter(encoder="one", other_encoder="turned")
    np.testing.assert_allclose(same["value"], 1, atol=1e-3)
    strange = {
        row["metric"]: row for row in frame.filter(encoder="one", other_encoder="stranger").iter_rows(named=True)
    }
    overlap = strange["neighbor_overlap"]
    assert overlap["expected"] == pytest.approx(15 / 238)
    assert overlap["value"] == pytest.approx(overlap["expected"], abs=0.02)
    assert abs(strange["cka"]["value"]) < 0.05
    assert 0 <= strange["rank_biased_overlap"]["ci_low"] < strange["rank_biased_overlap"]["value"] < 0.15
    with pytest.raises(ValueError, match="list of one must have shape"):
        encoder_agreement(lists, vectors, world.groups[:-1], seed=0)


def test_short_lists_do_not_count():
    world = worlds.one_group()
    lists = {name: np.full((240, 5), -1) for name in ("one", "other")}
    vectors = dict.fromkeys(lists, world.vectors)
    frame = encoder_agreement(lists, vectors, world.groups, seed=0)
    assert frame["value"].to_list()[:2] == [None, None]
    assert "no image lists k neighbours" in frame["note"][0]
