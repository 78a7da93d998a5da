"""Zero-shot scores against scikit-learn, torchmetrics and clip_benchmark on the same features."""

import warnings
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn import metrics

from analysis.arrays import Categories
from analysis.zero_shot.answer_shift import answer_shift
from analysis.zero_shot.evaluate import Images, Prompts, evaluate, read_label_sets
from analysis.zero_shot.logits import cosine_logits, ensemble, sigmoid, softmax
from analysis.zero_shot.multi_label import best_thresholds, score_multi
from analysis.zero_shot.reliability import calibration_error
from analysis.zero_shot.single_label import score_single

N, D = 240, 12
CLASSES = ("benign", "malignant", "normal")
LABELS = ("Edema", "Fracture", "No Finding", "Pneumonia", "Rare")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def values(numbers: Sequence, stratum: str = "all") -> dict[tuple[str | None, str], float | None]:
    return {(each.label, each.metric): each.value for each in numbers if each.stratum == stratum}


def single(rng: np.random.Generator) -> tuple[np.ndarray, Categories, np.ndarray]:
    truth = rng.integers(0, 3, N)
    logits = rng.normal(size=(N, 3)) + 1.2 * np.eye(3)[truth]
    return logits, Categories(truth, CLASSES), np.arange(N) // 3


def test_single_label_scores_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    logits, labels, groups = single(rng)
    numbers, _ = score_single(logits, labels, groups, {}, seed=0)
    found = values(numbers)
    truth, predicted = labels.codes, logits.argmax(1)
    expected = {
        (None, "accuracy"): metrics.accuracy_score(truth, predicted),
        (None, "macro_f1"): metrics.f1_score(truth, predicted, average="macro"),
        (None, "balanced_accuracy"): metrics.balanced_accuracy_score(truth, predicted),
        (None, "weighted_f1"): metrics.f1_score(truth, predicted, average="weighted"),
        (None, "auroc"): np.mean([metrics.roc_auc_score(truth == c, logits[:, c]) for c in range(3)]),
        (None, "macro_ap"): np.mean([metrics.average_precision_score(truth == c, logits[:, c]) for c in range(3)]),
    }
    by_class = metrics.precision_recall_fscore_support(truth, predicted)
    for code, name in enumerate(CLASSES):
        for place, metric in enumerate(("precision", "recall", "f1")):
            expected[name, metric] = by_class[place][code]
        expected[name, "auroc"] = metrics.roc_auc_score(truth == code, logits[:, code])
        expected[name, "average_precision"] = metrics.average_precision_score(truth == code, logits[:, code])
        expected[name, "over_prediction"] = (predicted == code).sum() / (truth == code).sum()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key
    for each in numbers:
        assert each.value is not None
        assert each.interval.low is not None, each
        # Noise in the bins counts as distance: the interval of a calibration error lies above it.
        assert each.interval.low <= each.value <= each.interval.high or each.metric == "ece"


@pytest.mark.parametrize("bins", [10, 15])
def test_the_calibration_error_is_that_of_torchmetrics(rng: np.random.Generator, bins: int) -> None:
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    logits, labels, groups = single(rng)
    probabilities = softmax(logits)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels.codes
    error, _, diagram = calibration_error(confidence, right, groups, seed=0, bins=bins)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels.codes), num_classes=3, n_bins=bins
    )
    assert error == pytest.approx(float(theirs), abs=1e-6)
    assert sum(each.n for each in diagram) == N
    assert sum(each.n * each.accuracy for each in diagram) == pytest.approx(right.sum())
    one = np.ascontiguousarray(probabilities[:, 0])
    binary, _, _ = calibration_error(one, labels.codes == 0, groups, seed=0, bins=bins)
    theirs = binary_calibration_error(
        torch.from_numpy(one), torch.from_numpy((labels.codes == 0).astype(int)), n_bins=bins
    )
    assert binary == pytest.approx(float(theirs), abs=1e-6)


