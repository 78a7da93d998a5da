"""The command line as its users meet it: in processes of its own, with good input and bad."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from assets import umap_layouts
from assets.cli import app
from assets.project import Project
from assets.registry import add_dataset
from pipelines.encoders import encoder_specs
from pipelines.sources import DataSet
from store import open_warehouse
from store.runs import latest_runs
from store.schema import CounterstainError

from .conftest import ENCODER, IMAGES, Ran

COMMAND = [sys.executable, "-c", "from assets.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    stdout: str
    message: str


def run(warehouse: str | Path, *words: str, ok: bool = True) -> Done:
    """Run a command in this process; a failure must be one that the user can put right."""
    result = CliRunner().invoke(app, list(words), env={"COUNTERSTAIN_WAREHOUSE": str(warehouse)})
    if ok:
        assert result.exit_code == 0, (result.output, result.exception)
        return Done(result.stdout, "")
    assert isinstance(result.exception, CounterstainError), (result.output, result.exception)
    return Done(result.stdout, str(result.exception))


def start(warehouse: str | Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    environment = os.environ | {"COUNTERSTAIN_WAREHOUSE": str(warehouse)} | variables
    return subprocess.Popen(
        [*COMMAND, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def write_images(folder: Path, *labels: str, count: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for label in labels:
        (folder / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / label / f"{i}.png")
    return folder


def test_from_a_folder_to_a_search(tmp_path: Path) -> None:
    folder, warehouse = write_images(tmp_path / "images", "benign", "malignant"), tmp_path / "warehouse"
    (folder / "benign" / "torn.png").write_bytes((folder / "benign" / "0.png").read_bytes()[:200])
    assert (
        "benign/0.png" in run(warehouse, "datasets", "add", "mine", "--reader", "folder", "--root", str(folder)).stdout
    )
    done = run(warehouse, "materialize", "--dataset", "mine", "--encoder", ENCODER, "--asset", "embeddings")
    assert done.stdout == f"mine: images\nmine x {ENCODER}: embeddings\n"
    rejects = json.loads(run(warehouse, "sql", "--json", "SELECT uri, reason FROM rejects").stdout)
    assert [r["uri"] for r in rejects] == ["benign/torn.png"]
    assert "truncated" in rejects[0]["reason"]
    query = str(folder / "malignant" / "3.png")
    found = run(warehouse, "search", "--encoder", ENCODER, "-k", "2", "--where", "label = 'malignant'", query).stdout
    assert "malignant/3.png" in found
    assert "benign" not in found
    csv = run(warehouse, "sql", "--csv", "SELECT label, count(*) AS n FROM images GROUP BY label ORDER BY label").stdout
    assert csv == "label,n\nbenign,8\nmalignant,8\n"
    assert "missing" in run(warehouse, "status").stdout
    assert "nothing to do" in run(warehouse, "materialize", "--dataset", "mine", "--asset", "images").stdout
    write_images(folder, "normal", count=3)
    done = run(warehouse, "materialize", "--dataset", "mine", "--encoder", ENCODER, "--asset", "embeddings")
    summary = json.loads(latest_runs(open_warehouse(warehouse)).filter(asset="embeddings")["summary"][0])
    assert summary["encoded now"] == 3


def test_a_mistake_is_one_line_and_progress_is_shown(tmp_path: Path) -> None:
    process = start(tmp_path / "w", "materialize", "--dataset", "nil")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.startswith("counterstain: no data set 'nil'")
    assert len(errors.splitlines()) == 1
    folder = write_images(tmp_path / "images", "a", "b", count=2)
    run(tmp_path / "w", "datasets", "add", "mine", "--reader", "folder", "--root", str(folder))
    process = start(tmp_path / "w", "materialize", "--dataset", "mine", "--asset", "images")
    output, errors = process.communicate(timeout=120)
    assert output == "mine: images\n"
    assert errors.splitlines()[0] == "images of mine"
    assert errors.splitlines()[1].startswith("images of mine: 4 rows in ")


def test_lists(ran: Ran) -> None:
    assert "manifest" in run(ran.project.warehouse, "datasets", "list").stdout
    listed = run(ran.project.warehouse, "encoders").stdout
    assert all(name in listed for name in ("efficientnet_lite0", "untrained_vit_b16", "clip_vit_b16"))
    known = {row["name"]: row for row in json.loads(run(ran.project.warehouse, "encoders", "--json").stdout)}
    assert set(known) == set(encoder_specs())
    assert known["flair"]["exposure"] == {"deepdrid": "data set"}
    assert known["biomedclip_pooled"]["variant_of"] == "biomedclip"


def test_sql_prints_what_python_reads(ran: Ran) -> None:
    query = "SELECT target, protocol, value FROM probe_scores WHERE fold IS NULL AND split = 'cv' ORDER BY row"
    rows = json.loads(run(ran.project.warehouse, "sql", "--json", query).stdout)
    assert rows == ran.project.open().sql(query).to_dicts()


def test_imported_vectors_are_an_encoder(tmp_path: Path, phantom_folder: Path) -> None:
    project = Project(warehouse=str(tmp_path / "warehouse"))
    add_dataset(project.open(), DataSet("phantoms", "manifest", phantom_folder))
    run(project.warehouse, "materialize", "--dataset", "phantoms", "--asset", "images")
    uris = [f"images/{i:06d}.png" for i in range(IMAGES)]
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(IMAGES, 16)))
    pl.DataFrame({"uri": uris}).write_csv(tmp_path / "v.csv")
    words = ["embeddings", "import", str(tmp_path / "v.npy"), str(tmp_path / "v.csv"), "--dataset", "phantoms"]
    assert "registered encoder" in run(project.warehouse, *words, "--encoder", ENCODER, ok=False).message
    run(project.warehouse, *words, "--encoder", "mine")
    done = run(
        project.warehouse, "materialize", "--dataset", "phantoms", "--encoder", "mine", "--asset", "neighbor_audits"
    )
    assert done.stdout == "phantoms: overlays, duplicates\nphantoms x mine: embeddings, neighbor_audits\n"
    assert project.open().vectors("mine", "phantoms").vectors.shape == (IMAGES, 16)


def test_corrections_from_a_csv(tmp_path: Path) -> None:
    folder, warehouse = write_images(tmp_path / "images", "a", "b", count=2), tmp_path / "warehouse"
    run(warehouse, "datasets", "add", "mine", "--reader", "folder", "--root", str(folder))
    run(warehouse, "materialize", "--dataset", "mine", "--asset", "images")
    (tmp_path / "fix.csv").write_text("uri,text_overlay,overlay_text\na/0.png,yes,LEFT <b>BREAST</b>\n")
    assert "1 images corrected" in run(warehouse, "correct", "mine", str(tmp_path / "fix.csv")).stdout
    query = "SELECT text_overlay, overlay_text, text_overlay_source FROM images WHERE uri = 'a/0.png'"
    (row,) = json.loads(run(warehouse, "sql", "--json", query).stdout)
    assert row == {"text_overlay": True, "overlay_text": "LEFT <b>BREAST</b>", "text_overlay_source": "corrected"}


@pytest.mark.parametrize("name", ["it's", "a/b", "../up", "", "x|y", "a b", "é"])
def test_a_name_that_cannot_be_a_partition(tmp_path: Path, name: str) -> None:
    folder = write_images(tmp_path / "images", "a", count=1)
    done = run(tmp_path / "w", "datasets", "add", name, "--reader", "folder", "--root", str(folder), ok=False)
    assert "cannot name a data set" in done.message


def _bad_folder(tmp_path: Path) -> tuple[list[str], str]:
    return ["--reader", "folder", "--root", str(tmp_path / "nowhere")], "nowhere is not a folder"


def _empty_class(tmp_path: Path) -> tuple[list[str], str]:
    write_images(tmp_path / "images", "a")
    (tmp_path / "images" / "empty").mkdir()
    return ["--reader", "folder", "--root", str(tmp_path / "images")], "no image in class folder 'empty'"


def _no_such_column(tmp_path: Path) -> tuple[list[str], str]:
    (tmp_path / "m.csv").write_text("path,label\na.png,x\n")
    return ["--reader", "manifest", "--root", str(tmp_path / "m.csv"), "--group", "patients"], "no column 'patients'"


def _no_such_label(tmp_path: Path) -> tuple[list[str], str]:
    (tmp_path / "m.csv").write_text("path,kind\na.png,x\n")
    return ["--reader", "manifest", "--root", str(tmp_path / "m.csv"), "--label", "label"], "it has ['path', 'kind']"


def _no_such_reader(tmp_path: Path) -> tuple[list[str], str]:
    return ["--reader", "scroll", "--root", str(tmp_path)], "no reader 'scroll'; readers: brainmr"


def _no_archive(tmp_path: Path) -> tuple[list[str], str]:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    return ["--reader", "medmnist", "--root", str(tmp_path / "x.npz")], "cannot read"


@pytest.mark.parametrize(
    "case", [_bad_folder, _empty_class, _no_such_column, _no_such_label, _no_such_reader, _no_archive]
)
def test_a_data_set_that_cannot_be_read(tmp_path: Path, case: object) -> None:
    words, message = case(tmp_path)  # type: ignore[operator]
    done = run(tmp_path / "w", "datasets", "add", "bad", *words, ok=False)
    assert message in done.message
    assert "\n" not in done.message
    assert "bad" not in run(tmp_path / "w", "datasets", "list").stdout


def test_what_cannot_be_materialized_says_why(tmp_path: Path) -> None:
    folder, warehouse = write_images(tmp_path / "images", "a", "b", count=4), tmp_path / "warehouse"
    assert "registered: none yet" in run(warehouse, "materialize", "--dataset", "nil", ok=False).message
    run(warehouse, "datasets", "add", "few", "--reader", "folder", "--root", str(folder))
    done = run(warehouse, "materialize", "--dataset", "few", ok=False)
    assert "needs an encoder" in done.message
    done = run(warehouse, "materialize", "--dataset", "few", "--encoder", "nil", ok=False)
    assert "no encoder 'nil'" in done.message
    done = run(warehouse, "materialize", "--dataset", "few", "--encoder", ENCODER, "--asset", "nil", ok=False)
    assert "no asset 'nil'" in done.message
    done = run(warehouse, "materialize", "--dataset", "few", "--encoder", ENCODER, "--asset", "svm_probes", ok=False)
    assert f"few x {ENCODER}" in done.message
    assert "'a'" in done.message
    assert open_warehouse(warehouse).frame("probe_scores").collect().is_empty()
    done = run(
        warehouse, "materialize", "--dataset", "few", "--encoder", "clip_vit_b16", "--asset", "embeddings", ok=False
    )
    assert "COUNTERSTAIN_CHECKPOINT_DIR" in done.message
    assert open_warehouse(warehouse).encoders() == [ENCODER]


def test_a_data_set_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "x.png").write_bytes(b"no picture")
    run(tmp_path / "w", "datasets", "add", "bad", "--reader", "folder", "--root", str(tmp_path / "images"))
    done = run(tmp_path / "w", "materialize", "--dataset", "bad", "--asset", "images", ok=False)
    assert "none of its files could be read" in done.message
    assert open_warehouse(tmp_path / "w").frame("images").collect().is_empty()


def test_sql_refuses_to_write(ran: Ran) -> None:
    assert "read-only" in run(ran.project.warehouse, "sql", "DELETE FROM images", ok=False).message


@pytest.mark.parametrize("value", ["many", "0", "-1"])
def test_a_setting_that_does_not_fit(value: str) -> None:
    with pytest.raises(CounterstainError, match=f"COUNTERSTAIN_WORKERS='{value}'"):
        Project.from_environment({"COUNTERSTAIN_WORKERS": value})


def test_killed_while_encoding(tmp_path: Path, phantom_folder: Path) -> None:
    warehouse = tmp_path / "warehouse"
    project = Project(warehouse=str(warehouse))
    add_dataset(project.open(), DataSet("before", "folder", write_images(tmp_path / "images", "a", "b")))
    add_dataset(project.open(), DataSet("phantoms", "manifest", phantom_folder))
    words = ["--encoder", ENCODER, "--asset", "embeddings"]
    run(warehouse, "materialize", "--dataset", "before", *words)
    before = project.open().sql(f"SELECT * EXCLUDE (vector) FROM embeddings__{ENCODER} ORDER BY image_id")

    process = start(warehouse, "materialize", "--dataset", "phantoms", *words, COUNTERSTAIN_STAGE_SIZE="8")
    staged = _wait_for_staged(project)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 0 < staged < IMAGES
    after = project.open().sql(f"SELECT * EXCLUDE (vector) FROM embeddings__{ENCODER} ORDER BY image_id")
    assert after.equals(before)

    run(warehouse, "materialize", "--dataset", "phantoms", *words)
    summary = json.loads(latest_runs(project.open()).filter(asset="embeddings", dataset="phantoms")["summary"][0])
    assert 0 < summary["encoded now"] <= IMAGES - staged
    counts = (
        "SELECT dataset, count(*) AS n, count(DISTINCT image_id) AS ids FROM images GROUP BY dataset ORDER BY dataset"
    )
    stored = project.open().sql(counts.replace("images", f"embeddings__{ENCODER}"))
    assert stored.rows() == [("before", 16, 16), ("phantoms", IMAGES, IMAGES)]


def _wait_for_staged(project: Project) -> int:
    """Wait until some vectors are staged, and return how many."""
    table = f"staging__{ENCODER}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        warehouse = project.open()
        if table in warehouse.tables(staging=True):
            rows = warehouse.dataset(table).count_rows("dataset = 'phantoms'")
            if rows:
                return int(rows)
        time.sleep(0.05)  # no event tells of another process's commit
    raise AssertionError("nothing was staged in two minutes")


def test_two_partitions_at_once(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    for name in ("one", "two"):
        folder = write_images(tmp_path / name, "a", "b", count=6)
        run(warehouse, "datasets", "add", name, "--reader", "folder", "--root", str(folder))
    words = ["--encoder", ENCODER, "--asset", "embeddings"]
    both = [start(warehouse, "materialize", "--dataset", name, *words) for name in ("one", "two")]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    counts = f"SELECT dataset, count(*), count(DISTINCT image_id) FROM embeddings__{ENCODER} GROUP BY 1 ORDER BY 1"
    assert open_warehouse(warehouse).sql(counts).rows() == [("one", 12, 12), ("two", 12, 12)]


def test_layouts_are_drawn_compared_and_extended(ran: Ran, phantom_folder: Path, tmp_path: Path) -> None:
    place = ("layouts", "place", str(phantom_folder / "images" / "000003.png"), "--encoder", ENCODER)
    for ending, begins in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        out = tmp_path / ending / f"grid.{ending}"
        words = ("phantoms", "--encoder", ENCODER, "--out", str(out), "--colour-by", "text_overlay")
        assert run(ran.project.warehouse, "layouts", "draw", *words).stdout == f"{out}\n"
        assert out.read_bytes().startswith(begins)
    out = tmp_path / "encoders.png"
    run(ran.project.warehouse, "layouts", "compare", "phantoms", "--out", str(out), "--min-dist", "0.5")
    assert out.read_bytes().startswith(b"\x89PNG")
    placed = run(ran.project.warehouse, *place, "--dataset", "phantoms", "--n-neighbors", "50").stdout
    own = ran.project.open().sql(
        "SELECT x, y FROM layouts JOIN images USING (dataset, image_id) "
        "WHERE uri = 'images/000003.png' AND n_neighbors = 50 AND min_dist = 0.1"
    )
    spread = ran.project.open().sql("SELECT stddev(x) AS x, stddev(y) AS y FROM layouts WHERE n_neighbors = 50")
    off = np.abs(np.array(placed.split(), dtype=float) - own.row(0))
    assert (off < np.array(spread.row(0))).all()


def test_layout_commands_say_what_is_wrong(ran: Ran, phantom_folder: Path, tmp_path: Path) -> None:
    warehouse, image = ran.project.warehouse, str(phantom_folder / "images" / "000003.png")
    draw = ("layouts", "draw", "phantoms", "--encoder", ENCODER, "--out")
    assert "ends in .png, .svg or .pdf" in run(warehouse, *draw, str(tmp_path / "a.gif"), ok=False).message
    draw = (*draw, str(tmp_path / "a.png"))
    assert "no column or attribute 'nil'" in run(warehouse, *draw, "--colour-by", "nil", ok=False).message
    draw = ("layouts", "draw", "nil", "--encoder", ENCODER, "--out", str(tmp_path / "a.png"))
    assert "has no layouts: materialize umap_layouts" in run(warehouse, *draw, ok=False).message
    compare = ("layouts", "compare", "phantoms", "--out", str(tmp_path / "a.png"), "--n-neighbors", "7")
    assert "no layouts of n_neighbors 7, min_dist any" in run(warehouse, *compare, ok=False).message
    place = ("layouts", "place", image, "--encoder", ENCODER, "--dataset", "phantoms", "--n-neighbors", "7")
    assert "no layout of n_neighbors 7" in run(warehouse, *place, ok=False).message
    (tmp_path / "file").touch()
    draw = ("layouts", "draw", "phantoms", "--encoder", ENCODER, "--out", str(tmp_path / "file" / "a.png"))
    assert "a.png cannot be written: " in run(warehouse, *draw, ok=False).message


def test_nothing_is_placed_into_a_layout_of_other_vectors(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umap_layouts, "data_version", lambda *_, **__: "of others")
    place = ("layouts", "place", "a.png", "--encoder", ENCODER, "--dataset", "phantoms", "--n-neighbors", "50")
    message = run(ran.project.warehouse, *place, ok=False).message
    assert "were made from other vectors or with other settings: run `counterstain materialize" in message


def test_clusters_of_layouts_are_stored(ran: Ran) -> None:
    warehouse = ran.project.open()
    associations = warehouse.frame("layout_associations").collect()
    layouts = warehouse.sql("SELECT DISTINCT n_neighbors, min_dist FROM layouts").height
    assert set(associations["attribute"]) >= {"label", "text_overlay"}
    assert associations.group_by("attribute").len()["len"].unique().to_list() == [layouts]
    members = warehouse.sql(
        "SELECT c.n, count(*) AS members FROM layout_clusters AS c JOIN layout_cluster_members USING (cluster) "
        "GROUP BY c.cluster, c.n"
    )
    assert members["n"].to_list() == members["members"].to_list()
