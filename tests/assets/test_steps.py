"""What steps share: when a partition is stale, and what a run with several partitions leaves behind."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from analysis import layouts
from assets import calibration, display, materializing, neighbor_audits, umap_layouts
from assets.cli import _print, app
from assets.definitions import defs
from assets.features import read_features
from assets.neighbor_search import find_neighbors
from assets.project import Project
from assets.registry import add_dataset
from assets.searching import explain_image
from assets.step import Cell
from assets.steps import STEPS
from pipelines.sources import DataSet
from store.embeddings import import_embeddings
from store.images import read_metadata
from store.maintenance import list_centres
from store.runs import data_version, latest_runs
from store.schema import CounterstainError
from store.warehouse import Warehouse

from .conftest import ENCODER, IMAGES, Ran

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def imported(project: Project, instance: dg.DagsterInstance, phantom_folder: Path) -> Project:
    """Phantoms with vectors from elsewhere, so that nothing has to be encoded."""
    add_dataset(project.open(), DataSet("phantoms", "manifest", phantom_folder))
    materializing.materialize(project, instance, ["phantoms"], asset="images")
    import_vectors(project, seed=0)
    materializing.sync_partitions(instance, project.open())
    return project


def import_vectors(project: Project, seed: int) -> None:
    folder = Path(project.warehouse).parent
    np.save(folder / "v.npy", np.random.default_rng(seed).normal(size=(IMAGES, 12)))
    names = pl.DataFrame({"uri": [f"images/{i:06d}.png" for i in range(IMAGES)]})
    import_embeddings(project.open(), "mine", "phantoms", folder / "v.npy", names)


def state(project: Project, asset: str) -> str:
    return materializing.states(project)[0][asset]


def test_other_groups_make_probes_and_audits_stale(
    imported: Project, instance: dg.DagsterInstance, phantom_folder: Path
) -> None:
    materializing.materialize(imported, instance, ["phantoms"], ["mine"], "neighbor_audits")
    assert state(imported, "neighbor_audits") == "current"
    add_dataset(imported.open(), DataSet("phantoms", "manifest", phantom_folder, groups=("view",)))
    materializing.materialize(imported, instance, ["phantoms"], asset="images")
    assert state(imported, "embeddings") == "current"
    assert state(imported, "neighbor_audits") == "stale"


def test_vectors_imported_anew_make_everything_after_them_stale(
    imported: Project, instance: dg.DagsterInstance
) -> None:
    materializing.materialize(imported, instance, ["phantoms"], ["mine"], "neighbor_audits")
    import_vectors(imported, seed=1)
    assert {state(imported, asset) for asset in ("embeddings", "neighbor_audits")} == {"stale"}


def test_a_source_that_is_away_is_a_state(imported: Project, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "a" / "x").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "a" / "x" / "1.png")
    add_dataset(imported.open(), DataSet("away", "folder", tmp_path / "a"))
    materializing.materialize(imported, instance, ["away"], asset="images")
    (tmp_path / "a").rename(tmp_path / "b")
    states = {row["dataset"]: row["images"] for row in materializing.states(imported)}
    assert states == {"away": "source away", "phantoms": "current"}


def test_one_bad_partition_leaves_the_others_made(imported: Project, instance: dg.DagsterInstance) -> None:
    job = defs.get_repository_def().get_job("everything_for_a_cell")
    # Dagster runs a backfill of one process as a range; nothing named 'nil' has vectors.
    instance.add_dynamic_partitions("encoder", ["mine", "nil"])
    both = {"dagster/asset_partition_range_start": "phantoms|mine", "dagster/asset_partition_range_end": "phantoms|nil"}
    with pytest.raises(CounterstainError, match="'nil' has no vectors of data set 'phantoms'"):
        job.execute_in_process(instance=instance, resources={"project": imported}, tags=both, run_config=QUIET)
    assert instance.get_materialized_partitions(dg.AssetKey("embeddings")) == {"phantoms|mine"}
    assert state(imported, "embeddings") == "current"


def test_rejected_files_are_shown_with_their_reason(
    project: Project, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    (tmp_path / "a" / "x").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "a" / "x" / "1.png")
    (tmp_path / "a" / "x" / "torn.png").write_bytes(b"no picture")
    add_dataset(project.open(), DataSet("torn", "folder", tmp_path / "a"))
    materializing.materialize(project, instance, ["torn"], asset="images")
    event = instance.get_latest_materialization_event(dg.AssetKey("images"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    assert shown["rejects"].value == 1
    assert "torn" in str(shown["rejected files"].value)
    assert "known format" in str(shown["rejected files"].value)


def test_what_is_shown_is_text_and_says_where_it_was_cut() -> None:
    hostile = "](http://x.test/a <script>|"
    assert "](http" not in display.picture(b"", hostile).value.removeprefix("![").split("](data:")[0]
    shown = display.table(pl.DataFrame({hostile: [hostile, "a" * 300]})).value
    assert "<script>" not in shown
    assert "](" not in shown
    assert "a" * 119 + "&#8230;" in shown


def test_a_killed_grid_goes_on_from_what_was_laid_out(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(ran.project, ran.project.open(), "phantoms", ENCODER)
    folder = cell.warehouse.cache_dir / "layouts"
    columns = ["n_neighbors", "min_dist", "image_id", "x", "y"]
    before = cell.warehouse.frame("layouts").sort("row").select(columns).collect()
    step, version = STEPS["umap_layouts"], cell.warehouse.open_table("layouts").version
    lay_out, made = layouts._lay_out, []

    def dies(*arguments: Any) -> Any:
        if made:
            raise KeyboardInterrupt
        made.append(arguments[1])
        return lay_out(*arguments)

    # One thread, so that it is known how far it came.
    cell = replace(cell, project=ran.project.model_copy(update={"workers": 1}))
    monkeypatch.setattr(layouts, "_lay_out", dies)
    with pytest.raises(KeyboardInterrupt):
        step.make(cell)
    assert cell.warehouse.open_table("layouts").version == version
    assert [path.name for path in folder.rglob("*.npy")] == [f"{made[0]}.npy"]
    again: list[int] = []
    monkeypatch.setattr(layouts, "_lay_out", lambda *a: again.append(a[1]) or lay_out(*a))
    step.make(cell)
    assert made[0] not in again
    assert len(again) == before["n_neighbors"].n_unique() - 1
    assert not list(folder.rglob("*.npy"))
    after = cell.warehouse.frame("layouts").sort("row").select(columns).collect()
    assert after.equals(before)


def test_layouts_are_kept_by_the_vectors_they_were_made_from(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    def made_from(**changed: Any) -> Any:
        seen = []

        def stops(cell: Cell, described: Any, shape: Any) -> Any:
            seen.append((described, shape))
            raise Stopped

        features = replace(read_features(cell), **changed)
        with monkeypatch.context() as patch:
            patch.setattr(umap_layouts, "read_features", lambda cell: features)
            patch.setattr(umap_layouts, "KeptLayouts", stops)
            with pytest.raises(Stopped):
                STEPS["umap_layouts"].make(cell)
        return seen[0]

    cell = Cell(ran.project, ran.project.open(), "phantoms", ENCODER)
    vectors = read_features(cell).vectors
    first, shape = made_from()
    assert shape == (2, len(vectors), 2)
    assert {"numba", "umap-learn"} < set(first)
    assert made_from()[0] == first
    # The store may hold others by the time they are asked after: what counts is what was read.
    for other in (vectors * np.float32(1.5), vectors[::-1], vectors[:-1]):
        assert made_from(vectors=other)[0] != first
    monkeypatch.setattr(umap_layouts, "version", lambda name: "0")
    assert made_from()[0] != first


def test_asking_for_the_state_of_clusters_reads_no_layouts(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(ran.project, ran.project.open(), "phantoms", ENCODER)
    recorded = STEPS["layout_clusters"].inputs(cell)["layouts"]
    assert recorded == data_version(cell.warehouse, "layouts", dataset="phantoms", encoder=ENCODER)
    read: list[str] = []
    dataset = Warehouse.dataset
    monkeypatch.setattr(Warehouse, "dataset", lambda self, name: read.append(name) or dataset(self, name))
    assert STEPS["layout_clusters"].state(cell) == "current"
    assert f"embeddings__{ENCODER}" in read
    assert "layouts" not in read


def test_encoders_that_saw_other_images_are_named(imported: Project, instance: dg.DagsterInstance) -> None:
    folder = Path(imported.warehouse).parent
    names = pl.DataFrame({"uri": [f"images/{i:06d}.png" for i in range(IMAGES)]})
    for name in ("yours", "fewer"):
        np.save(folder / "w.npy", np.random.default_rng(2).normal(size=(IMAGES, 12)))
        import_embeddings(imported.open(), name, "phantoms", folder / "w.npy", names)
    some = read_metadata(imported.open(), "phantoms")["image_id"][:6].to_list()
    listed = ", ".join(f"'{image_id}'" for image_id in some)
    imported.open().open_table("embeddings__fewer").delete(f"image_id IN ({listed})")
    materializing.sync_partitions(instance, imported.open())
    encoders = ["mine", "yours", "fewer"]
    materializing.materialize(imported, instance, ["phantoms"], encoders, "encoder_agreement")
    found = imported.open().frame("encoder_agreement").collect()
    assert set(found["encoder"]) | set(found["other_encoder"]) == {"mine", "yours"}
    made = latest_runs(imported.open()).filter(asset="encoder_agreement")
    assert json.loads(made["summary"][0]) == {"pairs": 1, "encoders left out": 1}
    cell = Cell(imported, imported.open(), "", "")
    shown = STEPS["encoder_agreement"].make(cell).metadata["left out"]
    assert "90 of 96 images" in str(shown)


def test_a_stored_image_is_explained_by_images_of_others(imported: Project, phantom_folder: Path) -> None:
    images = imported.open().frame("images").select("image_id", "uri").sort("uri").collect()
    image_id, uri = images.row(0)
    by_id = explain_image(imported, "mine", image_id, dataset="phantoms", k=12)
    features = read_features(Cell(imported, imported.open(), "phantoms", "mine"))
    group = dict(zip(features.images["image_id"], features.groups, strict=True))
    assert by_id[1].height == 12
    assert group[image_id] not in [group[each] for each in by_id[1]["image_id"]]
    # The file itself is known again, and needs no encoder.
    by_file = explain_image(imported, "mine", str(phantom_folder / uri), dataset="phantoms", k=12)
    assert by_file[1].equals(by_id[1])
    assert by_file[0].equals(by_id[0])
    assert set(by_id[0]["of"]) <= set(range(1, 13))


def test_large_sets_are_searched_by_the_index(imported: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(imported, imported.open(), "phantoms", "mine")
    features = read_features(cell)
    exact, centres, probed = find_neighbors(cell, features, 10)
    assert centres is None
    assert probed is None
    assert list_centres(cell.warehouse, "mine") is None
    # As large as the set is: an index is made, and as much of it read as the recall asks for.
    found, centres, probed = find_neighbors(cell, features, 10, approximate_from=IMAGES)
    assert centres is not None
    assert centres.shape == (probed.lists, 12)
    assert probed.recall >= 0.99
    assert np.mean(found.indices == exact.indices) >= 0.98
    again = list_centres(cell.warehouse, "mine")
    assert again is not None
    np.testing.assert_array_equal(again, centres)
    monkeypatch.setattr(
        neighbor_audits,
        "find_neighbors",
        lambda cell, features, k: find_neighbors(cell, features, k, approximate_from=IMAGES),
    )
    made = neighbor_audits.STEP.make(cell)
    assert made.metadata["recall of the neighbour search"] == probed.recall
    first = cell.warehouse.frame("neighbor_audits").sort("row").first().collect()
    assert first.select("metric", "value").row(0) == ("neighbor_recall", probed.recall)
    assert "lists of the index" in first["note"][0]


def test_calibration_is_made_on_request(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {
        "STRENGTHS": (0.0, 1.0), "ASSOCIATIONS": (0.0,), "IMAGES": (60,), "DESCRIBED": 1, "PHANTOM_POOL": 48,
        "PHANTOM_STRENGTHS": (0.0,), "PHANTOM_ASSOCIATIONS": (0.0,),
    }  # fmt: skip
    for name, value in tiny.items():
        monkeypatch.setattr(calibration, name, value)
    done = CliRunner().invoke(app, ["calibrate", "--repetitions", "3", "--warehouse", project.warehouse])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "features, background of images" in done.output
    rows = project.open().frame("calibration").collect()
    assert rows["world"].n_unique() == 7
    assert project.open().frame("calibration_intervals").collect().is_empty()  # one set says nothing of an average
    null = rows.filter(pl.col("metric").is_in(["confounder_agreement", "robustness_index"]), strength=0)
    assert (null["repetitions"] + (3 * null["undefined"]).round().cast(pl.Int32) == 3).all()
    assert {"croma_median", "pcr"} < set(rows["metric"])


def test_control_characters_are_printed_as_codes(capsys: pytest.CaptureFixture[str]) -> None:
    _print(pl.DataFrame({"overlay_text": ["LT\x1b[2JÄ", None], "n": [1, 2]}))
    printed = capsys.readouterr().out
    assert "LT\\x1b[2JÄ" in printed
    assert "\x1b" not in printed
