import itertools
import math

import numpy as np
import polars as pl
import pytest

from analysis.contrasts import PLANNED, SCHEMA, EncoderFacts, planned_contrasts
from analysis.probes import probe
from tests import worlds

FACTS = {
    "biomedclip": EncoderFacts("medical", text_side=True, language_model=False),
    "uni": EncoderFacts("one modality", text_side=False, language_model=False),
    "clip": EncoderFacts("general", text_side=True, language_model=False),
    "llm2clip": EncoderFacts("general", text_side=True, language_model=True),
    "llava": EncoderFacts("general", text_side=False, language_model=True),
    "resnet": EncoderFacts("no language", text_side=False, language_model=False),
    "untrained": EncoderFacts("control", text_side=True, language_model=False),
}


def test_each_contrast_parts_the_encoders_as_it_says():
    sides = {c.name: {name: c.side(facts) for name, facts in FACTS.items()} for c in PLANNED}
    first = {name: {e for e, side in found.items() if side is True} for name, found in sides.items()}
    second = {name: {e for e, side in found.items() if side is False} for name, found in sides.items()}
    assert first == {
        "language_model": {"llm2clip", "llava"},
        "medical": {"biomedclip"},
        "language": {"biomedclip", "clip", "llm2clip", "llava"},
        "trained": set(FACTS) - {"untrained"},
    }
    assert second == {
        "language_model": {"biomedclip", "clip"},
        "medical": {"clip", "llm2clip", "llava"},
        "language": {"uni", "resnet"},
        "trained": {"untrained"},
    }


def predictions(dataset, encoders, *, protocol="grouped", target="label"):
    """Predictions of one probe per encoder; the better, the more of the lesion it shows."""
    frames, scores = [], {}
    for encoder, lesion in encoders.items():
        world = worlds.make_world(lesion=lesion, background=1.0, seed=len(dataset), n=180, group_size=3)
        result = probe(world.vectors, world.labels, world.groups, protocol=protocol, target=target, seed=0, repeats=2)
        cv = result.predictions.filter(split="cv")
        group = pl.Series("group", world.groups[cv["row"].to_numpy()])
        names = cv.select(pl.col("row").cast(pl.String).alias("image_id"), *cv.columns)
        frames.append(names.with_columns(group, dataset=pl.lit(dataset), encoder=pl.lit(encoder)))
        [scores[encoder]] = result.scores.filter(
            pl.col("fold").is_null(), split="cv", stratum="all", metric="balanced_accuracy"
        )["value"]
    return pl.concat(frames), scores


@pytest.fixture(scope="module")
def study():
    encoders = {"clip": 0.5, "biomedclip": 1.0, "uni": 0.8, "resnet": 0.3, "untrained": 0.0, "a stranger": 3.0}
    made = {name: predictions(name, encoders) for name in ("a", "bb", "ccc", "dddd")}
    return pl.concat(frame for frame, _ in made.values()), {name: scores for name, (_, scores) in made.items()}


@pytest.fixture(scope="module")
def found(study):
    return planned_contrasts(study[0], FACTS, seed=0)


def test_a_difference_is_that_of_the_probes_scores(study, found):
    assert dict(found.schema) == SCHEMA
    for dataset, scores in study[1].items():
        [row] = found.filter(contrast="language", dataset=dataset).iter_rows(named=True)
        expected = (scores["biomedclip"] + scores["clip"]) / 2 - (scores["uni"] + scores["resnet"]) / 2
        assert row["value"] == pytest.approx(expected)
        assert row["ci_low"] < row["value"] < row["ci_high"]
        assert row["n"] == study[0].filter(dataset=dataset)["image_id"].n_unique()
        assert row["note"] == "biomedclip, clip against resnet, uni"
        assert (row["target"], row["protocol"], row["metric"], row["p_value"]) == (
            "label",
            "grouped",
            "balanced_accuracy",
            None,
        )


