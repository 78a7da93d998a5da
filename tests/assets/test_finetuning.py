"""Fine-tuning as an asset: killed and gone on with, its encoder in the registry, and what it had seen."""

import logging
import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import pipelines.encoders
from assets import leaderboard
from assets.cli import app
from assets.features import read_features
from assets.finetuning import UNFINISHED, training_name
from assets.partitions import known_encoders
from assets.project import Project, finetuned_dir
from assets.steps import STEPS
from assets.training_sets import part_of, trained_on
from pipelines.encoders import encoder_specs
from store.runs import latest_run
from store.schema import CounterstainError
from tests.assets import finetuning_worker as worker
from tests.tiny_encoder import tiny_specs

spawn = multiprocessing.get_context("spawn")
TABLES = ("finetuning_epochs", "finetuning_scores", "finetuning_images")
TUNED = "tiny__phantoms_full_seed7"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are the same to the last bit with as many threads only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        registered = encoder_specs() | tiny_specs()
        patch.setattr(pipelines.encoders, "encoder_specs", lambda: registered)
        yield


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, phantom_folder: Path) -> Project:
    """A project in which the tiny encoder was fine-tuned, without a stop."""
    project = worker.prepare(str(tmp_path_factory.mktemp("tuned") / "warehouse"), phantom_folder)
    STEPS["finetuning"].run(worker.cell(project), "finetuning")
    return project


def rows(project: Project) -> dict[str, pl.DataFrame]:
    return {name: project.open().frame(name).sort("training", "row").collect() for name in TABLES}


