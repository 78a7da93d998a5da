"""Where CRoMa has nothing to say, and what it and the search hold at once; its values are in test_reference_metrics."""

import tracemalloc

import numpy as np
import pytest

from analysis.audits.croma import METRICS, croma
from analysis.neighbors import TILED_FROM, cosine_neighbors
from analysis.space import Space
from tests.analysis.test_neighbors import spread

N = 120


def audited(labels, confounder, groups, *, n=N):
    vectors = spread(n)
    neighbors = cosine_neighbors(vectors, 100, groups=groups)
    return croma(neighbors.padded(1), labels, confounder, groups, k=15, seed=0, space=Space.of(vectors))


HALVES, PARITY, ALONE, ZERO = np.arange(N) // (N // 2), np.arange(N) % 2, np.arange(N), np.zeros(N, dtype=np.int64)


@pytest.mark.parametrize(
    ("labels", "confounder", "groups"),
    [
        (ZERO, PARITY, ALONE),  # one label: nothing of another
        (PARITY, ZERO, ALONE),  # one background
        (PARITY, PARITY, ALONE),  # the background is the label
        (HALVES, PARITY, ZERO),  # one group: no neighbour at all
        (np.arange(6) // 3, np.arange(6) % 2, np.arange(6)),  # fewer than five of a type
    ],
)
def test_without_both_types_it_is_undefined(labels, confounder, groups):
    found = audited(labels, confounder, groups, n=len(labels))
    assert [result.metric for result in found] == list(METRICS)
    for result in found:
        assert result.value is None
        assert result.ci_low is None
        assert result.n == 0
        assert "no image has 5 neighbours of both types" in result.note


def test_copies_of_both_types_have_no_margin():
    # All at distance 0: 0 / 0 is no margin, and no image counts.
    vectors = np.ones((N, 4), dtype=np.float32)
    neighbors = cosine_neighbors(vectors, 100)
    found = croma(neighbors, HALVES, PARITY, ALONE, k=15, seed=0, space=Space.of(vectors))
    assert [result.value for result in found] == [None] * 3


def test_memory_is_bounded(monkeypatch):
    n = TILED_FROM + 1904
    vectors = spread(n)
    labels, confounder = np.arange(n) // (n // 2), np.arange(n) % 2
    every_pair = 4 * n * n
    cosine_neighbors(vectors, 60)  # compiles
    tracemalloc.start()
    try:
        neighbors = cosine_neighbors(vectors, 60)
        searched = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        # Lists so short that most are searched again.
        monkeypatch.setattr("analysis.typed_search._BLOCK_ELEMENTS", 2**20)
        croma(neighbors.first(5), labels, confounder, np.arange(n), k=5, seed=0, space=Space.of(vectors))
        audited = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert searched < every_pair / 2
    assert audited < every_pair / 2
