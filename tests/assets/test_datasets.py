"""Known data sets on the command line, their expected counts, and the comparison with published scores."""

import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from assets import images, published_comparison
from assets.cli import app
from assets.project import Project
from assets.registry import add_dataset, get_dataset
from assets.step import Cell, Made
from pipelines.sources import DataSet
from store.results import write_results
from store.schema import PROBE_SCORES, CounterstainError


def run(project: Project, *words: str, ok: bool = True) -> str:
    """Return what a command prints, or the message of the mistake it names."""
    result = CliRunner().invoke(app, list(words), env={"COUNTERSTAIN_WAREHOUSE": project.warehouse})
    if ok:
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout
    assert isinstance(result.exception, CounterstainError), (result.output, result.exception)
    return str(result.exception)


def breakhis(root: Path, malignant: int = 2, benign: int = 1) -> Path:
    """Write a few images named as those of BreakHis."""
    root.mkdir()
    kinds = [("M_DC", i) for i in range(malignant)] + [("B_A", i) for i in range(benign)]
    for place, (kind, i) in enumerate(kinds):
        Image.new("RGB", (12, 9), (20 * place, 9, 7)).save(root / f"SOB_{kind}-14-25{i}AB-40-00{i}.png")
    return root


def make_images(project: Project, dataset: DataSet) -> Made:
    add_dataset(project.open(), dataset)
    return images.STEP.make(Cell(project, project.open(), dataset.name, ""))


# --- the listing


def test_datasets_lists_what_is_registered_and_what_is_known(project: Project, tmp_path: Path) -> None:
    run(project, "datasets", "add", "slides", "--reader", "breakhis", "--root", str(breakhis(tmp_path / "b")))
    listed = run(project, "datasets")
    registered, known = listed.split("Known by name")
    assert "slides" in registered
    for name in ("brainmr", "sarscov2ct", "pneumoniamnist", "breastus", "breakhis", "hicervix", "deepdrid", "isic2019",
                 "iuxray", "retinamnist"):  # fmt: skip
        assert name in known
    assert "28160" in known
    assert "slide; magnification; stain" in known
    assert "dicom, folder, huggingface, manifest, medmnist, medmnist_train, tiles" in known
    assert "slides" in run(project, "datasets", "list")
    assert run(project, "datasets", "known") in listed


def test_a_warehouse_named_before_the_command_is_the_one(project: Project, tmp_path: Path) -> None:
    other, root = str(tmp_path / "other"), str(breakhis(tmp_path / "b"))
    run(project, "datasets", "--warehouse", other, "add", "slides", "--reader", "breakhis", "--root", root)
    assert "slides" not in run(project, "datasets", "list")
    assert "slides" in run(project, "datasets", "--warehouse", other, "list")
    # Named twice, the one beside the command's other options counts.
    assert "slides" not in run(project, "datasets", "--warehouse", other, "list", "--warehouse", project.warehouse)


def test_a_known_data_set_tells_where_it_is_to_be_had(project: Project) -> None:
    card = run(project, "datasets", "known", "breakhis")
    assert "https://web.inf.ufpr.br/vri/databases" in card
    assert "benign 2,480, malignant 5,429" in card
    assert "Spanhol" in card
    assert "known: brainmr, breakhis" in run(project, "datasets", "known", "nil", ok=False)


def test_a_known_data_set_brings_its_groups(project: Project, tmp_path: Path) -> None:
    words = ["--reader", "breakhis", "--root", str(breakhis(tmp_path / "b")), "--group", "magnification"]
    run(project, "datasets", "add", "slides", *words)
    assert get_dataset(project.open(), "slides").groups == ("patient", "slide", "magnification")


# --- the expected counts


def test_a_subset_is_made_and_said_to_be_one(project: Project, tmp_path: Path) -> None:
    made = make_images(project, DataSet("slides", "breakhis", breakhis(tmp_path / "b")))
    assert made.rows == 3
    check = made.checks["as_published"]
    assert not check.passed
    assert check.description == "3 images of 7909; benign: 1 of 2480; malignant: 2 of 5429"
    assert "publication" in made.metadata


def test_under_another_label_only_the_number_of_images_is_expected(project: Project, tmp_path: Path) -> None:
    dataset = DataSet("slides", "breakhis", breakhis(tmp_path / "b"), "subtype")
    assert make_images(project, dataset).checks["as_published"].description == "3 images of 7909"


