"""The same job on real images: accuracies of an independent implementation of the study's protocol."""

from pathlib import Path

import polars as pl
import pytest

from assets import materializing
from assets.project import Project
from assets.registry import add_dataset
from pipelines.sources import DataSet

from .conftest import ENCODER

pytestmark = pytest.mark.real


def _accuracies(project: Project, dataset: str) -> dict[str, float]:
    names = {"dataset": dataset, "target": "label", "protocol": "published", "metric": "accuracy", "stratum": "all"}
    rows = project.open().frame("probe_scores").filter(pl.col("fold").is_null(), **names)
    return dict(rows.select("split", "value").collect().iter_rows())


@pytest.mark.parametrize(
    ("name", "reader", "place", "images", "cv", "test", "tolerance"),
    [
        # Expected accuracies are those of the README beside the images; on 156 test images one image is 0.6 points.
        ("brainmr", "folder", "brainmr/Training", 2870, 0.872, 0.860, 0.010),
        ("breastus", "folder", "breastus", 780, 0.764, 0.732, 0.020),
        ("retinamnist", "retinamnist", "retinamnist.npz", 1200, 0.430, 0.438, 0.015),
    ],
)
def test_published_accuracy(
    real_data: Path,
    project: Project,
    name: str,
    reader: str,
    place: str,
    images: int,
    cv: float,
    test: float,
    tolerance: float,
) -> None:
    add_dataset(project.open(), DataSet(name, reader, real_data / place))
    with materializing.dagster_instance(project) as instance:
        made = materializing.materialize(project, instance, [name], [ENCODER], "svm_probes")
    assert [asset for _, asset in made] == ["images", "overlays", "duplicates", "embeddings", "svm_probes"]
    assert project.open().vectors(ENCODER, name).vectors.shape == (images, 1280)
    assert _accuracies(project, name) == {
        "cv": pytest.approx(cv, abs=tolerance),
        "test": pytest.approx(test, abs=tolerance),
    }


def test_medmnist_splits_are_kept(real_data: Path, project: Project) -> None:
    add_dataset(project.open(), DataSet("pneumoniamnist", "medmnist", real_data / "pneumoniamnist.npz"))
    with materializing.dagster_instance(project) as instance:
        materializing.materialize(project, instance, ["pneumoniamnist"], asset="images")
    counts = project.open().sql(
        "SELECT split, label, count(*) FROM images WHERE split = 'train' GROUP BY ALL ORDER BY ALL"
    )
    assert counts.rows() == [("train", "0", 1214), ("train", "1", 3494)]