def multi(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    true = rng.random((N, len(LABELS))) < np.array([0.4, 0.2, 0.3, 0.1, 0.0])
    logits = rng.normal(size=true.shape) + 1.5 * true - 0.5
    return logits, true, np.arange(N) // 2


def test_multi_label_scores_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    logits, true, groups = multi(rng)
    predicted = logits > 0
    numbers, _ = score_multi(logits, predicted, true, groups, LABELS, {}, seed=0)
    found = values(numbers)
    occurring = np.flatnonzero(true.any(0))
    for average in ("macro", "micro"):
        labels = occurring if average == "macro" else None
        scored = metrics.precision_recall_fscore_support(
            true, predicted, average=average, labels=labels, zero_division=0
        )
        for metric, value in zip(("precision", "recall", "f1"), scored, strict=False):
            assert found[None, f"{average}_{metric}"] == pytest.approx(value), (average, metric)
    assert found[None, "exact_match"] == pytest.approx(metrics.accuracy_score(true, predicted))
    assert found[None, "lrap"] == pytest.approx(metrics.label_ranking_average_precision_score(true, logits))
    assert found[None, "coverage_error"] == pytest.approx(metrics.coverage_error(true, logits))
    each = metrics.precision_recall_fscore_support(true, predicted, zero_division=0)
    for code in occurring:
        for place, metric in enumerate(("precision", "recall", "f1")):
            assert found[LABELS[code], metric] == pytest.approx(each[place][code])
        area = metrics.roc_auc_score(true[:, code], logits[:, code])
        assert found[LABELS[code], "auroc"] == pytest.approx(area)
        assert found[LABELS[code], "average_precision"] == pytest.approx(
            metrics.average_precision_score(true[:, code], logits[:, code])
        )
        assert found[LABELS[code], "over_prediction"] == pytest.approx(predicted[:, code].sum() / true[:, code].sum())
    areas = [metrics.roc_auc_score(true[:, code], logits[:, code]) for code in occurring]
    assert found[None, "auroc"] == pytest.approx(np.mean(areas))
    notes = {(n.label, n.metric): n.note for n in numbers if n.label == "Rare"}
    assert found["Rare", "over_prediction"] is None
    assert notes["Rare", "over_prediction"] == "undefined: no image has it"
    assert notes["Rare", "auroc"] == "undefined: all or none of the images have it"


def test_multi_label_calibration_is_that_of_torchmetrics(rng: np.random.Generator) -> None:
    from torchmetrics.functional.classification import binary_calibration_error

    logits, true, groups = multi(rng)
    found = values(score_multi(logits, logits > 0, true, groups, LABELS, {}, seed=0)[0])
    probability = torch.from_numpy(sigmoid(logits))
    target = torch.from_numpy(true.astype(int))
    assert found[None, "ece"] == pytest.approx(
        float(binary_calibration_error(probability.ravel(), target.ravel(), n_bins=15)), abs=1e-6
    )
    assert found["Edema", "ece"] == pytest.approx(
        float(binary_calibration_error(probability[:, 0].contiguous(), target[:, 0], n_bins=15)), abs=1e-6
    )


def test_tied_logits_change_no_score(rng: np.random.Generator) -> None:
    logits, true, groups = multi(rng)
    logits = np.round(logits)
    found = values(score_multi(logits, logits > 0, true, groups, LABELS, {}, seed=0)[0])
    for code in range(4):
        assert found[LABELS[code], "average_precision"] == pytest.approx(
            metrics.average_precision_score(true[:, code], logits[:, code])
        )
    assert found[None, "lrap"] == pytest.approx(metrics.label_ranking_average_precision_score(true, logits))
    assert found[None, "coverage_error"] == pytest.approx(metrics.coverage_error(true, logits))


def test_thresholds_have_the_highest_f1(rng: np.random.Generator) -> None:
    logits, true, _ = multi(rng)
    for shown in (logits, np.round(logits, 1)):
        found = best_thresholds(shown, true)
        for code in range(4):
            precision, recall, _ = metrics.precision_recall_curve(true[:, code], shown[:, code])
            best = np.nan_to_num(2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
            assert metrics.f1_score(true[:, code], shown[:, code] > found[code]) == pytest.approx(best)
        assert found[4] == np.inf


# --- the whole, against clip_benchmark


class FeaturesModel(torch.nn.Module):
    """Gives back what it is given: images and texts are their own features."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        return texts


@pytest.fixture
def features(rng: np.random.Generator) -> SimpleNamespace:
    truth = rng.integers(0, 5, N)
    centres = rng.normal(size=(5, D))
    images = (centres[truth] + rng.normal(size=(N, D)) * 1.3).astype(np.float32)
    names = [f"class {i}" for i in range(5)]
    templates = ["a {c}", "the {c}", "no more than {c}"]
    texts = {t.format(c=name): centres[i] + rng.normal(size=D) for i, name in enumerate(names) for t in templates}
    return SimpleNamespace(truth=truth, images=images, names=names, templates=templates, texts=texts)


def prompts(texts: dict[str, np.ndarray], labels: Sequence[str], negative: Sequence[bool]) -> Prompts:
    return Prompts(np.stack(list(texts.values())), labels, np.array(negative), scale=10.0, bias=0.0)


def test_zero_shot_is_that_of_clip_benchmark(features: SimpleNamespace) -> None:
    """Its logits, that is; its own accuracy fails under NumPy 2.4, and its recall per class is scikit-learn's."""
    from clip_benchmark.metrics.zeroshot_classification import run_classification, zero_shot_classifier

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([features.texts[text] for text in texts])).float()

    model = FeaturesModel()
    classifier = zero_shot_classifier(model, tokenize, features.names, features.templates, "cpu", amp=False)
    loader = [(torch.from_numpy(features.images), torch.from_numpy(features.truth))]
    theirs, target = (tensor.numpy() for tensor in run_classification(model, classifier, loader, "cpu", amp=False))
    asked = prompts(features.texts, [name for name in features.names for _ in features.templates], [False] * 15)
    classes = asked.of(tuple(features.names), negative=False)
    assert classes is not None
    np.testing.assert_allclose(cosine_logits(features.images, ensemble(*classes, 5), 100), theirs, rtol=1e-4, atol=1e-4)
    images = Images(features.images, [features.names[c] for c in features.truth], None, [None] * N, np.arange(N), {})
    scores = evaluate(images, {"three": asked}, seed=0).scores
    whole = scores.filter(pl.col("label").is_null(), stratum="all")
    found = dict(whole.select("metric", "value").iter_rows())
    assert found["accuracy"] == pytest.approx((theirs.argmax(1) == target).mean())
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(target, theirs.argmax(1)))
    assert 0.3 < found["accuracy"] < 0.95


