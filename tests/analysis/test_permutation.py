import numpy as np
import pytest

from analysis.permutation import permute_codes, permuted_agreement


def singles(n):
    return np.arange(n)


def test_permutation_stays_within_strata():
    rng = np.random.default_rng(3)
    strata, codes = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    permuted = permute_codes(codes, singles(200), seed=0, within=strata, permutations=50)
    columns = np.stack(permuted.first(50))
    for stratum in range(4):
        member = strata == stratum
        np.testing.assert_array_equal(np.sort(columns[:, member], axis=1), np.tile(np.sort(codes[member]), (50, 1)))
    assert len(np.unique(columns, axis=0)) == 50
    assert permuted.varies
    again = permute_codes(codes, singles(200), seed=0, within=strata, permutations=50)
    np.testing.assert_array_equal(permuted.codes, again.codes)
    other = permute_codes(codes, singles(200), seed=1, within=strata, permutations=50)
    assert (permuted.codes != other.codes).any()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_permutations_are_uniform(n):
    # Every order of n distinct codes equally often.
    permuted = np.stack(permute_codes(np.arange(n), singles(n), seed=0, permutations=12_000).first(12_000))
    orders, counts = np.unique(permuted, axis=0, return_counts=True)
    expected = 12_000 / len(orders)
    assert len(orders) == np.prod(np.arange(1, n + 1))
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_images_of_a_group_move_together():
    groups = np.repeat(np.arange(60), 3)
    codes = np.repeat(np.random.default_rng(0).integers(0, 2, 60), 3)
    permuted = permute_codes(codes, groups, seed=0, within=np.zeros(180, dtype=np.int64))
    assert "of 60 units" in permuted.describe()
    for column in permuted.first(20):
        assert (column.reshape(60, 3) == column[::3, None]).all()


