"""The warehouse that the cookbook asks: phantoms whose words go with the label, and two encoders unlike each other."""

import csv
import shutil
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assets.demo import draw_phantoms
from assets.project import Project
from assets.registry import add_dataset
from assets.searching import import_as_encoder
from assets.step import Cell
from assets.steps import STEPS
from pipelines.sources import DataSet
from store import Warehouse

DATASET = "phantoms"
IMAGES = 120
DIMENSION = 32
# A copy of an image under its own label, in the other split; and one under another label.
COPIES = {"images/copy.png": (0, "test", None), "images/relabelled.png": (5, "train", "malignant")}
# How far the vectors of each encoder are drawn towards others that share something, beside noise of length 1.
ENCODERS = {
    "sees_lesions": {"label": 0.5, "words": 0.3, "patient": 0.3},
    "sees_words": {"label": 0.45, "words": 1.5, "patient": 0.6},
}


def make_warehouse(folder: Path) -> Warehouse:
    """Draw, read and analyse the phantoms; all of it is seeded."""
    _draw(folder / "phantoms")
    project = Project(warehouse=str(folder / "warehouse"), repeats=1)
    warehouse = project.open()
    add_dataset(warehouse, DataSet(DATASET, "manifest", folder / "phantoms"))
    _run(project, "images", DATASET)
    _run(project, "duplicates", DATASET)
    for encoder in ENCODERS:
        _encode(warehouse, folder, encoder)
        _run(project, "svm_probes", DATASET, encoder)
        _run(project, "neighbor_audits", DATASET, encoder)
    for name in ("leaderboard", "encoder_agreement", "bias_report"):
        _run(project, name)
    return warehouse


def _draw(folder: Path) -> None:
    """Draw phantoms; every fourth patient is in the published test part, and two images have a copy."""
    draw_phantoms(folder, "ultrasound", IMAGES, 1.0, 0.8, seed=3)
    manifest = folder / "manifest.csv"
    with manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    patients = sorted({row["patient"] for row in rows})
    for row in rows:
        del row["view"]  # one attribute less to test
        row["split"] = "test" if patients.index(row["patient"]) % 4 == 3 else "train"
    for path, (copied, split, label) in COPIES.items():
        shutil.copy(folder / rows[copied]["path"], folder / path)
        rows.append(rows[copied] | {"path": path, "split": split, "label": label or rows[copied]["label"]})
    pl.DataFrame(rows).write_csv(manifest)


def _run(project: Project, step: str, dataset: str = "", encoder: str = "") -> None:
    STEPS[step].run(Cell(project, project.open(), dataset, encoder), "cookbook")


def _encode(warehouse: Warehouse, folder: Path, encoder: str) -> None:
    """Import drawn vectors: a direction for each label, word and patient, as strong as the encoder says, and noise."""
    columns = ("uri", "label", "patient", pl.col("overlay_text").fill_null("no words").alias("words"))
    images = warehouse.frame("images").select(*columns).collect().sort("uri")
    rng = np.random.default_rng(list(encoder.encode()))
    # An image and its copy are one picture, and have one vector.
    pictures = images["uri"].replace({copy: f"images/{copied:06}.png" for copy, (copied, _, _) in COPIES.items()})
    vectors = _unit(rng, pictures)
    for what, strength in ENCODERS[encoder].items():
        vectors += strength * _unit(rng, images[what].gather(pl.Series(images["uri"].search_sorted(pictures))))
    np.save(folder / f"{encoder}.npy", vectors)
    import_as_encoder(warehouse, encoder, DATASET, folder / f"{encoder}.npy", images.select("uri"))


def _unit(rng: np.random.Generator, values: pl.Series) -> NDArray[np.float64]:
    """Return for each value ``(n, d)`` a direction of its own, of length about one."""
    names = values.unique().sort()
    directions = rng.normal(size=(len(names), DIMENSION)) / np.sqrt(DIMENSION)
    return directions[names.search_sorted(values).to_numpy()]