def test_multi_label_average_precision_is_that_of_clip_benchmark(rng: np.random.Generator) -> None:
    from clip_benchmark.metrics.zeroshot_classification import average_precision_per_class

    logits, true, groups = multi(rng)
    found = values(score_multi(logits, logits > 0, true, groups, LABELS, {}, seed=0)[0])
    theirs = average_precision_per_class(torch.from_numpy(logits), torch.from_numpy(true.astype(int)))
    for code in range(4):
        assert found[LABELS[code], "average_precision"] == pytest.approx(float(theirs[code]), abs=1e-6)


def label_worlds(rng: np.random.Generator) -> tuple[Images, dict[str, Prompts]]:
    """Images whose cosine with every text is above 0, as medical texts have with medical images."""
    _, true, groups = multi(rng)
    # As there is an axis common to all, no inner product is below 0.
    centres = np.eye(len(LABELS) + 1, D)[1:] + 3 * np.eye(1, D)
    images = true @ (centres - 3 * np.eye(1, D)) + 3 * np.eye(1, D) + 0.2 * rng.random((N, D))
    texts = {f"{name} {kind}": centres[i] if kind else 3 * np.eye(1, D)[0] for i, name in enumerate(LABELS)
             for kind in (True, False)}  # fmt: skip
    asked = prompts(texts, [name for name in LABELS for _ in range(2)], [False, True] * len(LABELS))
    sets = [";".join(name for name, there in zip(LABELS, row, strict=True) if there) for row in true]
    # The label that nothing has is unknown to label sets.
    # Whole groups of two.
    splits = ["val" if i % 8 < 2 else "test" for i in range(N)]
    return Images(images, ["one"] * N, sets, splits, groups, {}), {"bare": asked}


