"""Parts, scores and losses of trainings by gradient, against scikit-learn; fine-tuning of planted worlds."""

import io

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as reference
from PIL import Image

from analysis.arrays import encode
from analysis.figures import learning_curve_figure, tuning_shift_figure
from analysis.splits import split_images, training_parts, training_parts_of_sets
from analysis.training_scores import prior_loss, score_parts
from analysis.tuning_shift import tuning_shift
from tests.worlds import make_world


@pytest.fixture
def sets():
    """Label sets, logits with ties among them, and groups of two."""
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 5)) < [0.5, 0.3, 0.1, 0.0, 0.6]).astype(np.int64)
    truth[:2], truth[2:4] = 0, 1
    truth[:, 3] = 0
    logits = np.round(rng.normal(size=(80, 5)) + 2 * truth - 1, 1)
    logits[:, 2] = -5  # never predicted
    return truth, logits, np.repeat(np.arange(40), 2)


def score(truth, logits, groups):
    """Score all images as one part, and return the rows by label and metric."""
    parts = {"test": np.arange(len(truth))}
    found = score_parts(truth, logits, groups, parts, "abcde", seed=0)
    return {(row["label"], row["metric"]): row for row in found.iter_rows(named=True)}


def test_scores_of_sets_agree_with_scikit_learn(sets) -> None:
    truth, logits, groups = sets
    found = score(truth, logits, groups)
    predicted = (logits > 0).astype(int)
    occurring = np.flatnonzero(truth.sum(axis=0))
    expected = {
        "macro_f1": reference.f1_score(truth, predicted, labels=occurring, average="macro", zero_division=0),
        "micro_f1": reference.f1_score(truth, predicted, average="micro"),
        "exact_match": reference.accuracy_score(truth, predicted),
        "lrap": reference.label_ranking_average_precision_score(truth, logits),
        "coverage_error": reference.coverage_error(truth, logits),
    }
    for metric, value in expected.items():
        row = found[None, metric]
        assert row["value"] == pytest.approx(value, abs=1e-12), metric
        assert row["ci_low"] < value < row["ci_high"]
        assert row["n"] == 80
    scores = reference.precision_recall_fscore_support(truth, predicted, zero_division=np.nan)
    for metric, values in zip(("precision", "recall", "f1"), scores, strict=False):
        for code, label in enumerate("abcde"):
            row = found[label, metric]
            # "c" is never predicted, "d" never true.
            if label == "d" or (label, metric) == ("c", "precision"):
                assert row["value"] is None
                assert row["note"].startswith("undefined: ")
            else:
                assert row["value"] == pytest.approx(values[code])
                assert row["n"] == scores[3][code]


def test_intervals_of_sets_resample_groups(sets) -> None:
    one = score(*sets)[None, "lrap"]
    # Every image twice, within its group: nothing more is known.
    two = score(*(np.repeat(each, 2, axis=0) for each in sets))[None, "lrap"]
    assert (two["ci_low"], two["ci_high"]) == pytest.approx((one["ci_low"], one["ci_high"]))


def test_scores_of_one_label_each_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 90)
    logits = rng.normal(size=(90, 3)) + 1.5 * np.eye(3)[targets]
    parts = {"train": np.arange(60), "test": np.arange(60, 90)}
    scores = score_parts(targets, logits, np.arange(90), parts, ("a", "b", "c"), seed=0)
    for part, rows in parts.items():
        truth, predicted = targets[rows], logits[rows].argmax(axis=1)
        whole = dict(scores.filter(pl.col("label").is_null(), part=part).select("metric", "value").iter_rows())
        assert whole["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted))
        assert whole["macro_f1"] == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
        assert whole["auroc"] == pytest.approx(
            np.mean([reference.roc_auc_score(truth == code, logits[rows, code]) for code in range(3)])
        )
        recalls = scores.filter(part=part, metric="recall").sort("label")["value"].to_list()
        assert recalls == pytest.approx(reference.recall_score(truth, predicted, average=None).tolist())
    assert set(scores["n"].unique()) >= {60, 30}


def test_what_is_undefined_says_why() -> None:
    logits = np.tile([1.0, 0.0], (4, 1))
    scores = score_parts(np.zeros(4, int), logits, np.arange(4), {"test": np.arange(4)}, "ab", seed=0)
    missing = scores.filter(pl.col("value").is_null())
    assert missing.height
    assert missing["note"].str.starts_with("undefined: ").all()
    [of_all] = missing.filter(pl.col("label").is_null())["metric"]
    assert of_all == "auroc"


def test_the_loss_of_knowing_nothing() -> None:
    codes = np.array([0] * 5 + [1] * 3 + [2] * 1 + [0, 1, 1, 2])
    train, validation = np.arange(9), np.arange(9, 13)
    shares = np.array([6, 4, 2]) / 12
    expected = reference.log_loss(codes[validation], np.tile(shares, (4, 1)), labels=[0, 1, 2])
    assert prior_loss(codes, 3, train, validation) == pytest.approx(expected)
    sets = np.eye(3, dtype=int)[codes]
    share = (sets[train].sum(axis=0) + 1) / 11
    each = [reference.log_loss(sets[validation, c], np.full(4, share[c]), labels=[0, 1]) for c in range(3)]
    assert prior_loss(sets, 3, train, validation) == pytest.approx(np.mean(each))


def test_parts_keep_groups_whole_and_test_on_what_the_probes_test_on() -> None:
    world = make_world(lesion=1, background=1)
    labels = encode(world.labels.tolist(), what="labels")
    parts = training_parts(labels, world.groups, seed=3)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(world.labels)))
    of_part = [set(world.groups[rows].tolist()) for rows in parts]
    assert not of_part[0] & of_part[1] | of_part[0] & of_part[2] | of_part[1] & of_part[2]
    probes = split_images(labels, world.groups, protocol="grouped", folds=5, seed=3)
    assert np.array_equal(parts.test, probes.test)
    assert [round(len(rows) / len(world.labels), 2) for rows in parts] == [0.64, 0.16, 0.2]
    assert all(set(labels.codes[rows].tolist()) == set(labels.codes.tolist()) for rows in parts)


