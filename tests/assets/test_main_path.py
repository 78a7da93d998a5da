"""The main job, end to end, on phantoms with a planted background."""

import json
import re
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from assets import materializing
from assets.bias_report import report_path
from assets.definitions import defs
from assets.project import Project
from assets.registry import add_dataset
from assets.steps import STEPS
from pipelines.sources import DataSet
from store import open_warehouse
from store.runs import latest_runs

from .conftest import ENCODER, IMAGES, Ran

# What is made unless it must be asked for by name.
MADE = {name: step for name, step in STEPS.items() if not step.on_request}


def _score(project: Project, **names: str) -> dict[str, float]:
    keys = {"dataset": "phantoms", "stratum": "all", "metric": "balanced_accuracy", "split": "cv"} | names
    rows = project.open().frame("probe_scores").filter(pl.col("fold").is_null(), **keys).collect()
    assert rows.height == 1
    return rows.row(0, named=True)


def test_everything_is_made_in_order(ran: Ran) -> None:
    cell = f"phantoms x {ENCODER}"
    places = {"dataset": "phantoms", "cell": cell, "all": "all cells"}
    assert ran.made == [(places[step.scope], name) for name, step in MADE.items()]


def test_every_image_has_a_finite_vector_joined_with_its_metadata(ran: Ran) -> None:
    warehouse = ran.project.open()
    matrix = warehouse.vectors(ENCODER, "phantoms")
    assert matrix.vectors.shape == (IMAGES, 1280)
    assert np.isfinite(matrix.vectors).all()
    images = warehouse.frame("images").select("image_id", "label", "patient", "text_overlay").sort("image_id").collect()
    assert matrix.images.select(images.columns).equals(images)


def test_the_planted_background_is_found(ran: Ran) -> None:
    word = _score(ran.project, target="text_overlay", protocol="grouped")
    assert word["ci_low"] > 0.7
    audits = ran.project.open().frame("neighbor_audits").filter(confounder="text_overlay").collect()
    agreement = audits.filter(metric="confounder_agreement").row(0, named=True)
    assert agreement["value"] > agreement["expected"]
    assert agreement["p_adjusted"] < 0.05
    findings = ran.project.open().frame("findings").collect()
    verdicts = dict(findings.filter(pl.col("confounder").is_not_null()).select("confounder", "verdict").iter_rows())
    assert verdicts["text_overlay"] in ("background leads", "background is visible")
    assert verdicts["view"] == "no sign of the background"


