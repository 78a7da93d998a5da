import numpy as np
import pandas as pd
import pytest
from croma import RI

from analysis.audits.robustness import robustness_index
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