def test_groups_that_hold_several_codes_hand_them_on_together():
    groups, strata = np.repeat(np.arange(40), 4), np.repeat(np.arange(40) % 2, 4)
    held = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 2], [1, 1, 2, 2]])
    # Groups of a stratum hold one of two sets of codes each.
    codes = held[np.arange(40) // 2 % 2 + 2 * (np.arange(40) % 2)].ravel()
    permuted = permute_codes(codes, groups, seed=0, within=strata)
    assert "groups of one size, and within groups" in permuted.describe()
    columns = np.stack(permuted.first(40))
    for stratum in (0, 1):
        sets = np.sort(columns[:, strata == stratum].reshape(40, 20, 4), axis=2)
        expected = {tuple(row) for row in held[2 * stratum : 2 * stratum + 2].tolist()}
        assert {tuple(row) for row in sets.reshape(-1, 4).tolist()} == expected
        assert (sets[:, :, 0].sum(axis=1) == sets[0, :, 0].sum()).all()
    # Places within a group change, and groups do.
    assert len(np.unique(columns, axis=0)) == 40
    assert len(np.unique(columns[:, 4:8], axis=0)) > 4


def test_groups_of_different_sizes_keep_their_codes():
    groups, codes = np.repeat([0, 1, 2], [1, 2, 3]), np.array([0, 0, 1, 1, 1, 0])
    columns = np.stack(permute_codes(codes, groups, seed=0).first(200))
    assert (columns[:, 0] == 0).all()
    assert (columns[:, 1:3].sum(axis=1) == 1).all()
    assert (columns[:, 3:].sum(axis=1) == 2).all()
    assert len(np.unique(columns, axis=0)) == 6


def test_a_column_that_cannot_be_permuted_says_so():
    labels = np.repeat([0, 1, 2], 20)
    fixed = permute_codes(labels, singles(60), seed=0, within=labels)
    assert not fixed.varies
    assert "cannot be permuted" in fixed.describe()
    assert permute_codes(labels, singles(60), seed=0).varies


def test_codes_stay_with_groups_of_their_size():
    groups = np.repeat(np.arange(20), np.tile([3, 1], 10))
    codes = np.repeat(np.arange(20) // 2 % 2, np.tile([3, 1], 10))
    columns = np.stack(permute_codes(codes, groups, seed=0).first(200))
    assert (columns.sum(axis=1) == codes.sum()).all()
    assert len(np.unique(columns, axis=0)) == 200
    # All of size 3 have one code, all singles the other: no column but this one has as many of each.
    codes = np.repeat(np.arange(20) % 2, np.tile([3, 1], 10))
    assert permute_codes(codes, groups, seed=0).arrangements == 1


def test_a_group_of_two_strata_moves_as_a_whole():
    groups, strata = np.repeat(np.arange(30), 4), np.tile([0, 0, 1, 1], 30)
    codes = np.repeat(np.random.default_rng(0).integers(0, 2, 30), 4)
    permuted = permute_codes(codes, groups, seed=0, within=strata)
    columns = np.stack(permuted.first(100)).reshape(100, 30, 4)
    assert (columns == columns[:, :, :1]).all()
    assert len(np.unique(columns[:, :, 0], axis=0)) == 100
    # Codes that differ by stratum stay apart: nothing is shuffled across.
    columns = np.stack(permute_codes(strata, groups, seed=0, within=strata).first(20))
    assert (columns == strata).all()
    # Images of one group that differ within a stratum change places there only.
    codes = np.tile([0, 1, 2, 3], 30)
    columns = np.stack(permute_codes(codes, groups, seed=0, within=strata).first(20)).reshape(20, 30, 4)
    assert (np.sort(columns[:, :, :2], axis=2) == [0, 1]).all()
    assert (np.sort(columns[:, :, 2:], axis=2) == [2, 3]).all()


@pytest.mark.parametrize(
    ("codes", "groups", "strata", "expected"),
    [
        ([0, 1, 2], [0, 1, 2], [0, 0, 0], 6),
        ([0, 0, 1, 1], [0, 1, 2, 3], [0, 0, 0, 0], 6),
        ([0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], 2),
        ([0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], 4),
        ([0, 1, 1, 2], [0, 0, 1, 1], [0, 1, 0, 1], 2),
        ([0, 1, 1, 2], [0, 0, 1, 1], [0, 1, 0, 0], 2),
        ([0, 0, 1], [0, 1, 1], [0, 0, 0], 2),
        ([0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0], 8),
    ],
)
def test_arrangements_are_those_that_occur(codes, groups, strata, expected):
    permuted = permute_codes(*map(np.array, (codes, groups)), seed=0, within=np.array(strata), permutations=500)
    assert permuted.arrangements == expected == len(np.unique(np.stack(permuted.first(500)), axis=0))


def test_few_arrangements_are_no_test():
    few = permute_codes(np.array([0, 0, 0, 1, 1]), singles(5), seed=0)
    assert few.varies
    assert not few.testable
    assert "only 10 arrangements" in few.describe()
    small = permute_codes(np.array([0, 0, 0, 1, 1, 1]), singles(6), seed=0)
    assert small.testable
    assert "20 arrangements" in small.describe()


@pytest.mark.parametrize("codes_used", [3, 300])
def test_agreement_is_that_of_every_permuted_column(codes_used):
    rng = np.random.default_rng(0)
    n = 400
    groups = np.repeat(np.arange(n // 2), 2)
    codes = np.repeat(rng.integers(0, codes_used, n // 2), 2)
    permuted = permute_codes(codes, groups, seed=0, permutations=70)
    queries, neighbors = rng.integers(0, n, 2000), rng.integers(0, n, 2000)
    # Runs of one weight longer than a byte counts, and weights of their own.
    weights = np.concatenate([np.full(900, 0.5), np.full(600, 0.25), rng.random(500)])
    found = permuted_agreement(permuted, queries, neighbors, weights)
    expected = [weights @ (column[queries] == column[neighbors]) for column in permuted.first(70)]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(permuted_agreement(permuted, queries, neighbors, weights, permutations=9), expected[:9])
