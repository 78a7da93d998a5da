"""Texts, zero-shot, retrieval and separability on phantoms, through the small CLIP that was trained on others."""

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from assets.project import Project
from assets.registry import add_dataset
from assets.step import Cell
from assets.steps import STEPS
from pipelines.sources import DataSet
from store.texts import read_text_vectors, read_texts
from tests.trained_clip import CLASS_NAMES, NAME, Pairs, draw_pairs

# The model is trained first, a minute of one core that is free.
pytestmark = pytest.mark.timeout(1800)

IMAGES = 150


def write_data_set(root: Path, pairs: Pairs) -> None:
    """Write images and a table as a user has them, with two captions each and their labels as a set too."""
    root.mkdir(parents=True)
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "text_overlay", "word", "caption", "text:caption_2", "label:all"])
        for i, (pixels, label, word) in enumerate(zip(pairs.pixels, pairs.labels, pairs.words, strict=True)):
            Image.fromarray(pixels).save(root / f"{i}.png")
            shown = f"ultrasound phantom, {label}"
            written = f"the word {word.lower()}" if word else ""
            there = [label] if label != "normal" else []
            there += ["marked"] if word else []
            table.writerow([f"{i}.png", label, bool(word), word, shown, written, ";".join(there) or "none"])


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse in which unseen phantoms are registered; the name of any class on half of them."""
    folder = tmp_path_factory.mktemp("text side")
    names = tuple(name.upper() for name in CLASS_NAMES)
    write_data_set(folder / "unseen", draw_pairs(IMAGES, seed=77, worded=0.5, named=0, words=names))
    prompts = folder / "prompts"
    prompts.mkdir()
    (prompts / "phantoms.toml").write_text(
        'templates = ["ultrasound phantom, {}", "{}"]\nnegative_templates = ["ultrasound phantom, not {}"]\n'
    )
    project = Project(warehouse=str(folder / "warehouse"))
    add_dataset(project.open(), DataSet("unseen", "manifest", folder / "unseen"))
    return folder


@pytest.fixture
def project(warehouse: Path, phantom_clip: Path) -> Project:
    return Project(
        warehouse=str(warehouse / "warehouse"), checkpoint_dir=str(phantom_clip), prompt_dir=str(warehouse / "prompts")
    )


ANALYSES = ("zero_shot", "retrieval", "separability")


def make(project: Project, encoder: str, *analyses: str) -> list[str]:
    """Make analyses and what they read where that is not current, but for overlays, which are not looked for here."""
    done = []
    for name in ("images", "texts", "embeddings", "text_embeddings", *analyses):
        cell = Cell(project, project.open(), *STEPS[name].partition_of("unseen", encoder))
        if STEPS[name].state(cell) != "current":
            STEPS[name].run(cell, run_id="here")
            done.append(name)
    return done


@pytest.fixture
def made(project: Project) -> Project:
    """A project in which the text side is made."""
    for encoder in (NAME, f"{NAME}_pooled"):
        make(project, encoder, *ANALYSES)
    return project


def scores(project: Project, encoder: str = NAME) -> pl.DataFrame:
    return project.open().frame("zero_shot_scores").filter(pl.col("encoder") == encoder).collect()


def test_texts_are_prompts_and_captions_each_once(made: Project) -> None:
    texts = read_texts(made.open(), "unseen")
    prompts = texts.filter(kind="prompt")
    assert set(prompts["prompt_set"]) == {"bare", "medical", "phantoms"}
    asked = prompts.filter(prompt_set="phantoms", label="benign")
    assert set(asked["text"]) == {"ultrasound phantom, benign", "benign", "ultrasound phantom, not benign"}
    assert asked["prompt_version"].n_unique() == 1
    captions = texts.filter(kind="caption")
    assert "ultrasound phantom, benign" in set(captions["text"])
    assert captions["text"].n_unique() == captions.height
    # The two captions of an image are one kind, and none is read as background.
    assert captions["image_ids"].list.len().sum() > IMAGES
    backgrounds = set(made.open().frame("separability").collect()["target"])
    assert {"label", "text_overlay", "word"} <= backgrounds
    assert not any(":" in name for name in backgrounds)
    matrix = read_text_vectors(made.open(), NAME, "unseen")
    assert matrix is not None
    assert matrix.vectors.shape == (texts.height, 32)
    assert matrix.texts["text"].to_list() == texts["text"].to_list()
    assert 1 < matrix.logit_scale < 200


def test_zero_shot_knows_unseen_phantoms_and_a_word_moves_its_answer(made: Project) -> None:
    found = scores(made).filter(prompt_set="phantoms", rule="highest cosine", split="all")
    whole = found.filter(pl.col("label").is_null())

    def of(stratum: str, metric: str) -> dict[str, object]:
        return whole.filter(stratum=stratum, metric=metric).row(0, named=True)

    clean = of("text_overlay=false", "accuracy")
    assert clean["ci_low"] > 0.5  # of three classes, as often
    assert clean["value"] > of("text_overlay=true", "accuracy")["value"] + 0.1
    # What is written is what moves it.
    by_word = of("word", "answer_shift")
    assert by_word["value"] > by_word["expected"] + 0.1
    assert by_word["p_value"] < 0.05
    predicted = made.open().frame("zero_shot_predictions").filter(pl.col("encoder") == NAME).collect()
    answers = predicted.filter(prompt_set="phantoms", rule="highest cosine")
    assert answers.height == IMAGES
    assert answers["correct"].mean() == pytest.approx(of("all", "accuracy")["value"])
    assert set(answers["predicted"]) <= set(CLASS_NAMES)


def test_label_sets_are_scored_by_every_rule(made: Project) -> None:
    found = scores(made).filter(prompt_set="phantoms", metric="lrap", stratum="all", split="all")
    assert set(found["rule"]) == {
        "inner product > 0", "logit > 0", "logit > 0, threshold", "positive against negative",
        "positive against negative, threshold",
    }  # fmt: skip
    assert found["value"].null_count() == 0


def test_retrieval_finds_captions_far_above_chance(made: Project) -> None:
    found = made.open().frame("retrieval_scores").filter(pl.col("encoder") == NAME).collect()
    assert set(found["kind"]) == {"caption"}
    first = found.filter(metric="recall", k=1)
    assert set(first["direction"]) == {"image to text", "text to image"}
    to_text = first.filter(direction="image to text").row(0, named=True)
    assert to_text["ci_low"] > to_text["expected"] + 0.1
    ranks = made.open().frame("retrieval_ranks").filter(pl.col("encoder") == NAME).collect()
    hit = ranks.filter(direction="image to text")["rank"] <= 1
    assert hit.mean() == pytest.approx(to_text["value"])
    assert hit.len() == IMAGES


def test_what_has_no_text_side_is_undefined_and_says_so(made: Project) -> None:
    pooled = f"{NAME}_pooled"
    reason = f"undefined: its vectors are not in the space of texts; those of {NAME} are"
    assert scores(made, pooled)["note"].to_list() == [reason]
    retrieval = made.open().frame("retrieval_scores").filter(pl.col("encoder") == pooled).collect()
    assert retrieval["note"].to_list() == [reason]
    # Separability needs no text.
    apart = made.open().frame("separability").filter(pl.col("encoder") == pooled, pl.col("target") == "label").collect()
    assert apart["value"].null_count() == 0


def test_a_text_side_whose_files_are_missing_holds_up_nothing_else(made: Project) -> None:
    cell = Cell(made, made.open(), "unseen", "biomedclip")
    found = STEPS["text_embeddings"].run(cell, run_id="here")
    check = found.checks["text_side_loads"]
    assert not check.passed
    assert "set COUNTERSTAIN_CHECKPOINT_DIR" in check.description
    STEPS["zero_shot"].run(cell, run_id="here")
    reason = "undefined: there are no vectors of texts: see text_embeddings"
    assert scores(made, "biomedclip")["note"].to_list() == [reason]


def test_a_changed_prompt_set_makes_its_answers_stale_and_no_others(made: Project, warehouse: Path) -> None:
    assert make(made, NAME, *ANALYSES) == []
    path = warehouse / "prompts" / "phantoms.toml"
    before = path.read_text()
    try:
        path.write_text('templates = ["a phantom that is {}"]\n')
        assert make(made, NAME, "zero_shot", "separability") == ["texts", "text_embeddings", "zero_shot"]
        no_negatives = scores(made).filter(prompt_set="phantoms", rule="positive against negative")
        assert no_negatives["note"].to_list() == ["undefined: the set has no negative prompts"]
    finally:
        path.write_text(before)


def test_the_pictures_are_drawn(made: Project) -> None:
    import io

    from analysis.figures import over_prediction_figure, reliability_figure

    bins = made.open().frame("zero_shot_reliability").filter(pl.col("encoder") == NAME).collect()
    over = scores(made).filter(metric="over_prediction", split="all", stratum="all", prompt_set="phantoms")
    for png in (reliability_figure(bins, title="Reliability"), over_prediction_figure(over, title="Over-prediction")):
        assert np.asarray(Image.open(io.BytesIO(png)).convert("L")).std() > 10
