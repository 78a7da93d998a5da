import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from scipy.stats.contingency import association

from analysis.statistics import benjamini_hochberg, connected_groups, contingency, cramers_v


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_agrees_with_scipy(p_values):
    np.testing.assert_allclose(benjamini_hochberg(np.array(p_values)), false_discovery_control(p_values))


@pytest.mark.parametrize("bad", [[0.1, np.nan], [-0.1], [1.2]])
def test_benjamini_hochberg_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        benjamini_hochberg(np.array(bad))


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(2, 5))
def test_cramers_v_agrees_with_scipy(seed, rows, columns):
    rng = np.random.default_rng(seed)
    a = np.concatenate([np.arange(rows), rng.integers(0, rows, 60)])
    b = np.concatenate([np.zeros(rows, dtype=np.int64), rng.integers(0, columns, 60)])
    b[:columns] = np.arange(columns)[: len(b)]
    table = contingency(a, b)
    # scipy refuses tables with an empty column.
    table = table[:, table.sum(axis=0) > 0]
    assert cramers_v(a, b) == pytest.approx(association(table, method="cramer"), abs=1e-9)


def test_cramers_v_at_its_ends():
    a = np.array([0, 0, 1, 1, 2, 2])
    assert cramers_v(a, a) == pytest.approx(1)
    assert cramers_v(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(0)
    # Codes that never occur count for nothing.
    assert cramers_v(a * 2, a) == pytest.approx(1)
    assert cramers_v(a, np.zeros_like(a)) is None
    assert cramers_v(a[:0], a[:0]) is None


def test_groups_are_joined_through_any_column():
    patient = ["a", "a", None, "b", None, None]
    duplicate = [None, "x", "x", None, None, "b"]
    # 0-1 share a patient, 1-2 a duplicate; "b" the patient is not "b" the duplicate.
    np.testing.assert_array_equal(connected_groups([patient, duplicate]), [0, 0, 0, 1, 2, 3])


def test_groups_without_values_stand_alone():
    np.testing.assert_array_equal(connected_groups([[None, None, None]]), [0, 1, 2])
    with pytest.raises(ValueError, match="one or more"):
        connected_groups([])
    with pytest.raises(ValueError, match="of one length"):
        connected_groups([["a"], ["a", "b"]])


@given(st.lists(st.tuples(*[st.sampled_from([None, "p", "q", "r", "s"])] * 2), min_size=1, max_size=12))
def test_groups_agree_with_merging_by_hand(rows):
    groups = [{i} for i in range(len(rows))]
    for i, one in enumerate(rows):
        for j, other in enumerate(rows[:i]):
            if any(a is not None and a == b for a, b in zip(one, other, strict=True)):
                merged = groups[i] | groups[j]
                for member in merged:
                    groups[member] = merged
    found = connected_groups(list(zip(*rows, strict=True)))
    assert [set(np.flatnonzero(found == code).tolist()) for code in found] == groups