def test_parts_of_sets_are_the_studys_shares_of_groups() -> None:
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 3))
    parts = training_parts_of_sets(groups, seed=42)
    of_part = [set(groups[rows].tolist()) for rows in parts]
    assert [len(names) for names in of_part] == [70, 15, 15]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(300))
    assert not np.array_equal(training_parts_of_sets(groups, seed=1).test, parts.test)
    with pytest.raises(ValueError, match="3 groups cannot be divided"):
        training_parts_of_sets(np.arange(3), seed=0)


@pytest.fixture(scope="module")
def shift() -> pl.DataFrame:
    """An encoder of the background that becomes one of the lesion, on the same images."""
    before, after = make_world(lesion=0.5, background=5, n=120), make_world(lesion=4, background=0, n=120)
    assert (before.labels == after.labels).all()
    assert (before.confounder == after.confounder).all()
    background = {"word": before.confounder.tolist(), "always": ["x"] * len(before.labels)}
    return tuning_shift(before.vectors, after.vectors, before.labels, before.groups, background, k=10, seed=0)


def test_an_encoder_that_turns_from_background_to_lesion_is_seen_to(shift: pl.DataFrame) -> None:
    value = {row[:3]: row[3] for row in shift.select("moment", "metric", "confounder", "value").iter_rows()}
    assert value["before", "robustness_index", "word"] < 0.3 < 0.9 < value["after", "robustness_index", "word"]
    assert value["before", "decodability", "word"] > 0.8
    assert value["after", "decodability", "word"] < 0.65
    assert value["after", "decodability", None] > 0.8 > 0.7 > value["before", "decodability", None]
    assert value["before", "confounder_agreement", "word"] > value["after", "confounder_agreement", "word"]
    assert value["after", "within_label_gap", "word"] < 0.1
    assert shift.filter(moment="before", metric="decodability", confounder="word")["expected"].item() == pytest.approx(
        1 / 3
    )


def test_what_the_design_cannot_support_is_undefined(shift: pl.DataFrame) -> None:
    constant = shift.filter(confounder="always")
    undefined = constant.filter(pl.col("metric").is_in(["decodability", "within_label_gap", "robustness_index"]))
    assert undefined["value"].null_count() == undefined.height == 6
    assert undefined["note"].str.starts_with("undefined: ").all()


def test_figures_are_drawn_from_what_there_is(shift: pl.DataFrame) -> None:
    epochs = pl.DataFrame(
        {"epoch": [1, 2], "train_loss": [1.0, 0.5], "validation_loss": [1.0, 1.1], "kept": [True, False]}
    )
    for png in (
        learning_curve_figure(epochs, guessing=1.05, title="$a & b"),
        tuning_shift_figure(shift, title="$a & b"),
        tuning_shift_figure(shift.filter(pl.col("value").is_null()), title="nothing"),
    ):
        with Image.open(io.BytesIO(png)) as image:
            assert image.format == "PNG"
    with pytest.raises(ValueError, match="lacks the columns"):
        tuning_shift_figure(shift.drop("expected"), title="")