def test_the_usual_label_by_its_name_is_the_usual_label(project: Project, tmp_path: Path) -> None:
    dataset = DataSet("slides", "breakhis", breakhis(tmp_path / "b"), "tumour")
    assert "malignant: 2 of 5429" in make_images(project, dataset).checks["as_published"].description


def test_a_layout_that_many_share_expects_nothing(project: Project, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    breakhis(tmp_path / "images" / "class")
    made = make_images(project, DataSet("mine", "folder", tmp_path / "images"))
    assert made.checks["as_published"].passed
    assert "publication" not in made.metadata


@pytest.mark.real
def test_a_whole_set_is_as_published(real_data: Path, project: Project) -> None:
    made = make_images(project, DataSet("us", "breastus", real_data / "breastus"))
    assert made.checks["as_published"].passed
    assert made.checks["as_published"].description == "780 images, as published"


# --- the comparison


@pytest.fixture
def probed(project: Project, tmp_path: Path) -> Project:
    """A data set of the study, and one of one's own, with probe scores of two encoders."""
    warehouse = project.open()
    root = breakhis(tmp_path / "b")
    add_dataset(warehouse, DataSet("slides", "breakhis", root))
    # Asked for by name, the usual label is the usual label.
    add_dataset(warehouse, DataSet("named", "breakhis", root, "tumour"))
    add_dataset(warehouse, DataSet("subtypes", "breakhis", root, "subtype"))
    for dataset in ("slides", "named", "subtypes"):
        for encoder, value in (("uni", 0.92), ("mine", 0.7)):
            rows = pl.DataFrame(
                [
                    {"target": "label", "protocol": "published", "split": split, "fold": None, "stratum": stratum,
                     "metric": metric, "value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "n": 3, "seed": 0,
                     "note": None}
                    for split in ("cv", "test")
                    for stratum, metric in (("all", "accuracy"), ("all", "macro_f1"), ("label=malignant", "f1"))
                ],
                schema_overrides={"fold": pl.Int32, "note": pl.String},
            )  # fmt: skip
            write_results(warehouse, PROBE_SCORES, rows, dataset=dataset, encoder=encoder)
    return project


def test_the_comparison_is_an_asset_with_its_table_and_figure(probed: Project) -> None:
    cell = Cell(probed, probed.open(), "", "")
    made = published_comparison.STEP.run(cell, "run")
    assert made.summary == {"measured": 8, "with a published counterpart": 4, "doubtful": 0}
    assert "data:image/png" in made.metadata["accuracy"].value
    assert "no published row for this encoder" in made.metadata["table"].value
    stored = probed.open().frame("published_comparison").filter(pl.col("value").is_not_null()).collect()
    assert set(stored["dataset"]) == {"slides", "named"}  # another label has no published score
    uni = stored.filter(dataset="slides", encoder="uni", metric="accuracy").row(0, named=True)
    assert (uni["published"], uni["difference"]) == (pytest.approx(0.91), pytest.approx(0.01))
    assert published_comparison.STEP.state(cell) == "current"


def test_the_comparison_says_how_many_images_there_are(probed: Project) -> None:
    images.STEP.make(Cell(probed, probed.open(), "slides", ""))
    rows = published_comparison.comparison(probed.open())
    assert {"subset: 3 of 7,909 images" in note for note in rows.filter(dataset="slides", encoder="uni")["note"]} == {
        True
    }


def test_compare_prints_what_was_measured(probed: Project) -> None:
    shown = run(probed, "compare")
    assert "uni" in shown
    assert "hicervix" not in shown
    assert "hicervix" in run(probed, "compare", "--all", "--csv")
    rows = json.loads(run(probed, "compare", "--json"))
    assert len(rows) == 8
    assert {row["published_model"] for row in rows} == {"UNI B/16", None}
    assert run(probed, "compare", "--csv").splitlines()[0].startswith("dataset,encoder,metric,value")


def test_nothing_to_compare_says_what_to_do(project: Project) -> None:
    assert "counterstain datasets" in run(project, "compare", ok=False)
    assert len(json.loads(run(project, "compare", "--all", "--json"))) == 272
    made = published_comparison.STEP.run(Cell(project, project.open(), "", ""), "run")
    assert made.rows == 272
    assert "accuracy" not in made.metadata
