import numpy as np
import polars as pl
import pytest

from analysis.neighbors import Neighbors, cosine_neighbors
from analysis.telling import SCHEMA, telling_pairs
from tests import worlds


def test_pairs_by_hand():
    # Image 0: a neighbour of its background comes before one of its label. Image 3: the other way round. 4: no list.
    indices = np.array([[1, 2, 3], [0, 3, 2], [3, 0, 1], [2, 1, 0], [-1, -1, -1]])
    distances = np.tile(np.array([0.1, 0.3, 0.4], dtype=np.float32), (5, 1))
    distances[4] = np.inf
    labels = ["a", "b", "a", "a", "b"]
    sites = ["x", "x", "y", "x", "x"]
    found = telling_pairs(Neighbors(indices, distances), labels, sites)
    assert found.schema == SCHEMA
    # 1 and 0 are one pair; for 1 no other b is listed, so it is set against the end of its list, and comes first.
    assert found.select("image", "neighbor", "value", "label", "neighbor_label").rows() == [(1, 0, "x", "b", "a")]
    assert found["match_distance"].to_list() == [None]
    assert found["score"][0] == pytest.approx((0.4 - 0.1) / (0.4 + 0.1) * (1 / 5), abs=1e-6)
    first = telling_pairs(Neighbors(indices[:, :2], distances[:, :2]), [*labels[:1], None, *labels[2:]], sites)
    assert first.is_empty()


def test_the_background_world_tells_most():
    def best(world):
        neighbors = cosine_neighbors(world.vectors, 60, groups=world.groups)
        return telling_pairs(neighbors, world.labels, world.confounder)

    seen, unseen = best(worlds.background_only()), best(worlds.lesion_only())
    assert seen.height == 50
    assert unseen.is_empty()
    assert seen["score"].is_sorted(descending=True)
    world = worlds.background_only()
    for row in seen.iter_rows(named=True):
        i, j = row["image"], row["neighbor"]
        assert world.confounder[i] == world.confounder[j] == row["value"]
        assert world.labels[i] != world.labels[j]
        assert world.groups[i] != world.groups[j]
    assert telling_pairs(cosine_neighbors(world.vectors, 60), world.labels, world.confounder, limit=5).height == 5


def test_sharing_what_most_share_tells_less():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    sites = np.where(np.arange(200) < 20, "rare", "common")
    labels = np.array(["a", "b"])[rng.integers(0, 2, 200)]
    found = telling_pairs(cosine_neighbors(vectors, 100), labels, sites, limit=1000)
    by_site = found.group_by("value").agg(pl.col("score").max())
    scores = dict(by_site.iter_rows())
    assert scores["rare"] > scores["common"]
