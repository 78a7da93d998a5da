import re
from functools import partial

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from analysis import probes
from analysis.arrays import encode
from analysis.probes import PREDICTIONS_SCHEMA, SCORES_SCHEMA, probe
from analysis.scoring import class_scores, classification_scores
from analysis.splits import split_images
from tests import worlds

REFERENCE = {
    "accuracy": accuracy_score,
    "macro_f1": lambda t, p: f1_score(t, p, average="macro", labels=np.unique(t), zero_division=0),
    "balanced_accuracy": balanced_accuracy_score,
    "weighted_f1": lambda t, p: f1_score(t, p, average="weighted", zero_division=0),
}


def weak(seed=0, group_size=2):
    """A lesion that a probe reads with errors, in three classes of different size."""
    world = worlds.make_world(lesion=1.5, background=1.5, group_size=group_size, seed=seed)
    labels = np.where((world.groups % 5 == 0) & (world.labels == "benign"), "cyst", world.labels)
    return worlds.World(world.vectors, labels, world.confounder, world.groups)


def run(world, protocol="published", **options):
    return probe(world.vectors, world.labels, world.groups, protocol=protocol, target="label", seed=0, **options)


@pytest.fixture(scope="module")
def published():
    return run(weak(), strata={"site": weak().confounder})


@pytest.fixture(scope="module")
def grouped():
    return run(weak(), "grouped", strata={"site": weak().confounder})


def test_agrees_with_a_loop_by_hand(published):
    world = weak()
    rest, test = train_test_split(np.arange(240), test_size=0.2, stratify=world.labels, random_state=0)
    rest = np.sort(rest)
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(rest, world.labels[rest])
    for number, (fit, held_out) in enumerate(folds):
        scaler = StandardScaler().fit(world.vectors[rest[fit]])
        model = LinearSVC(C=100 / len(fit), dual=True, tol=1e-9, max_iter=1_000_000, random_state=0)
        model.fit(scaler.transform(world.vectors[rest[fit]]), world.labels[rest[fit]])
        for split, rows in (("cv", rest[held_out]), ("test", np.sort(test))):
            features = scaler.transform(world.vectors[rows])
            part = published.predictions.filter(split=split, fold=number).sort("row")
            np.testing.assert_array_equal(part["row"], np.sort(rows))
            order = np.argsort(rows)
            np.testing.assert_array_equal(part["predicted"], model.predict(features)[order])
            decision = model.decision_function(features)[order]
            truth = np.searchsorted(model.classes_, world.labels[rows][order])
            own = np.take_along_axis(decision, truth[:, None], axis=1)[:, 0]
            np.put_along_axis(decision, truth[:, None], -np.inf, axis=1)
            np.testing.assert_allclose(part["margin"], own - decision.max(axis=1), atol=2e-3)
            for metric, function in REFERENCE.items():
                row = published.scores.filter(split=split, fold=number, stratum="all", metric=metric)
                expected = function(world.labels[rows], model.predict(features))
                assert row["value"].item() == pytest.approx(expected)
                assert row["n"].item() == len(rows)


def test_repeats_are_runs_of_their_own_and_the_summary_their_mean():
    world = weak()
    result = probe(world.vectors, world.labels, world.groups, protocol="grouped", target="label", seed=3, repeats=2)
    once = [
        probe(world.vectors, world.labels, world.groups, protocol="grouped", target="label", seed=seed)
        for seed in (3, 4)
    ]
    keys = ["split", "metric"]
    summary = result.scores.filter(pl.col("fold").is_null()).sort(keys)
    each = [one.scores.filter(pl.col("fold").is_null()).sort(keys) for one in once]
    assert summary["seed"].unique().to_list() == [3]
    for column in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(summary[column], (each[0][column] + each[1][column]) / 2)
    folds = pl.concat(one.scores.filter(pl.col("fold").is_not_null()) for one in once)
    assert result.scores.filter(pl.col("fold").is_not_null()).equals(folds)
    assert result.predictions.equals(pl.concat(one.predictions for one in once))