def test_the_published_rule_predicts_everything_and_the_others_do_not(rng: np.random.Generator) -> None:
    images, asked = label_worlds(rng)
    found = evaluate(images, asked, seed=0)
    over = found.scores.filter(metric="over_prediction", split="all", stratum="all")
    share = {rule: rows["value"].min() for (rule,), rows in over.group_by("rule") if rule != "highest cosine"}
    assert set(share) == {
        "inner product > 0", "logit > 0", "logit > 0, threshold", "positive against negative",
        "positive against negative, threshold",
    }  # fmt: skip
    everything = found.predictions.filter(rule="inner product > 0")
    assert set(everything["predicted"]) == {"Edema;Fracture;No Finding;Pneumonia"}
    assert share["inner product > 0"] > 2
    assert share["logit > 0, threshold"] < 1.3
    exact = dict(
        found.scores.filter(metric="exact_match", split="all", stratum="all").select("rule", "value").iter_rows()
    )
    assert exact["inner product > 0"] < 0.05 < 0.4 < exact["logit > 0, threshold"]
    noted = found.scores.filter(rule="logit > 0, threshold", metric="exact_match")
    assert noted["note"][0] == "thresholds chosen on 60 validation images"
    assert noted["n"].to_list() == [180]
    # Where one label is all there is, the question of which class it is has no answer.
    alone = found.scores.filter(rule="highest cosine")
    assert alone["note"].to_list() == ["undefined: fewer than two classes are known"]


def test_without_a_validation_part_thresholds_come_from_other_groups(rng: np.random.Generator) -> None:
    images, asked = label_worlds(rng)
    unsplit = Images(**{**vars(images), "splits": [None] * N})
    found = evaluate(unsplit, asked, seed=0).scores.filter(rule="logit > 0, threshold", metric="exact_match")
    assert found["note"].to_list() == ["thresholds chosen on the other folds of groups"]
    assert found["n"].to_list() == [N]


def test_no_group_is_scored_that_thresholds_were_chosen_on(rng: np.random.Generator) -> None:
    images, asked = label_worlds(rng)
    # Groups of two images, of which the first may be in the validation part and the second in the test part.
    straddling = Images(**{**vars(images), "splits": ["val" if i % 8 == 0 else "test" for i in range(N)]})
    found = evaluate(straddling, asked, seed=0)
    rows = set(found.predictions.filter(rule="logit > 0, threshold")["row"])
    assert rows == {i for i in range(N) if i % 8 not in (0, 1)}
    # Where no group is left, thresholds are chosen on other groups as if there were no parts.
    everywhere = Images(**{**vars(images), "splits": ["val" if i % 2 == 0 else "test" for i in range(N)]})
    found = evaluate(everywhere, asked, seed=0)
    assert found.predictions.filter(rule="logit > 0, threshold").height == N


def test_one_group_has_no_other_to_choose_thresholds_on(rng: np.random.Generator) -> None:
    images, asked = label_worlds(rng)
    alone = Images(**{**vars(images), "groups": np.zeros(N, np.int64)})
    found = evaluate(alone, asked, seed=0)
    [row] = found.scores.filter(rule="logit > 0, threshold").iter_rows(named=True)
    assert row["value"] is None
    assert row["note"] == "undefined: all images are of one group: there is no other to choose thresholds on"
    assert "logit > 0, threshold" not in set(found.predictions["rule"])