def test_over_data_sets_agrees_with_the_formulas(found):
    [row] = found.filter(pl.col("dataset").is_null(), contrast="medical").iter_rows(named=True)
    values = found.filter(pl.col("dataset").is_not_null(), contrast="medical")["value"].to_numpy()
    assert row["value"] == pytest.approx(values.mean())
    half = 3.182446305 * values.std(ddof=1) / math.sqrt(4)  # Student's t, 3 degrees of freedom, 97.5 %
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((values.mean() - half, values.mean() + half))
    flipped = [abs(np.mean(values * signs)) for signs in itertools.product((1, -1), repeat=4)]
    assert row["p_value"] == pytest.approx(np.mean(np.array(flipped) >= abs(values.mean()) - 1e-12))
    assert row["n"] == 4


def test_p_values_are_adjusted_over_the_questions(found):
    tested = found.filter(pl.col("p_value").is_not_null())
    assert set(tested["contrast"]) == {"medical", "language", "trained"}
    assert (tested["p_adjusted"] >= tested["p_value"]).all()
    assert found.filter(pl.col("p_value").is_null())["p_adjusted"].is_null().all()


def test_what_no_encoder_answers_is_undefined(found):
    [row] = found.filter(contrast="language_model").iter_rows(named=True)
    assert row["value"] is None
    assert row["n"] == 0
    assert row["note"].startswith("undefined: no data set has scores of encoders on both sides")


def test_encoders_are_compared_on_the_same_draws(study):
    clip = study[0].filter(encoder="clip", dataset="a")
    twins = pl.concat([clip, clip.with_columns(encoder=pl.lit("biomedclip"))])
    [row] = planned_contrasts(twins, FACTS, seed=0).filter(contrast="medical", dataset="a").iter_rows(named=True)
    assert (row["value"], row["ci_low"], row["ci_high"]) == (0, 0, 0)
    [alone] = (
        planned_contrasts(twins, FACTS, seed=0)
        .filter(pl.col("dataset").is_null(), contrast="medical")
        .iter_rows(named=True)
    )
    assert alone["ci_low"] is None
    assert alone["p_value"] is None
    assert alone["note"].endswith("fewer than 3 data sets, so no interval")


def test_published_scores_are_asked_the_same_questions(study, found):
    accuracies = {
        "biomedclip": (0.8, 0.7, 0.9),
        "uni": (0.9, 0.9, 0.9),
        "clip": (0.7, 0.4, 0.9),
        "resnet": (0.5, 0.5, 0.5),
    }
    rows = [
        (dataset, encoder, values[i])
        for encoder, values in accuracies.items()
        for i, dataset in enumerate(("brainmr", "hicervix", "isic2019"))
    ]
    published = pl.DataFrame(rows, schema=["dataset", "encoder", "accuracy"], orient="row")
    with_study = planned_contrasts(study[0], FACTS, seed=0, published=published)
    medical = with_study.filter(contrast="medical", protocol="study")
    assert medical.filter(pl.col("dataset").is_not_null())["value"].to_list() == pytest.approx([0.1, 0.3, 0])
    [overall] = medical.filter(pl.col("dataset").is_null()).iter_rows(named=True)
    assert (overall["value"], overall["n"], overall["metric"]) == (pytest.approx(0.4 / 3), 3, "accuracy")
    assert overall["ci_low"] < 0.4 / 3 < overall["ci_high"]
    measured = with_study.filter(pl.col("protocol") != "study").drop("p_adjusted")
    assert measured.equals(found.filter(pl.col("protocol") != "study").drop("p_adjusted"))


def test_order_of_rows_changes_nothing(study, found):
    shuffled = study[0].sample(fraction=1, shuffle=True, seed=1)
    again = planned_contrasts(shuffled, FACTS, seed=0)
    keys = ["contrast", "dataset"]
    assert again.sort(keys).equals(found.sort(keys))
    assert not planned_contrasts(study[0], FACTS, seed=1)["ci_low"].equals(found["ci_low"])
