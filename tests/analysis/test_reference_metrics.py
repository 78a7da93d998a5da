"""Metrics against the packages that define them: croma live, scib-metrics by the numbers it gave for the same lists."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from croma import RI, CRoMa, MaRI
from scipy.stats import skew
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from analysis.audits.clustering import adjusted_rand
from analysis.audits.croma import croma
from analysis.audits.hubness import hubness
from analysis.audits.kbet import kbet
from analysis.audits.lisi_background import ilisi
from analysis.audits.lisi_label import clisi
from analysis.audits.mari import mari
from analysis.audits.pcr import pcr
from analysis.audits.robustness import robustness_index
from analysis.audits.silhouette import batch_silhouettes
from analysis.neighbors import cosine_neighbors
from analysis.space import Space, silhouette
from analysis.statistics import connected_groups
from tests import worlds

# croma warns that some images have no informative neighbour; the audits report their number.
pytestmark = pytest.mark.filterwarnings("ignore:dataset. .*:RuntimeWarning")

# Made by make_scib_metrics.py, beside it.
SCIB = json.loads((Path(__file__).parents[1] / "references" / "scib_metrics.json").read_text())
# scib-metrics computes in float32.
SCIB_TOLERANCE = 2e-4
CANDIDATES = list(range(1, 20, 2))


def uneven(seed=7):
    return worlds.make_world(lesion=3, background=4, n=300, d=24, group_size=3, seed=seed)


def random_data(seed=0):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 150, 400)
    label, site = rng.integers(0, 6, 150)[groups], rng.integers(0, 4, 150)[groups]
    vectors = rng.normal(size=(400, 32)) + 1.2 * rng.normal(size=(6, 32))[label] + 0.7 * rng.normal(size=(4, 32))[site]
    return worlds.World(vectors.astype(np.float32), label.astype(str), site.astype(str), groups)


def codes(values):
    return np.unique(values, return_inverse=True)[1]


def manifest(world):
    n = len(world.labels)
    return pd.DataFrame(
        {
            "sample_id": [f"i{i}" for i in range(n)],
            "image_path": [f"{i}.png" for i in range(n)],
            "label": world.labels,
            "group_id": [f"g{g}" for g in world.groups],
            "site": world.confounder,
        }
    )


def run(function, world, *, lists, k=15, space=False):
    neighbors = cosine_neighbors(world.vectors, lists, groups=world.groups)
    extra = {"space": Space.of(world.vectors)} if space else {}
    found = function(neighbors, codes(world.labels), codes(world.confounder), world.groups, k=k, seed=0, **extra)
    return {result.metric: result for result in found}


@pytest.mark.parametrize(
    "make", [worlds.null, worlds.mixed, worlds.background_only, worlds.lesion_only, uneven, random_data]
)
def test_mari_agrees_with_croma(make):
    world = make()
    found = run(mari, world, lists=19, k=19)["mari"]
    expected = MaRI.compute(
        world.vectors.astype(np.float64), manifest(world), confounder_column="site", k_candidates=CANDIDATES
    )
    assert found.k == expected.k
    assert found.value == pytest.approx(expected.value, abs=1e-6)
    informative = np.isfinite(found.per_image)
    assert informative.sum() == found.n == round(expected.support * len(world.labels))
    assert found.ci_low <= found.value <= found.ci_high


# Short lists, so that most images are searched beyond them; long ones, so that none is.
@pytest.mark.parametrize("lists", [8, 200])
@pytest.mark.parametrize(
    "make", [worlds.null, worlds.mixed, worlds.background_only, worlds.lesion_only, uneven, random_data]
)
def test_margins_agree_with_croma(make, lists):
    world = make()
    found = run(croma, world, lists=lists, space=True)
    expected = CRoMa.compute(world.vectors.astype(np.float64), manifest(world), confounder_column="site")
    np.testing.assert_allclose(found["croma_median"].per_image, expected.sample_values, atol=1e-6)
    assert found["croma_median"].value == pytest.approx(expected.value, abs=1e-6)
    assert found["croma_tail"].value == pytest.approx(expected.ltm_alpha, abs=1e-6)
    assert found["croma_dominated"].value == pytest.approx(expected.f0, abs=1e-6)
    assert all(result.ci_low <= result.value <= result.ci_high for result in found.values())


def test_images_without_both_types_of_neighbour_have_no_margin():
    world = worlds.mixed()
    # Images of one label and background: their own kind is all that shares either.
    few = (world.labels == "benign") & (world.confounder == "none")
    labels = np.where(few, "rare", world.labels)
    confounder = np.where(few, "own", world.confounder)
    found = run(croma, worlds.World(world.vectors, labels, confounder, world.groups), lists=30, space=True)
    # Nor do the others of that background: no other label shares it any more.
    without = world.confounder == "none"
    np.testing.assert_array_equal(np.isnan(found["croma_median"].per_image), without)
    assert found["croma_median"].n == (~without).sum()
    alone = run(croma, worlds.World(world.vectors, labels, labels, world.groups), lists=30, space=True)
    assert alone["croma_median"].value is None
    assert "no image has 5 neighbours of both types" in alone["croma_tail"].note


@pytest.mark.parametrize("name", SCIB)
def test_agrees_with_scib_metrics(name):
    world = uneven() if name == "uneven" else worlds.WORLDS[name]()
    expected = SCIB[name]
    found = run(ilisi, world, lists=90) | run(clisi, world, lists=90) | run(kbet, world, lists=90)
    found |= run(batch_silhouettes, world, lists=5, space=True) | run(pcr, world, lists=5, space=True)
    for metric, result in found.items():
        assert result.value == pytest.approx(expected[metric], abs=SCIB_TOLERANCE), metric
        assert result.ci_low <= result.value <= result.ci_high, metric
        assert result.expected is not None, metric
    np.testing.assert_allclose(found["kbet"].per_image[:40], expected["kbet_p_values"], atol=SCIB_TOLERANCE)


def test_metrics_move_with_what_is_planted():
    seen = {}
    for background in (0, 2, 4, 8, 12):
        world = worlds.make_world(lesion=3, background=background, seed=1)
        found = run(ilisi, world, lists=90) | run(kbet, world, lists=90) | run(mari, world, lists=90)
        found |= run(batch_silhouettes, world, lists=5, space=True) | run(pcr, world, lists=5, space=True)
        found |= run(croma, world, lists=90, space=True)
        for metric, result in found.items():
            seen.setdefault(metric, []).append(result.value)
    rising = {"pcr", "croma_dominated"}
    for metric, values in seen.items():
        ordered = values if metric in rising else values[::-1]
        assert (np.diff(ordered) >= -0.02).all(), (metric, values)
        assert abs(values[-1] - values[0]) > 0.1, (metric, values)


def test_silhouettes_agree_with_scikit_learn():
    world = uneven()
    space = Space.of(world.vectors)
    found = silhouette(space.unit, codes(world.confounder))
    np.testing.assert_allclose(found, silhouette_samples(world.vectors, world.confounder, metric="cosine"), atol=1e-5)


def test_rand_index_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 5, 200)
    for b in (rng.integers(0, 7, 200), a, np.where(rng.random(200) < 0.7, a, 0)):
        assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))


def test_hubness_agrees_with_its_formulas():
    world = worlds.mixed()
    found = run(hubness, world, lists=15)
    listed = cosine_neighbors(world.vectors, 15, groups=world.groups).indices
    counts = np.array([(listed == i).sum() for i in range(240)])
    assert found["hubness_skewness"].value == pytest.approx(skew(counts))
    assert found["hubness_orphans"].value == (counts == 0).mean()
    assert found["hubness_robin_hood"].value == pytest.approx(np.abs(counts - 15).sum() / (2 * 15 * 240))
    np.testing.assert_array_equal(found["hubness_skewness"].per_image, counts)


@pytest.mark.real
def test_breastus_agrees_with_croma(real_breastus):
    world = real_breastus
    k = CANDIDATES[-1]
    table = manifest(world)
    vectors = world.vectors.astype(np.float64)
    for function, metric, reference in ((robustness_index, "robustness_index", RI), (mari, "mari", MaRI)):
        found = run(function, world, lists=k, k=k)[metric]
        expected = reference.compute(vectors, table, confounder_column="site", k_candidates=CANDIDATES)
        assert found.k == expected.k
        assert found.value == pytest.approx(expected.value, abs=1e-6)
    # No calliper on any normal image: these have no match of either type, and croma refuses the whole for it.
    part = world.labels != "normal"
    world = worlds.World(world.vectors[part], world.labels[part], world.confounder[part], world.groups[part])
    margins = CRoMa.compute(vectors[part], manifest(world), confounder_column="site")
    found = run(croma, world, lists=60, space=True)["croma_median"]
    np.testing.assert_allclose(found.per_image, margins.sample_values, atol=1e-6)


@pytest.fixture
def real_breastus(real_data):
    """BreastUS through small pictures: hand-read callipers as background, near-duplicates grouped."""
    import polars as pl
    from PIL import Image

    flags = pl.read_csv(real_data / "breastus_overlay_labels.csv")
    vectors = []
    for file in flags["file"]:
        with Image.open(real_data / "breastus" / file) as image:
            vectors.append(np.asarray(image.convert("L").resize((24, 24)), dtype=np.float32).ravel() - 70)
    labels = np.array([file.split("/")[0] for file in flags["file"]])
    groups = connected_groups([flags["near_duplicate_group"].cast(pl.String).to_list()])
    marks = np.where(flags["has_caliper"].to_numpy() == 1, "marked", "plain")
    return worlds.World(np.stack(vectors), labels, marks, groups)