def test_two_classes_have_the_signed_decision_as_margin():
    world = worlds.make_world(lesion=1.5, background=0)
    result = run(world)
    fold = result.predictions.filter(split="cv", fold=0).sort("row")
    fitted_on = result.predictions.filter(pl.col("fold") != 0, split="cv")["row"].sort().to_numpy()
    scaler = StandardScaler().fit(world.vectors[fitted_on])
    model = LinearSVC(C=100 / len(fitted_on), dual=True, tol=1e-9, max_iter=1_000_000, random_state=0)
    model.fit(scaler.transform(world.vectors[fitted_on]), world.labels[fitted_on])
    decision = model.decision_function(scaler.transform(world.vectors[fold["row"].to_numpy()]))
    sign = np.where(world.labels[fold["row"].to_numpy()] == model.classes_[1], 1, -1)
    np.testing.assert_allclose(fold["margin"], sign * decision, atol=2e-3)
    assert ((result.predictions["margin"] > 0) == result.predictions["correct"]).all()


def test_frames_have_their_columns(published):
    assert published.scores.schema == SCORES_SCHEMA
    assert published.predictions.schema == PREDICTIONS_SCHEMA
    classes, strata = (pl.col("stratum").str.starts_with("label="), ~pl.col("stratum").str.starts_with("label="))
    assert set(published.scores.filter(strata)["stratum"]) == {"all", "site=axilla", "site=breast", "site=none"}
    assert set(published.scores.filter(strata)["metric"]) == {*REFERENCE, "auroc"}
    # 2 splits, 4 strata, 5 metrics, 5 folds and a summary; no fold is without a stratum here.
    assert published.scores.filter(strata).height == 2 * 4 * 5 * 6
    assert published.scores.filter(classes).height == 2 * 3 * 3
    assert published.scores.null_count()["value"].item() == 0


@pytest.mark.parametrize("protocol", ["published", "grouped"])
def test_every_image_is_held_out_as_it_should_be(protocol, request):
    result = request.getfixturevalue(protocol)
    cv, test = (result.predictions.filter(split=split) for split in ("cv", "test"))
    assert cv["row"].is_unique().all()
    assert not set(cv["row"]) & set(test["row"])
    assert set(cv["row"]) | set(test["row"]) == set(range(240))
    assert 0.15 < test["row"].n_unique() / 240 < 0.25
    assert (test.group_by("row").len()["len"] == 5).all()
    truth = weak().labels[result.predictions["row"].to_numpy()]
    np.testing.assert_array_equal(result.predictions["truth"], truth)


def test_no_group_straddles_a_grouped_split():
    world = worlds.make_world(lesion=1, background=1, group_size=6)
    split = split_images(encode(world.labels, what="labels"), world.groups, protocol="grouped", folds=5, seed=0)
    test = set(world.groups[split.test])
    for fit, held_out in split.folds:
        fitted = set(world.groups[fit])
        assert not fitted & set(world.groups[held_out])
        assert not test & (fitted | set(world.groups[held_out]))
    published = split_images(encode(world.labels, what="labels"), world.groups, protocol="published", folds=5, seed=0)
    assert set(world.groups[published.test]) & set(world.groups[published.folds[0][0]])


def test_leaks_lift_the_published_score_only():
    # Copies under one group; the labels are noise, so all there is to learn is the copy.
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(60, 300)), 3, axis=0)
    vectors += 0.01 * rng.normal(size=vectors.shape)
    groups = np.repeat(np.arange(60), 3)
    world = worlds.World(vectors, np.array(["a", "b"])[rng.permutation(60) % 2][groups], groups, groups)
    scores = {
        protocol: run(world, protocol)
        .scores.filter(pl.col("fold").is_null(), split="cv", metric="accuracy")["value"]
        .item()
        for protocol in ("published", "grouped")
    }
    assert scores["published"] > 0.9
    assert 0.2 < scores["grouped"] < 0.75


@pytest.mark.parametrize("protocol", ["published", "grouped"])
def test_summary_is_the_mean_over_folds_within_its_interval(protocol, request):
    scores = request.getfixturevalue(protocol).scores
    keys = ["split", "stratum", "metric"]
    folds = scores.filter(pl.col("fold").is_not_null())
    summary = scores.filter(pl.col("fold").is_null())
    joined = summary.join(folds.group_by(keys).agg(mean=pl.col("value").mean(), rows=pl.col("n").sum()), on=keys)
    np.testing.assert_allclose(joined["value"], joined["mean"])
    assert (joined["ci_low"] <= joined["value"]).all()
    assert (joined["value"] <= joined["ci_high"]).all()
    assert (joined["ci_low"] < joined["ci_high"]).all()
    assert folds["ci_low"].is_null().all()
    # Test images count once although five models score them.
    np.testing.assert_array_equal(joined["rows"], joined["n"] * np.where(joined["split"] == "test", 5, 1))