def test_a_set_without_prompts_for_a_class_is_undefined(features: SimpleNamespace) -> None:
    labels = [name for name in features.names for _ in features.templates]
    asked = prompts(features.texts, ["another" if name == "class 3" else name for name in labels], [False] * 15)
    images = Images(features.images, [features.names[c] for c in features.truth], None, [None] * N, np.arange(N), {})
    found = evaluate(images, {"three": asked}, seed=0)
    assert found.scores["note"].to_list() == ["undefined: not every class has a prompt"]
    assert found.scores["value"].to_list() == [None]
    assert found.predictions.is_empty()


def test_label_sets_are_read_with_those_that_are_unknown_or_empty() -> None:
    known, true, names = read_label_sets(["b; a", "", None, "a"])
    assert names == ("a", "b")
    assert known.tolist() == [True, True, False, True]
    assert true.tolist() == [[True, True], [False, False], [False, False], [True, False]]


# --- what a background does


def test_a_word_that_moves_the_answer_is_found_and_one_that_does_not_is_not() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 150)
    word = rng.integers(0, 2, 300)
    groups = np.arange(300)
    honest = np.where(rng.random(300) < 0.8, labels, 1 - labels)
    moved = np.where(word == 1, 1, honest)
    still = answer_shift(honest, labels, word, groups, name="word", seed=0)
    shifted = answer_shift(moved, labels, word, groups, name="word", seed=0)
    assert still.p_value is not None
    assert still.p_value > 0.05
    assert still.value == pytest.approx(still.expected, abs=0.05)
    assert shifted.p_value == 0.001
    assert shifted.value is not None
    assert shifted.value > 0.2
    # By hand: among images of one label, answers with the word against those of all.
    total = 0.0
    for y in (0, 1):
        for b in (0, 1):
            here, whole = moved[(labels == y) & (word == b)], moved[labels == y]
            total += len(here) * abs(here.mean() - whole.mean())
    assert shifted.value == pytest.approx(total / 300)


def test_answers_are_scored_by_background(rng: np.random.Generator) -> None:
    logits, labels, groups = single(rng)
    word = Categories(rng.integers(-1, 2, N), ("false", "true"))
    logits[word.codes == 1, 1] += 5
    numbers, _ = score_single(logits, labels, groups, {"text_overlay": word}, seed=0)
    member = word.codes == 1
    with_word = values(numbers, "text_overlay=true")
    predicted = logits.argmax(1)
    assert with_word[None, "accuracy"] == pytest.approx((predicted == labels.codes)[member].mean())
    assert with_word["malignant", "over_prediction"] > 2
    of_attribute = values(numbers, "text_overlay")
    assert of_attribute[None, "within_label_gap"] > 0.2
    assert of_attribute[None, "answer_shift"] > 0.2
    assert set(of_attribute) == {
        (None, m) for m in ("stratum_gap", "worst_stratum_accuracy", "within_label_gap", "answer_shift")
    }


def test_a_background_of_one_value_says_why_there_is_no_shift() -> None:
    codes = np.zeros(10, np.int64)
    found = answer_shift(codes, codes, codes, np.arange(10), name="view", seed=0)
    assert found.value is None
    assert found.note == "undefined: fewer than two values are known"


def test_no_warning_is_raised_where_nothing_is_ever_predicted(rng: np.random.Generator) -> None:
    logits, true, groups = multi(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers, _ = score_multi(logits, np.zeros_like(true), true, groups, LABELS, {}, seed=0)
    found = values(numbers)
    assert found["Edema", "precision"] is None
    assert found["Edema", "over_prediction"] == 0
    assert found[None, "macro_f1"] == 0
