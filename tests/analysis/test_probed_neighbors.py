import numpy as np
import pytest

from analysis.audits import audit_cell
from analysis.neighbors import cosine_neighbors
from analysis.probed_neighbors import probed_neighbors
from tests.worlds import mixed


def spread(n=900, d=16):
    rng = np.random.default_rng(0)
    middle = rng.normal(size=(12, d))
    vectors = (middle[rng.integers(0, 12, n)] + rng.normal(size=(n, d))).astype(np.float32)
    return vectors, middle.astype(np.float32), np.arange(n) // 3


def true_recall(found, vectors, k, groups):
    exact = cosine_neighbors(vectors, k, groups=groups)
    return np.mean([len(set(a) & set(b)) for a, b in zip(found.indices, exact.indices, strict=True)]) / k


def test_all_lists_probed_is_exact():
    vectors, centres, groups = spread()
    found = probed_neighbors(vectors, centres, 20, groups=groups, seed=0, probes=12)
    exact = cosine_neighbors(vectors, 20, groups=groups)
    np.testing.assert_array_equal(found.neighbors.indices, exact.indices)
    np.testing.assert_allclose(found.neighbors.distances, exact.distances, atol=1e-6)
    assert found.recall == 1
    assert (found.probes, found.lists, found.sample) == (12, 12, 500)


def test_copies_are_at_distance_0_and_tie():
    vectors, centres, groups = spread()
    vectors[300:600] = vectors[:300]
    vectors[600:700] = vectors[:100]
    found = probed_neighbors(vectors, centres, 20, groups=groups, seed=0, probes=12).neighbors
    exact = cosine_neighbors(vectors, 20, groups=groups)
    assert (exact.distances[:100, :2] == 0).all()
    np.testing.assert_array_equal(found.distances == 0, exact.distances == 0)
    np.testing.assert_array_equal(found.indices, exact.indices)


def test_recall_is_that_of_all_images():
    vectors, centres, groups = spread()
    found = probed_neighbors(vectors, centres, 20, groups=groups, seed=0, probes=1, least_recall=0)
    assert found.probes == 1
    true = true_recall(found.neighbors, vectors, 20, groups)
    assert 0.3 < true < 0.99
    assert found.recall == pytest.approx(true, abs=0.02)
    assert found.interval.low < true < found.interval.high
    assert (groups[found.neighbors.indices] != groups[:, None])[found.neighbors.indices >= 0].all()


def test_too_little_recall_is_repaired():
    vectors, centres, groups = spread()
    once = probed_neighbors(vectors, centres, 20, groups=groups, seed=0, probes=1, least_recall=0)
    found = probed_neighbors(vectors, centres, 20, groups=groups, seed=0, probes=1, least_recall=0.98)
    assert found.probes > 1
    assert found.recall >= 0.98 > once.recall
    assert true_recall(found.neighbors, vectors, 20, groups) > 0.97
    every = probed_neighbors(vectors, centres, 20, groups=groups, seed=0, probes=1, least_recall=1.1)
    assert every.probes == every.lists


def test_wrong_centres_are_refused():
    vectors, centres, groups = spread(60)
    with pytest.raises(ValueError, match=r"centres must have shape \(lists, 16\), not \(12, 3\)"):
        probed_neighbors(vectors, centres[:, :3], 5, groups=groups, seed=0)
    with pytest.raises(ValueError, match=r"not \(0, 16\)"):
        probed_neighbors(vectors, centres[:0], 5, groups=groups, seed=0)


def test_audits_report_the_recall_and_search_again_by_the_index(monkeypatch):
    world = mixed()
    centres = world.vectors[:6]
    found = probed_neighbors(world.vectors, centres, 30, groups=world.groups, seed=0, probes=6)
    known = [None if i % 3 == 0 else str(value) for i, value in enumerate(world.confounder)]
    exact = cosine_neighbors(world.vectors, 30, groups=world.groups)
    arguments = {"k": 15, "seed": 0, "vectors": world.vectors, "only": {"confounder_agreement"}}
    lists = (world.labels, {"b": known}, world.groups)
    expected = audit_cell(exact, *lists, **arguments).summary
    monkeypatch.setattr("analysis.space.cosine_neighbors", None)
    tables = audit_cell(found.neighbors, *lists, **arguments, centres=centres, searched=found.result())
    assert tables.summary.row(0, named=True)["metric"] == "neighbor_recall"
    assert tables.summary["value"][0] == 1
    assert "6 of 6 lists" in tables.summary["note"][0]
    assert tables.summary[1:].drop("p_adjusted").equals(expected.drop("p_adjusted"))