def test_interval_agrees_with_resampling_by_hand(grouped):
    groups = weak().groups
    cv = grouped.predictions.filter(split="cv").with_columns(
        group=pl.Series(groups[grouped.predictions.filter(split="cv")["row"].to_numpy()])
    )
    rng = np.random.default_rng(1)
    frames = dict(cv.partition_by("group", as_dict=True, include_key=True).items())
    keys = list(frames)
    draws = []
    for _ in range(150):
        drawn = pl.concat([frames[keys[i]] for i in rng.integers(0, len(keys), len(keys))])
        draws.append(
            np.mean(
                [
                    f1_score(part["truth"], part["predicted"], average="macro", labels=part["truth"].unique())
                    for part in drawn.partition_by("fold")
                ]
            )
        )
    low, high = np.quantile(draws, [0.025, 0.975])
    row = grouped.scores.filter(pl.col("fold").is_null(), split="cv", stratum="all", metric="macro_f1").row(
        0, named=True
    )
    # 150 draws by hand are few: their ends are known to about a tenth of the width.
    assert row["ci_low"] == pytest.approx(low, abs=0.2 * (high - low))
    assert row["ci_high"] == pytest.approx(high, abs=0.2 * (high - low))


def test_classes_are_scored_as_sklearn_does_fold_by_fold(grouped):
    cv = grouped.predictions.filter(split="cv")
    names = sorted(set(cv["truth"]))
    by_fold = [
        precision_recall_fscore_support(part["truth"], part["predicted"], labels=names, zero_division=np.nan)[:3]
        for part in cv.partition_by("fold")
    ]
    # Its precision is taken over the folds that predict a class, its F1 is 0 in the others.
    expected = np.nanmean(by_fold, axis=0)
    rows = {(row["stratum"], row["metric"]): row for row in grouped.scores.filter(split="cv").iter_rows(named=True)}
    for column, name in enumerate(names):
        for row, metric in zip(expected, ("precision", "recall", "f1"), strict=True):
            found = rows[f"label={name}", metric]
            assert found["value"] == pytest.approx(row[column])
            assert found["ci_low"] <= found["value"] <= found["ci_high"]
            assert found["n"] == cv.filter(truth=name)["row"].n_unique()


def test_a_class_never_predicted_has_no_precision():
    confusion = np.array([[3.0, 0, 1], [2, 0, 0], [0, 0, 0]])
    expected = [[3 / 5, 3 / 4, 6 / 9], [np.nan, 0, 0], [np.nan] * 3]
    np.testing.assert_allclose(class_scores(confusion), expected)


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_counts_agree_with_sklearn(seed):
    rng = np.random.default_rng(seed)
    # Class 3 may be predicted but never occurs.
    truth, predicted = rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (truth, predicted), 1)
    expected = [
        accuracy_score(truth, predicted),
        f1_score(truth, predicted, average="macro", labels=np.unique(truth), zero_division=0),
        np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]),
    ]
    np.testing.assert_allclose(classification_scores(confusion), expected)
    assert np.isnan(classification_scores(np.zeros((4, 4)))).all()


def test_seed_decides(published):
    again = run(weak(), strata={"site": weak().confounder})
    assert again.scores.equals(published.scores)
    assert again.predictions.equals(published.predictions)
    other = probe(weak().vectors, weak().labels, weak().groups, protocol="published", target="label", seed=1)
    assert set(other.predictions.filter(split="test")["row"]) != set(published.predictions.filter(split="test")["row"])


def test_scale_and_class_names_change_nothing(published):
    world = weak()
    scaled = run(worlds.World(world.vectors * 64 + 8, world.labels, world.confounder, world.groups))
    same = ["row", "fold", "split", "predicted"]
    assert scaled.predictions.select(same).equals(published.predictions.select(same))
    names = {"benign": "z", "malignant": "y", "cyst": "x"}
    renamed = run(
        worlds.World(world.vectors, np.array([names[label] for label in world.labels]), world.confounder, world.groups)
    )
    # Folds are drawn in the order of class names, so the images differ, but not what is found.
    first, second = (
        result.scores.filter(pl.col("fold").is_null(), split="cv", stratum="all", metric="accuracy")
        for result in (published, renamed)
    )
    assert first["ci_low"].item() <= second["value"].item() <= first["ci_high"].item()


