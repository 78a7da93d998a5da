import numpy as np
import pytest
from scipy import sparse
from scipy.stats import bootstrap, t

from analysis.bootstrap import bootstrap_sums, cluster_bootstrap, pair_bootstrap, ratio_of_sums
from analysis.jackknife import jackknife


def test_groups_of_one_agree_with_scipy():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=120)
    reference = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = cluster_bootstrap(values, np.arange(120), seed=0, resamples=20_000)
    width = reference.high - reference.low
    assert found.low == pytest.approx(reference.low, abs=0.02 * width)
    assert found.high == pytest.approx(reference.high, abs=0.02 * width)


def test_groups_are_drawn_whole():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    values, sizes = rng.normal(size=12)[groups], rng.integers(1, 4, 120).astype(float)
    found = cluster_bootstrap(values, groups, denominators=sizes, seed=0, resamples=4000)
    draws = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 12, 12)])
        draws.append(values[rows].sum() / sizes[rows].sum())
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.04 * (high - low))
    assert found.high == pytest.approx(high, abs=0.04 * (high - low))
    # Counting the images as independent would be far too sure of itself.
    naive = cluster_bootstrap(values, np.arange(120), denominators=sizes, seed=0)
    assert naive.high - naive.low < 0.6 * (found.high - found.low)


def test_chunks_and_sparse_sums_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    sums = rng.integers(0, 5, size=(30, 2)).astype(float)

    def both(drawn):
        return np.stack([ratio_of_sums(drawn), drawn[:, 0]], axis=1)

    whole = bootstrap_sums(sums, both, seed=0)
    assert whole == bootstrap_sums(sparse.csr_array(sums), both, seed=0)
    monkeypatch.setattr("analysis.bootstrap._CHUNK_ELEMENTS", 30 * 7)
    assert whole == bootstrap_sums(sums, both, seed=0)


def test_undefined_rather_than_nan():
    values = np.ones(6)
    assert cluster_bootstrap(values, np.zeros(6, int), seed=0) == (None, None)
    assert cluster_bootstrap(values, np.arange(6), denominators=np.zeros(6), seed=0) == (None, None)
    with pytest.raises(ValueError, match="differ"):
        cluster_bootstrap(values, np.arange(5), seed=0)


def test_pairs_weigh_query_and_neighbour():
    rng = np.random.default_rng(0)
    queries, neighbors = rng.integers(0, 15, 400), rng.integers(0, 15, 400)
    agree = rng.integers(0, 2, 400).astype(float)
    found = pair_bootstrap(agree, np.ones(400), queries, neighbors, seed=0, resamples=4000)
    draws = []
    for _ in range(4000):
        weight = np.bincount(rng.integers(0, 15, 15), minlength=15)
        pair = weight[queries] + weight[neighbors] - 1
        draws.append((pair * agree).sum() / pair.sum())
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.05 * (high - low))
    assert found.high == pytest.approx(high, abs=0.05 * (high - low))


def test_pair_intervals_stay_within_the_unit_interval():
    # One group in three disagrees: linear weights alone would leave [0, 1].
    queries = np.repeat(np.arange(3), 5)
    agree = (queries > 0).astype(float)
    low, high = pair_bootstrap(agree, np.ones(15), queries, np.roll(queries, 1), seed=0)
    assert 0 <= low <= agree.mean() <= high <= 1


def test_jackknife_of_a_mean_is_its_standard_error():
    # As many blocks as groups: the textbook case, in which the two are the same.
    values = np.random.default_rng(0).normal(size=20)
    low, high = jackknife(lambda keep: float(values[keep].mean()), np.arange(20), seed=0, within=(-9, 9))
    reach = t.ppf(0.975, 19) * values.std(ddof=1) / np.sqrt(20)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach))
