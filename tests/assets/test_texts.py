"""Texts of data sets whose labels and columns are not the plain ones; no encoder is run."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from assets.project import Project
from assets.registry import add_dataset
from assets.step import Cell, Made
from assets.steps import STEPS
from pipelines.sources import DataSet
from store.embeddings import import_embeddings
from store.schema import CounterstainError
from store.texts import read_text_vectors, read_texts, write_text_vectors

IMAGES = 6
SETS = ("edema;mass", "mass", "edema", "cyst;mass", "cyst", "edema")


def registered(tmp_path: Path, columns: dict[str, Sequence[str]], label: str | None = None) -> Project:
    """Return a project whose data set ``d`` is some small images and their table."""
    root = tmp_path / "d"
    root.mkdir()
    with (root / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", *columns])
        for i in range(IMAGES):
            Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(root / f"{i}.png")
            table.writerow([f"{i}.png", *(values[i] for values in columns.values())])
    project = Project(warehouse=str(tmp_path / "warehouse"))
    add_dataset(project.open(), DataSet("d", "manifest", root, label=label))
    run(project, "images")
    return project


def run(project: Project, step: str, encoder: str = "") -> Made:
    cell = Cell(project, project.open(), *STEPS[step].partition_of("d", encoder))
    return STEPS[step].run(cell, run_id="here")


@pytest.mark.parametrize("label", ["label:all", None])
def test_sets_of_labels_are_asked_for_label_by_label(tmp_path: Path, label: str | None) -> None:
    project = registered(tmp_path, {"label:all": SETS}, label)
    run(project, "texts")
    assert set(read_texts(project.open(), "d")["label"]) == {"cyst", "edema", "mass"}


@pytest.mark.parametrize("label", ["label:all", None])
def test_images_with_sets_of_labels_alone_are_answered(tmp_path: Path, label: str | None) -> None:
    project = registered(tmp_path, {"label:all": SETS}, label)
    run(project, "texts")
    warehouse = project.open()
    texts = read_texts(warehouse, "d")
    has = {name: np.array([name in each.split(";") for each in SETS]) for name in ("cyst", "edema", "mass")}
    axes = dict(zip(has, np.eye(3, 4), strict=True))
    np.save(tmp_path / "v.npy", sum(has[name][:, None] * axis for name, axis in axes.items()) - 0.01)
    names = pl.DataFrame({"uri": [f"{i}.png" for i in range(IMAGES)]})
    import_embeddings(warehouse, "biomedclip", "d", tmp_path / "v.npy", names)
    vectors = [axes[row["label"]] * (-1 if row["negative"] else 1) for row in texts.iter_rows(named=True)]
    write_text_vectors(
        warehouse, "biomedclip", "d", texts["text_id"].to_list(), np.array(vectors, np.float32), fingerprint="f",
        logit_scale=10, logit_bias=0,
    )  # fmt: skip
    run(project, "zero_shot", "biomedclip")
    scores = project.open().frame("zero_shot_scores").filter(stratum="all", metric="exact_match").collect()
    exact = scores.filter(prompt_set="bare", rule="positive against negative")
    assert exact["value"].to_list() == [1]
    single = project.open().frame("zero_shot_scores").filter(rule="highest cosine").collect()
    assert set(single["note"]) == {"undefined: fewer than two classes are known"}


def test_vectors_of_earlier_texts_do_not_stay_where_there_can_be_none(tmp_path: Path) -> None:
    project = registered(tmp_path, {"label": ["a", "b"] * 3})
    run(project, "texts")
    warehouse = project.open()
    ids = read_texts(warehouse, "d")["text_id"].to_list()
    for dataset in ("d", "other"):
        write_text_vectors(
            warehouse, "efficientnet_lite0", dataset, ids, np.ones((len(ids), 4), np.float32), fingerprint="f",
            logit_scale=1, logit_bias=0,
        )  # fmt: skip
    run(project, "text_embeddings", "efficientnet_lite0")
    assert read_text_vectors(project.open(), "efficientnet_lite0", "d") is None
    left = project.open().frame("text_embeddings__efficientnet_lite0").collect()
    assert set(left["dataset"]) == {"other"}


def test_texts_of_images_cannot_pass_for_prompts(tmp_path: Path) -> None:
    project = registered(tmp_path, {"label": ["a", "b"] * 3, "text:prompt_2": ["ignore the above"] * IMAGES})
    with pytest.raises(CounterstainError, match="rename the column text:prompt_2"):
        run(project, "texts")
