import numpy as np
import pandas as pd
import pytest
from croma import RI

from analysis.audits.robustness import robustness_index
from analysis.audits.robustness_balanced import balanced_robustness_index
from analysis.neighbors import cosine_neighbors
from analysis.typed_neighbors import select_k
from tests import worlds

# croma warns that some images have no informative neighbour; the audit reports their number.
pytestmark = pytest.mark.filterwarnings("ignore:dataset. .*:RuntimeWarning")

CANDIDATES = list(range(1, 20, 2))


def manifest(labels, confounder, groups):
    n = len(labels)
    return pd.DataFrame(
        {
            "sample_id": [f"i{i}" for i in range(n)],
            "image_path": [f"{i}.png" for i in range(n)],
            "label": labels,
            "group_id": [f"g{g}" for g in groups],
            "site": confounder,
        }
    )


def codes(values):
    return np.unique(values, return_inverse=True)[1]


def many_classes(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(100), 3)
    label, site = rng.integers(0, 6, 100)[groups], rng.integers(0, 4, 100)[groups]
    vectors = rng.normal(size=(300, 10)) + 1.5 * rng.normal(size=(6, 10))[label]
    vectors += rng.normal(size=(4, 10))[site]
    return worlds.World(vectors.astype(np.float32), label.astype(str), site.astype(str), groups)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "make",
    [worlds.null, worlds.mixed, worlds.background_only, worlds.lesion_only, many_classes],
)
def test_agrees_with_croma(make, seed):
    world = make(seed)
    neighbors = cosine_neighbors(world.vectors, CANDIDATES[-1], groups=world.groups)
    [found] = robustness_index(
        neighbors, codes(world.labels), codes(world.confounder), world.groups, k=CANDIDATES[-1], seed=0
    )
    expected = RI.compute(
        world.vectors.astype(np.float64),
        manifest(world.labels, world.confounder, world.groups),
        confounder_column="site",
        k_candidates=CANDIDATES,
    )
    assert found.k == expected.k
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    assert found.n == round(expected.support * len(world.labels))
    assert found.ci_low <= found.value <= found.ci_high


def test_undefined_where_croma_says_half():
    # Every neighbour shares both label and background.
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 30)
    vectors = rng.normal(size=(60, 8)).astype(np.float32) + 40 * label[:, None]
    neighbors = cosine_neighbors(vectors - vectors.mean(axis=0), 5)
    [found] = robustness_index(neighbors, label, label, np.arange(60), k=5, seed=0)
    assert found.value is None
    assert "no neighbour is informative" in found.note


def test_first_of_equal_sizes_is_taken():
    # Two far clusters of one label each: every size votes perfectly.
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 20)
    vectors = rng.normal(size=(40, 4)).astype(np.float32)
    vectors[:, 0] += np.where(label == 0, 50, -50)
    assert select_k(cosine_neighbors(vectors, 9), label, [3, 5, 9]) == (3, 1.0)


def test_balanced_index_is_the_index_where_combinations_are_of_one_size():
    world = worlds.mixed()
    lists = (
        cosine_neighbors(world.vectors, 15, groups=world.groups),
        codes(world.labels),
        codes(world.confounder),
        world.groups,
    )
    [plain], [balanced] = (audit(*lists, k=15, seed=0) for audit in (robustness_index, balanced_robustness_index))
    assert balanced.value == pytest.approx(plain.value)
    assert (balanced.ci_low, balanced.ci_high) == pytest.approx((plain.ci_low, plain.ci_high))
    assert "weighted as 240 of 240 images" in balanced.note
    assert balanced.expected == pytest.approx(plain.expected, abs=0.02)
    assert balanced.p_value is None


def test_balanced_index_does_not_follow_the_design():
    # Nothing to be seen; nine tenths of one label have the one background, half of the other.
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 2
    confounder = (rng.permutation(600) / 600 < np.where(labels == 1, 0.9, 0.5)).astype(np.int64)
    found = {}
    for audit in (robustness_index, balanced_robustness_index):
        results = []
        for _ in range(6):
            neighbors = cosine_neighbors(rng.normal(size=(600, 8)), 15)
            results += audit(neighbors, labels, confounder, np.arange(600), k=15, seed=0)
        found[audit] = np.mean([result.value for result in results]), np.mean([result.expected for result in results])
    assert found[balanced_robustness_index][0] == pytest.approx(0.5, abs=0.02)
    assert found[balanced_robustness_index][1] == pytest.approx(0.5, abs=0.02)
    assert abs(found[robustness_index][0] - 0.5) > 0.04


def test_balanced_index_is_the_ratio_of_weighted_pairs():
    world = many_classes(1)
    labels, confounder = codes(world.labels), codes(world.confounder)
    neighbors = cosine_neighbors(world.vectors, 9, groups=world.groups)
    [found] = balanced_robustness_index(neighbors, labels, confounder, world.groups, k=9, seed=0)
    so = os = 0.0
    for i in range(300):
        for j in neighbors.indices[i, : found.k]:
            of_each = [((labels == labels[row]) & (confounder == confounder[row])).sum() for row in (i, j)]
            weight = 1 / (of_each[0] * of_each[1])
            so += weight * (labels[i] == labels[j] and confounder[i] != confounder[j])
            os += weight * (labels[i] != labels[j] and confounder[i] == confounder[j])
    assert found.value == pytest.approx(so / (so + os))
    _, combination, sizes = np.unique(labels * 4 + confounder, return_inverse=True, return_counts=True)
    of_each = 1 / sizes[combination]
    assert f"weighted as {of_each.sum() ** 2 / (of_each**2).sum():.0f} of 300 images" in found.note
    one_class = balanced_robustness_index(neighbors, labels * 0, confounder, world.groups, k=9, seed=0)
    assert one_class[0].value is None