def test_background_can_be_decoded_where_it_is():
    for world, low, high in ((worlds.background_only(), 0.95, 1.0), (worlds.lesion_only(), 0.15, 0.55)):
        scores = probe(world.vectors, world.confounder, world.groups, protocol="grouped", target="site", seed=0).scores
        value = scores.filter(pl.col("fold").is_null(), split="cv", metric="balanced_accuracy", target="site")[
            "value"
        ].item()
        assert low <= value <= high


def test_images_without_a_label_are_left_out():
    world = weak()
    known = np.random.default_rng(0).random(240) < 0.8
    labels = np.where(known, world.labels.astype(object), None)
    result = probe(world.vectors, labels, world.groups, protocol="published", target="label", seed=0)
    assert set(result.predictions["row"]) == set(np.flatnonzero(known))
    truth = world.labels[result.predictions["row"].to_numpy()]
    np.testing.assert_array_equal(result.predictions["truth"], truth)
    assert f"{(~known).sum()} images without a label left out" in result.note


def test_a_stopped_solver_is_reported(monkeypatch):
    monkeypatch.setattr(probes, "fit_folds", partial(probes.fit_folds, max_iter=1, tol=1e-14))
    assert re.search(r"solver stopped in folds 0, 1, 2, 3, 4, at most \d\.\de-\d+ of the objective", run(weak()).note)


def test_small_classes_are_refused_by_name():
    world = worlds.mixed()
    labels = world.labels.copy()
    labels[:5] = "rare"
    rare = worlds.World(world.vectors, labels, world.confounder, world.groups)
    with pytest.raises(ValueError, match=r"class 'rare' has 5 images, fewer than the 6 .*drop it"):
        run(rare)
    with pytest.raises(ValueError, match=r"class 'rare' has 3 groups, fewer than the 6 .*merge it"):
        run(rare, "grouped")
    assert len(run(rare, folds=4).scores)


def test_a_class_of_six_is_enough():
    world = worlds.mixed()
    labels = world.labels.copy()
    labels[::40] = "rare"
    result = run(worlds.World(world.vectors, labels, world.confounder, world.groups))
    assert "rare" in set(result.predictions["truth"])


def test_wrong_inputs_are_refused():
    world = worlds.mixed()
    with pytest.raises(ValueError, match="needs two classes or more, not 1"):
        run(worlds.one_class())
    with pytest.raises(ValueError, match="class 'benign' has 1 groups"):
        run(worlds.one_group(), "grouped")
    with pytest.raises(ValueError, match=r"labels must have shape \(239,\)"):
        probe(world.vectors[1:], world.labels, world.groups, protocol="published", target="label", seed=0)
    with pytest.raises(ValueError, match="unknown protocol 'official'"):
        run(world, "official")
    vectors = world.vectors.copy()
    vectors[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"vector 3 is not finite \(1 such rows\)"):
        run(worlds.World(vectors, world.labels, world.confounder, world.groups))


def test_groups_too_few_or_too_unequal_are_refused():
    def split(groups, labels, folds):
        return split_images(encode(labels, what="labels"), groups, protocol="grouped", folds=folds, seed=0)

    groups = np.repeat(np.arange(4), 10)
    with pytest.raises(ValueError, match="4 groups cannot be divided into 5 parts"):
        split(groups, np.tile(["a", "b"], 20), 3)
    # Found by search: both remaining groups that hold "b" fall into one fold.
    rng = np.random.default_rng(1936)
    folds = int(rng.integers(2, 4))
    n_groups = int(rng.integers(folds + 1, 10))
    groups = np.repeat(np.arange(n_groups), rng.integers(1, 40, n_groups))
    share = rng.random(n_groups)
    labels = np.where(rng.random(len(groups)) < share[groups], "a", "b")
    with pytest.raises(ValueError, match="fold 0 would be fitted without class 'b'"):
        split(groups, labels, folds)