def test_images_that_every_encoder_gets_wrong_are_one_query(ran: Ran) -> None:
    readme = Path(__file__).parents[2] / "README.md"
    [query] = re.findall(r"```sql\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = ran.project.open().sql(query)
    cv = ran.project.open().frame("probe_predictions").filter(target="label", protocol="grouped", split="cv").collect()
    wrong = cv.group_by("image_id").agg(pl.col("correct").any()).filter(~pl.col("correct"))["image_id"]
    assert 0 < len(wrong) < cv["image_id"].n_unique()
    assert set(found["image_id"]) == set(wrong)
    words = ran.project.open().frame("images").select("image_id", "overlay_text").collect()
    assert found.select("image_id", overlay_text="word").join(
        words, on=["image_id", "overlay_text"], nulls_equal=True
    ).height == len(wrong)


def test_every_class_has_its_scores(ran: Ran) -> None:
    scores = ran.project.open().frame("probe_scores").filter(protocol="grouped", target="label", split="cv").collect()
    classes = {f"label={name}" for name in ("normal", "benign", "malignant")}
    for metric in ("precision", "recall", "f1"):
        rows = scores.filter(pl.col("stratum").is_in(list(classes)), metric=metric)
        assert set(rows["stratum"]) == classes
        assert (rows["n"] > 0).all()


def test_what_one_encoder_cannot_answer_is_undefined(ran: Ran) -> None:
    contrasts = ran.project.open().frame("encoder_contrasts").collect()
    [row] = contrasts.filter(contrast="trained").iter_rows(named=True)
    assert row["value"] is None
    assert row["note"].startswith("undefined: ")
    # What the study published needs nothing measured here; its two doubtful columns are left out.
    study = contrasts.filter(protocol="study")
    assert study.filter(pl.col("dataset").is_null())["contrast"].to_list() == ["language_model", "medical", "language"]
    assert set(study.filter(pl.col("dataset").is_null())["n"]) == {6}
    assert not set(study["dataset"]) & {"brainmr", "breastus"}


def test_published_and_grouped_scores_stand_side_by_side(ran: Ran) -> None:
    both = pl.col("protocol").is_in(["published", "grouped"])
    label = {"target": "label", "metric": "accuracy", "stratum": "all"}
    scores = ran.project.open().frame("probe_scores").filter(both, **label).collect()
    assert set(scores.select("protocol", "split").unique().iter_rows()) == {
        (protocol, split) for protocol in ("published", "grouped") for split in ("cv", "test")
    }
    assert scores.filter(pl.col("fold").is_not_null()).height == 20 * ran.project.repeats
    summary = scores.filter(pl.col("fold").is_null())
    assert (summary["ci_low"] <= summary["value"]).all()
    assert (summary["value"] <= summary["ci_high"]).all()


def test_the_layouts_hold_every_image_in_every_cell(ran: Ran) -> None:
    layouts = ran.project.open().frame("layouts").collect()
    # 200 neighbours of 96 images are 95, as are no others of the coarse grid.
    assert set(layouts["n_neighbors"].unique()) == {15, 50, 95}
    counts = layouts.group_by("n_neighbors", "min_dist").agg(pl.col("image_id").n_unique())
    assert counts.height == 6
    assert set(counts["image_id"]) == {IMAGES}
    quality = ran.project.open().frame("layout_quality").collect()
    assert quality.filter(metric="trustworthiness")["value"].min() > 0.7
    assert set(quality["metric"]) == {
        "trustworthiness", "continuity", "knn_preservation", "density_preservation",
    }  # fmt: skip


def test_neighbours_leave_out_the_image_and_its_patient(ran: Ran) -> None:
    warehouse = ran.project.open()
    patient = dict(warehouse.frame("images").select("image_id", "patient").collect().iter_rows())
    lists = warehouse.frame("neighbors").collect()
    assert lists.height == IMAGES * ran.project.k
    assert all(patient[a] != patient[b] for a, b in lists.select("image_id", "neighbor_id").iter_rows())


def test_again_there_is_nothing_to_do(ran: Ran) -> None:
    versions = ran.project.open().versions()
    with materializing.dagster_instance(ran.project) as instance:
        assert materializing.materialize(ran.project, instance, ["phantoms"], [ENCODER]) == []
    assert ran.project.open().versions() == versions
    (row,) = materializing.states(ran.project)
    assert {row[name] for name in MADE} == {"current"}


def test_another_seed_makes_only_the_analyses_stale(ran: Ran) -> None:
    seeded = ran.project.model_copy(update={"seed": 1})
    (row,) = materializing.states(seeded)
    stale = {name for name in MADE if row[name] == "stale"}
    assert stale == {
        "umap_layouts", "overlay_shift", "layout_clusters", "svm_probes", "neighbor_audits", "encoder_contrasts",
        "encoder_agreement",
        "separability", "zero_shot", "retrieval",
    }  # fmt: skip


def test_every_partition_says_what_made_it(ran: Ran) -> None:
    runs = latest_runs(ran.project.open())
    assert set(runs["asset"]) == set(MADE)
    embedded = runs.filter(asset="embeddings").row(0, named=True)
    assert len(embedded["fingerprint"]) == 32
    assert embedded["rows"] == IMAGES
    assert json.loads(embedded["parameters"])["architecture"] == "tf_efficientnet_lite0"
    assert json.loads(embedded["table_versions"]) == {f"embeddings__{ENCODER}": 2}


def test_the_tables_reopen_as_of_a_run(ran: Ran) -> None:
    warehouse = ran.project.open()
    last = latest_runs(warehouse).filter(asset="bias_report")["run_id"][0]
    then = open_warehouse(ran.project.warehouse, as_of=f"run-{last}")
    query = "SELECT target, value FROM probe_scores ORDER BY row"
    assert then.sql(query).equals(warehouse.sql(query))


def test_the_report_says_what_was_found(ran: Ran) -> None:
    html = report_path(ran.project).read_text(encoding="utf-8")
    sentences = ran.project.open().frame("findings").collect()["sentence"]
    text = re.sub(r"<[^>]+>", "", html)
    assert sentences.len() > 2
    assert all(sentence.split(" (")[0] in text for sentence in sentences)


def test_a_correction_reaches_the_scores_without_encoding(project: Project, phantom_folder: Path) -> None:
    add_dataset(project.open(), DataSet("phantoms", "manifest", phantom_folder))
    with materializing.dagster_instance(project) as instance:
        materializing.materialize(project, instance, ["phantoms"], [ENCODER], "neighbor_audits")
        before = project.open().frame("neighbor_audits").filter(metric="label_agreement").collect()["value"][0]
        images = project.open().frame("images").select("image_id", "label").sort("image_id").collect()
        # Every label is moved on by one image: neighbours then agree by chance only.
        project.open().correct("phantoms", images.with_columns(pl.col("label").shift(-1, fill_value="benign")))
        made = materializing.materialize(project, instance, ["phantoms"], [ENCODER], "neighbor_audits")
    # Which duplicates share a label has changed too; no vector has.
    assert [asset for _, asset in made] == ["duplicates", "neighbor_audits"]
    after = project.open().frame("neighbor_audits").filter(metric="label_agreement").collect()["value"][0]
    assert after < before - 0.1


def test_the_same_work_runs_as_a_dagster_job(
    project: Project, instance: dg.DagsterInstance, phantom_folder: Path
) -> None:
    add_dataset(project.open(), DataSet("phantoms", "manifest", phantom_folder))
    materializing.sync_partitions(instance, project.open())
    resources = {"project": project}
    repository = defs.get_repository_def()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    for job, key in (
        ("read_images", "phantoms"),
        ("everything_for_a_cell", dg.MultiPartitionKey({"dataset": "phantoms", "encoder": ENCODER})),
    ):
        done = repository.get_job(job).execute_in_process(
            instance=instance, resources=resources, partition_key=key, run_config=quiet
        )
        assert done.success
    evaluations = done.get_asset_check_evaluations()
    assert {e.check_name for e in evaluations} == {
        "every_image_has_a_vector", "vectors_vary", "norms_steady", "trustworthy", "clusters_recur", "above_chance",
        "enough_groups", "still_when_unchanged", "text_side_loads",
    }  # fmt: skip
    assert all(e.passed for e in evaluations if e.check_name not in ("enough_groups", "clusters_recur"))
    layouts = done.asset_materializations_for_node("umap_layouts")[0]
    assert str(layouts.metadata["by label"].value).startswith("![UMAP by label](data:image/png;base64,")
    assert materializing.states(project)[0]["svm_probes"] == "current"


def test_the_sensor_asks_for_a_data_set_once(
    project: Project, instance: dg.DagsterInstance, phantom_folder: Path, tmp_path: Path
) -> None:
    from assets.sensors import watch_images

    folder = tmp_path / "watched"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        (folder / label / "1.png").write_bytes((phantom_folder / "images" / "000000.png").read_bytes())
    add_dataset(project.open(), DataSet("watched", "folder", folder))

    def look(cursor: str | None) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"project": project})
        return watch_images(context)

    first = look(None)
    assert [request.partition_key for request in first.run_requests or []] == ["watched"]
    assert not look(first.cursor).run_requests
    (folder / "a" / "2.png").write_bytes((phantom_folder / "images" / "000001.png").read_bytes())
    assert [request.partition_key for request in look(first.cursor).run_requests or []] == ["watched"]


@pytest.mark.parametrize("gone", ["a", None])
def test_the_sensor_outlives_a_data_set_that_is_away(
    project: Project, instance: dg.DagsterInstance, phantom_folder: Path, tmp_path: Path, gone: str | None
) -> None:
    from assets.sensors import watch_images

    for name in ("a", "b"):
        (tmp_path / name / "class").mkdir(parents=True)
        (tmp_path / name / "class" / "1.png").write_bytes((phantom_folder / "images" / "000000.png").read_bytes())
        add_dataset(project.open(), DataSet(name, "folder", tmp_path / name))
    if gone:
        (tmp_path / gone).rename(tmp_path / "elsewhere")
    result = watch_images(dg.build_sensor_context(instance=instance, resources={"project": project}))
    assert [request.partition_key for request in result.run_requests] == [n for n in ("a", "b") if n != gone]
