import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from analysis.probes import probe
from analysis.scoring import HeldOut, macro_auroc, score_held_out, weighted_f1
from tests import worlds


def confusion_of(truth, predicted, classes):
    counts = np.zeros((classes, classes))
    np.add.at(counts, (truth, predicted), 1)
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_weighted_f1_agrees_with_sklearn(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.choice(3, 60, p=[0.6, 0.3, 0.1]), rng.integers(0, 4, 60)
    expected = f1_score(truth, predicted, average="weighted", zero_division=0)
    assert weighted_f1(confusion_of(truth, predicted, 4)) == pytest.approx(expected)
    assert np.isnan(weighted_f1(np.zeros((4, 4))))


@pytest.mark.parametrize("seed", range(5))
def test_auroc_agrees_with_sklearn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 80)
    # Rounded, so that some values tie; class 3 never occurs.
    decisions = np.round(rng.normal(size=(80, 4)) + (truth[:, None] == np.arange(4)), 1)
    found, influence = macro_auroc(truth, decisions)
    assert found == pytest.approx(np.mean([roc_auc_score(truth == c, decisions[:, c]) for c in range(3)]))
    assert influence.sum() == pytest.approx(0, abs=1e-12)


def test_influence_is_what_a_weight_changes():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    decisions = rng.normal(size=(60, 3)) + (truth[:, None] == np.arange(3))
    found, influence = macro_auroc(truth, decisions)
    weight, step = rng.normal(size=60), 1e-6

    def weighted(t):
        return np.mean([roc_auc_score(truth == c, decisions[:, c], sample_weight=1 + t * weight) for c in range(3)])

    assert (weighted(step) - found) / step == pytest.approx(weight @ influence, rel=1e-4)


def test_auroc_of_one_class_is_undefined():
    held_out = HeldOut(np.arange(4), np.zeros(4, np.int64), np.ones(4, np.int64), np.ones(4, np.int64), np.arange(4))
    scores = {s.metric: s for s in score_held_out(held_out, n_classes=2, n_folds=1, seed=0, decisions=np.eye(4, 2))}
    assert scores["auroc"].value is None
    assert scores["auroc"].interval == (None, None)
    assert scores["accuracy"].value == 1


def test_probe_scores_ranking():
    values = {}
    for name in ("lesion_only", "null"):
        world = worlds.WORLDS[name]()
        scores = probe(world.vectors, world.labels, world.groups, protocol="grouped", target="label", seed=0).scores
        [values[name]] = scores.filter(pl.col("fold").is_null(), split="cv", stratum="all", metric="auroc").iter_rows(
            named=True
        )
    assert values["lesion_only"]["value"] > 0.99
    assert values["null"]["value"] < 0.6