def test_killed_within_an_epoch_it_ends_in_the_same_scores(
    tmp_path: Path, phantom_folder: Path, tuned: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    warehouse = str(tmp_path / "warehouse")
    reports, sent = spawn.Pipe(duplex=False)
    # Within the third epoch, of which eight steps make one.
    victim = spawn.Process(target=worker.finetune_and_hang, args=(warehouse, phantom_folder, 20, sent), daemon=True)
    victim.start()
    sent.close()
    assert reports.recv() == 20
    victim.kill()  # SIGKILL
    victim.join()
    assert victim.exitcode == -9
    project = Project(warehouse=warehouse, workers=1, **worker.SETTINGS)
    assert project.open().frame("finetuning_scores").collect().is_empty()
    assert TUNED not in known_encoders(project.open())
    [unfinished] = (finetuned_dir(project.open()) / UNFINISHED).iterdir()
    assert unfinished.name == TUNED
    assert len(list(unfinished.glob("*/checkpoint-*"))) >= 1

    begun: list[int] = []
    monkeypatch.setattr("assets.finetuning.Watch.begin", lambda self, epoch, images: begun.append(epoch))
    STEPS["finetuning"].run(worker.cell(project), "finetuning")
    assert begun[0] == 3
    whole, resumed = rows(tuned), rows(project)
    for name in TABLES:
        assert resumed[name].equals(whole[name]), name
        assert resumed[name].height > 0
    weights = [p.encoder_specs()[TUNED].revision for p in (tuned, project)]
    assert weights[0] == weights[1]
    assert not list((finetuned_dir(project.open()) / UNFINISHED).iterdir())
    assert not list((project.open().cache_dir / "preprocessed").glob("*.npy"))


def test_every_part_is_scored_and_no_group_is_in_two(tuned: Project) -> None:
    found = rows(tuned)
    scores = found["finetuning_scores"]
    assert set(scores["part"]) == {"train", "validation", "test"}
    whole = scores.filter(pl.col("label").is_null(), part="test")
    assert set(whole["metric"]) == {"accuracy", "macro_f1", "balanced_accuracy", "weighted_f1", "auroc"}
    assert (
        whole.select((pl.col("ci_low") <= pl.col("value")) & (pl.col("value") <= pl.col("ci_high"))).to_series().all()
    )
    features = read_features(worker.cell(tuned))
    images = found["finetuning_images"]
    assert images["image_id"].to_list() == features.images["image_id"].to_list()
    parts = images.with_columns(group=pl.Series(features.groups)).group_by("group").agg(pl.col("part").n_unique())
    assert set(parts["part"]) == {1}
    right = images.filter(part="test")["correct"]
    assert right.mean() == pytest.approx(whole.filter(metric="accuracy")["value"].item())
    assert ((images["margin"] > 0) == images["correct"]).all()
    epochs = found["finetuning_epochs"]
    assert epochs.filter("kept")["validation_loss"].item() == epochs["validation_loss"].min()


def test_the_encoder_is_one_of_the_registry(tuned: Project) -> None:
    assert TUNED in known_encoders(tuned.open())
    spec = tuned.encoder_specs()[TUNED]
    assert spec.exposure == {"phantoms": "data set"}
    tuned_cell = worker.cell(tuned, TUNED)
    ranked = pl.DataFrame({"dataset": "phantoms", "encoder": ["tiny", TUNED]})
    seen = leaderboard._exposure(tuned_cell, ranked)
    assert dict(seen.select("encoder", "seen").iter_rows()) == {"tiny": None, TUNED: "data set"}
    made = STEPS["embeddings"].run(tuned_cell, "tuned")
    train = rows(tuned)["finetuning_images"].filter(part="train")["image_id"]
    assert trained_on(tuned_cell) == set(train)
    assert made.metadata["of these images, trained on"] == len(train)
    assert trained_on(worker.cell(tuned)) == set()
    before, after = (tuned.open().vectors(name, "phantoms").vectors for name in ("tiny", TUNED))
    assert before.shape == after.shape
    assert not np.allclose(before, after)


def test_reading_what_an_encoder_was_trained_on_warns(tuned: Project, caplog: pytest.LogCaptureFixture) -> None:
    STEPS["embeddings"].run(worker.cell(tuned, TUNED), "tuned")
    logging.getLogger("counterstain").propagate = True
    read_features(worker.cell(tuned, TUNED))
    assert "fine-tuned on 6" in caplog.text
    assert "finetuning_shift" in caplog.text
    caplog.clear()
    read_features(worker.cell(tuned))
    assert not caplog.text


def test_before_and_after_are_of_images_held_out(tuned: Project) -> None:
    cell = worker.cell(tuned, TUNED)
    STEPS["embeddings"].run(cell, "tuned")
    made = STEPS["finetuning_shift"].run(cell, "shift")
    shift = tuned.open().frame("finetuning_shift").collect()
    test = [image for image, part in part_of(cell).items() if part == "test"]
    counts = shift.filter(metric="label_agreement").select("images", "n").unique()
    assert dict(counts.iter_rows()) == {"test": len(test), "all": 96}
    assert set(shift["moment"]) == {"before", "after"}
    assert made.summary["held-out images"] == len(test)
    assert shift.filter(pl.col("value").is_null())["note"].str.starts_with("undefined: ").all()
    assert STEPS["finetuning_shift"].state(cell) == "current"
    with pytest.raises(CounterstainError, match="was not fine-tuned here"):
        STEPS["finetuning_shift"].run(worker.cell(tuned), "shift")


def test_an_image_of_no_part_is_not_held_out_beside_others_of_its_group(
    tuned: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = worker.cell(tuned, TUNED)
    STEPS["embeddings"].run(cell, "tuned")
    features = read_features(cell)
    groups = dict(zip(features.images["image_id"], features.groups.tolist(), strict=True))
    parts = part_of(cell)
    train = [image for image, part in parts.items() if part == "train"]
    one = next(image for image in train if sum(groups[other] == groups[image] for other in train) > 1)
    # As if it had no label.
    monkeypatch.setattr("assets.finetuning_shift.part_of", lambda _: {k: v for k, v in parts.items() if k != one})
    measured: list[int] = []

    def measure(before: np.ndarray, *_: object, **__: object) -> None:
        measured.append(len(before))
        raise ValueError("enough")

    monkeypatch.setattr("assets.finetuning_shift.tuning_shift", measure)
    with pytest.raises(CounterstainError, match="enough"):
        STEPS["finetuning_shift"].make(cell)
    assert measured == [sum(part == "test" for part in parts.values())]


def test_what_it_was_trained_on_must_be_on_record(tuned: Project, tmp_path: Path) -> None:
    shutil.copytree(tuned.warehouse, tmp_path / "warehouse")
    project = tuned.model_copy(update={"warehouse": str(tmp_path / "warehouse")})
    # Vectors that outlive the weights are known to have been trained.
    seen = part_of(worker.cell(project, TUNED))
    weights = finetuned_dir(project.open()) / TUNED
    weights.rename(tmp_path / "aside")
    assert part_of(worker.cell(project, TUNED)) == seen
    (tmp_path / "aside").rename(weights)
    # Killed between the weights and the table.
    shutil.rmtree(tmp_path / "warehouse" / "finetuning_images.lance")
    with pytest.raises(CounterstainError, match="not on record"):
        part_of(worker.cell(Project(**project.model_dump()), TUNED))


def test_an_encoder_that_saw_the_test_part_is_named(tuned: Project, tmp_path: Path) -> None:
    shutil.copytree(tuned.warehouse, tmp_path / "warehouse")
    again = {"warehouse": str(tmp_path / "warehouse"), "finetune_mode": "linear", "finetune_epochs": 1}
    same, other = (tuned.model_copy(update=again | {"seed": seed}) for seed in (7, 8))
    STEPS["embeddings"].run(worker.cell(same, TUNED), "tuned")
    assert STEPS["finetuning"].make(worker.cell(same, TUNED)).checks["unseen"].passed
    leaked = STEPS["finetuning"].make(worker.cell(other, TUNED)).checks["unseen"]
    assert not leaked.passed
    assert "train it with the seed" in leaked.description


def test_done_again_nothing_is_trained(tuned: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert STEPS["finetuning"].state(worker.cell(tuned)) == "current"
    before = rows(tuned)
    monkeypatch.setattr("pipelines.finetuning.training.train", None)
    STEPS["finetuning"].run(worker.cell(tuned), "again")
    assert all(table.equals(before[name]) for name, table in rows(tuned).items())


def test_another_setting_is_stale(tuned: Project) -> None:
    for setting in ({"seed": 8}, {"finetune_epochs": 5}, {"finetune_mode": "linear"}):
        other = tuned.model_copy(update=setting)
        assert STEPS["finetuning"].state(worker.cell(other)) == "stale"


def test_label_sets_and_linear_heads(tuned: Project, tmp_path: Path, phantom_folder: Path) -> None:
    table = pl.read_csv(phantom_folder / "manifest.csv")
    sets = pl.when(pl.col("label") == "normal").then(pl.lit("")).otherwise(pl.format("lesion;{}", "label"))
    folder = tmp_path / "sets"
    shutil.copytree(phantom_folder, folder)
    table.with_columns(label=sets).write_csv(folder / "manifest.csv", quote_style="always")
    project = worker.prepare(
        str(tmp_path / "warehouse"), folder, finetune_mode="linear", finetune_multi_label=True, finetune_epochs=3
    )
    STEPS["finetuning"].run(worker.cell(project), "sets")
    found = rows(project)
    test = found["finetuning_scores"].filter(part="test")
    assert set(test["label"].drop_nulls()) == {"benign", "lesion", "malignant"}
    assert "lrap" in set(test["metric"])
    assert set(found["finetuning_scores"]["mode"]) == {"linear"}
    name = training_name(project, "phantoms", "tiny")
    assert name == "tiny__phantoms_linear_seed7"
    assert name not in known_encoders(project.open())
    assert found["finetuning_images"]["margin"].null_count() == found["finetuning_images"].height


def test_names_say_what_a_training_is_of(project: Project) -> None:
    assert training_name(project, "My.Set-1", "tiny") == "tiny__my_set_1_linear"
    named = project.model_copy(update={"finetune_name": "mine"})
    assert training_name(named, "a", "b") == "mine"
    for wrong in ("../mine", "Mine", "a" * 65):
        with pytest.raises(CounterstainError, match="cannot name an encoder"):
            training_name(project.model_copy(update={"finetune_name": wrong}), "a", "b")
    with pytest.raises(CounterstainError, match="--name"):
        training_name(project, "d" * 60, "tiny")


def test_a_name_that_another_training_has_is_refused(tuned: Project) -> None:
    taken = tuned.model_copy(update={"finetune_name": TUNED})
    STEPS["embeddings"].run(worker.cell(tuned, TUNED), "tuned")
    with pytest.raises(CounterstainError, match="give this one another name"):
        STEPS["finetuning"].run(worker.cell(taken, TUNED), "taken")
    for other in ("efficientnet_lite0", "tiny"):
        taken = tuned.model_copy(update={"finetune_name": other})
        with pytest.raises(CounterstainError, match="is an encoder already"):
            STEPS["finetuning"].run(worker.cell(taken), "taken")


def test_from_the_command_line(tuned: Project, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    shutil.copytree(tuned.warehouse, warehouse)
    arguments = ["finetune", "phantoms", "tiny", "--epochs", "2", "--warehouse", str(warehouse)]
    done = CliRunner().invoke(app, [*arguments, "--mode", "linear"], catch_exceptions=False)
    assert "tiny__phantoms_linear" in done.output
    assert "balanced_accuracy" in done.output
    assert "before and after" not in done.output
    arguments += ["--mode", "full"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "before and after" in done.output
    assert "robustness_index" in done.output
    opened = Project(warehouse=str(warehouse)).open()
    assert latest_run(opened, "finetuning_shift", "phantoms", "tiny__phantoms_full") is not None
    versions = opened.versions()
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).output == done.output
    assert opened.versions() == versions
    listed = CliRunner().invoke(app, ["encoders", "--warehouse", str(warehouse)], catch_exceptions=False)
    assert "phantoms itself" in listed.output
