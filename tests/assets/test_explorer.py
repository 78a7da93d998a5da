"""The explorer: what it shows of a data set, and to whom it speaks."""

import http.client
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from assets.cli import app
from assets.explorer import viewer
from assets.explorer.answers import Explorer, parse_setting
from assets.explorer.columns import charts, safe_names, shown_columns
from assets.explorer.maps import Setting
from assets.explorer.serving import ExplorerServer
from assets.project import Project
from assets.searching import import_as_encoder
from assets.views import probe_view
from store import Warehouse, open_warehouse
from store.images import write_images
from store.results import write_results
from store.schema import DATASETS, IMAGES, LAYOUTS, CounterstainError
from store.views import save_view

from .mapped import DATASET, ELSEWHERE, ENCODERS, HOSTILE, IMAGES_EACH, K, image_ids, write_mapped

IDS = image_ids()
ADDRESS = "http://127.0.0.1:5055"
# Tests that run in the background hand down that Control-C is ignored.
PROGRAM = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from assets.cli import main; main()"
COMMAND = [sys.executable, "-c", PROGRAM]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = open_warehouse(tmp_path_factory.mktemp("mapped") / "warehouse")
    write_mapped(warehouse)
    return warehouse


@pytest.fixture
def explorer(warehouse: Warehouse) -> Explorer:
    return Explorer(Project(warehouse=warehouse.uri), ADDRESS)


def asked(explorer: Explorer, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.ipc.open_stream(explorer.query(DATASET, query)).read_all().to_pylist()
    return rows


# ---- what is shown -----------------------------------------------------------------------------------------------


def test_every_image_is_a_row_with_what_is_known_of_it(explorer: Explorer) -> None:
    opened = explorer.open_data_set(DATASET)
    assert (opened["images"], opened["left_out"], opened["views"]) == (2 * IMAGES_EACH, 0, {})
    assert {column["name"]: column["chart"] for column in opened["columns"]} == {
        "label": "categories",
        "overlay_text": "categories",
        "text_overlay": "categories",
        "view": "categories",
        "annotation_kinds": "categories",
        "overlay_site": "categories",
        "Label 2": "categories",  # DuckDB takes it for the same as label
        "hidden": "categories",
        "size__ _b_": "numbers",
        "encoder_a probe": "categories",
        "image_id": None,
        "uri": None,
    }
    [first, second] = asked(explorer, "SELECT * FROM dataset WHERE __row_index__ < 2")
    assert (first["image_id"], first["label"], first["text_overlay"]) == (IDS[0], HOSTILE, "true")
    assert (first["overlay_text"], first["view"]) == ("AXILLA", ELSEWHERE)
    assert (first["annotation_kinds"], second["annotation_kinds"]) == (None, "calliper; arrow")
    assert (first["encoder_a probe"], second["encoder_a probe"]) == ("wrong", "right")
    assert second["size__ _b_"] == pytest.approx(1 / 7, abs=1e-3)


def test_words_that_may_identify_someone_are_not_shown(explorer: Explorer) -> None:
    [row] = asked(explorer, "SELECT overlay_text, text_overlay FROM dataset WHERE __row_index__ = 4")
    assert row == {"overlay_text": None, "text_overlay": "true"}


def test_thumbnails_are_addresses_and_small(explorer: Explorer) -> None:
    [row] = asked(explorer, "SELECT thumbnail FROM dataset WHERE __row_index__ = 5")
    assert row == {"thumbnail": f"{ADDRESS}/thumbnails/{DATASET}/5"}
    thumbnail = explorer.thumbnail(DATASET, 5)
    assert thumbnail is not None
    with Image.open(io.BytesIO(thumbnail)) as picture:
        assert picture.format == "JPEG"
        assert max(picture.size) <= 128
        assert picture.getpixel((0, 0))[0] == pytest.approx(30, abs=4)
    assert explorer.thumbnail(DATASET, 2 * IMAGES_EACH) is None


def test_a_layout_is_two_columns_and_neighbours_are_rows_by_distance(explorer: Explorer, warehouse: Warehouse) -> None:
    opened = explorer.open_map(DATASET, ENCODERS[0], "50,0.1")
    rows = asked(explorer, f'SELECT "{opened["x"]}" AS x, "{opened["neighbors"]}" AS near, image_id FROM dataset')
    stored = warehouse.frame("layouts").filter(pl.col("encoder") == ENCODERS[0], pl.col("n_neighbors") == 50)
    places = dict(stored.select("image_id", "x").collect().iter_rows())
    assert {row["image_id"]: row["x"] for row in rows} == places
    assert rows[0]["near"] == {"ids": [1, 2, 3], "distances": pytest.approx([0.1, 0.2, 0.3])}
    assert rows[-1]["near"]["ids"] == [0, 1, 2]
    assert all(len(row["near"]["ids"]) == K for row in rows)
    # Asked for again, they are there; and an encoder without neighbours has none.
    assert explorer.open_map(DATASET, ENCODERS[0], "50,0.1") == opened
    assert explorer.open_map(DATASET, ENCODERS[1], "15,0.1")["neighbors"] is None


def test_images_without_a_place_are_left_out_and_counted(tmp_path: Path) -> None:
    warehouse = open_warehouse(tmp_path)
    write_mapped(warehouse)
    kept = warehouse.frame("layouts").filter(pl.col("encoder") == ENCODERS[1]).drop("row", "dataset", "encoder")
    write_results(warehouse, LAYOUTS, kept.collect().head(30), dataset=DATASET, encoder=ENCODERS[1])
    explorer = Explorer(Project(warehouse=warehouse.uri), ADDRESS)
    opened = explorer.open_data_set(DATASET)
    assert (opened["images"], opened["left_out"]) == (30, 10)
    near = explorer.open_map(DATASET, ENCODERS[0], "15,0.1")["neighbors"]
    last = asked(explorer, f'SELECT "{near}".ids AS ids FROM dataset WHERE __row_index__ = 29')
    assert last == [{"ids": []}]


def test_names_stay_apart_and_whole() -> None:
    names = ["label", "LABEL", 'a"b', "a_b", "__x", "", "ü (mm)", "x" * 99]
    safe = safe_names(names, [])
    assert safe == ["label", "LABEL 2", "a_b", "a_b 2", "x", "column", "ü (mm)", "x" * 60]
    assert safe_names(["Thumbnail", "View few", "overview few"], ["thumbnail"]) == [
        "Thumbnail 2", "attribute View few", "overview few",
    ]  # fmt: skip


def test_what_says_nothing_is_left_out() -> None:
    rows = {"label": ["a", "a"], "split": ["train", None], "image_id": ["1", "2"], "attributes": [None, None]}
    columns = shown_columns(pl.DataFrame(rows), {}, [])
    assert columns.columns == ["split", "image_id"]
    assert [column.chart for column in charts(columns)] == ["categories", None]


def test_no_attribute_is_lost_to_a_name() -> None:
    attributes = ['{"attribute label": "p", "label": "r"}', '{"attribute label": "q", "label": "s"}']
    rows = pl.DataFrame({"label": ["a", "b"], "attributes": attributes})
    assert shown_columns(rows, {}, []).to_dict(as_series=False) == {
        "label": ["a", "b"],
        "attribute label": ["p", "q"],
        "attribute label 2": ["r", "s"],
    }


def test_attributes_named_like_the_explorers_own_columns(tmp_path: Path) -> None:
    warehouse = open_warehouse(tmp_path)
    write_mapped(warehouse)
    attributes = [json.dumps({"thumbnail": n, "Encoder_A probe": n, "view few": n}) for n in "ab" * IMAGES_EACH]
    rows = warehouse.frame("images").sort("image_id").collect().with_columns(pl.Series("attributes", attributes))
    write_images(warehouse, DATASET, rows.to_arrow().cast(IMAGES.schema).to_batches())
    save_view(warehouse, "few", DATASET, IDS[:2], "by hand")
    explorer = Explorer(Project(warehouse=warehouse.uri), ADDRESS)
    opened = explorer.open_data_set(DATASET)
    assert opened["probes"] == {ENCODERS[0]: "encoder_a probe"}
    assert opened["views"] == {"few": "\"view few\" = 'in'"}
    [row] = asked(explorer, "SELECT * FROM dataset WHERE __row_index__ = 1")
    assert row["thumbnail"] == f"{ADDRESS}/thumbnails/{DATASET}/1"
    assert (row["encoder_a probe"], row["view few"]) == ("right", "in")
    assert (row["thumbnail 2"], row["Encoder_A probe 2"], row["attribute view few"]) == ("b", "b", "b")


# ---- named views -------------------------------------------------------------------------------------------------


def test_a_selection_becomes_a_view(tmp_path: Path) -> None:
    warehouse = open_warehouse(tmp_path)
    write_mapped(warehouse)
    explorer = Explorer(Project(warehouse=warehouse.uri), ADDRESS)
    assert explorer.count(DATASET, "label = 'benign'") == {"images": IMAGES_EACH}
    saved = explorer.save_view(DATASET, "right_half", "label = 'benign'")
    assert saved == {"images": IMAGES_EACH, "predicate": "\"view right_half\" = 'in'"}
    assert explorer.count(DATASET, saved["predicate"]) == {"images": IMAGES_EACH}
    stored = warehouse.sql("SELECT image_id FROM right_half ORDER BY image_id")["image_id"].to_list()
    assert stored == IDS[IMAGES_EACH:]
    save_view(warehouse, "a_pair", DATASET, [IDS[0], IDS[39]], "by hand")
    views = Explorer(Project(warehouse=warehouse.uri), ADDRESS).open_data_set(DATASET)["views"]
    assert list(views) == ["a_pair", "right_half"]


# ---- to whom the server speaks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(warehouse: Warehouse) -> Iterator[ExplorerServer]:
    with ExplorerServer(0, lambda address: Explorer(Project(warehouse=warehouse.uri), address)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


JSON = {"Content-Type": "application/json"}


def fetched(
    server: ExplorerServer, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, None if body is None else json.dumps(body), sent)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), content


def test_pages_load_nothing_from_elsewhere(server: ExplorerServer) -> None:
    for path in ("/", "/explorer.js", "/explorer.css", "/viewer.js", f"/thumbnails/{DATASET}/0"):
        status, headers, content = fetched(server, "GET", path)
        assert (status, len(content) > 100) == (200, True)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "http" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/../answers.py", "/%2e%2e/answers.py", f"/thumbnails/{DATASET}/999", "/thumbnails/x/0", "/api/query"):
        assert fetched(server, "GET", path)[0] in (400, 404)


def test_only_this_machines_own_page_is_answered(server: ExplorerServer) -> None:
    port, call = server.server_port, ("POST", "/api/catalogue", {})
    assert server.server_address[0] == "127.0.0.1"
    assert fetched(server, *call, Content_Type="application/json")[0] == 200
    assert fetched(server, *call, Content_Type="application/json", Origin=server.address)[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"localhost:{port}"):
        assert fetched(server, *call, Content_Type="application/json", Host=host)[0] == 421
        if not host.startswith("localhost"):
            assert fetched(server, "GET", "/", Host=host)[0] == 421
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
        assert fetched(server, *call, Content_Type="application/json", Origin=origin)[0] == 421
    # What a form can send.
    assert fetched(server, *call, Content_Type="text/plain")[0] == 404
    status, headers, _ = fetched(server, "GET", "/", Host=f"localhost:{port}")
    assert (status, headers["Location"]) == (307, f"{server.address}/")


def test_calls_take_texts_and_say_what_is_wrong(server: ExplorerServer) -> None:
    def refused(path: str, body: object) -> str:
        status, _, content = fetched(server, "POST", path, body, **{"Content-Type": "application/json"})
        assert status == 400
        return str(json.loads(content)["error"])

    assert "one JSON object with: dataset, sql" in refused("/api/query", {"dataset": DATASET})
    assert "one JSON object" in refused("/api/query", [1])
    assert "is text" in refused("/api/query", {"dataset": DATASET, "sql": 1})
    assert "no data set 'other'" in refused("/api/query", {"dataset": "other", "sql": "SELECT 1"})
    assert "SQL: " in refused("/api/query", {"dataset": DATASET, "sql": "SELECT nonsense FROM dataset"})
    assert "has no layout" in refused("/api/map", {"dataset": DATASET, "encoder": "encoder_b", "setting": "50,0.1"})
    assert "is no layout" in refused("/api/map", {"dataset": DATASET, "encoder": "encoder_b", "setting": "x"})
    assert "cannot name a view" in refused("/api/view", {"dataset": DATASET, "name": "A B", "predicate": "true"})
    for length in ("5000000", "-1", "x"):
        assert fetched(server, "POST", "/api/query", **JSON, Content_Length=length)[0] == 413


# ---- the command -------------------------------------------------------------------------------------------------


def test_what_is_shown_first(warehouse: Warehouse) -> None:
    assert Explorer(Project(warehouse=warehouse.uri), ADDRESS).catalogue() == {
        "data_sets": {DATASET: {ENCODERS[0]: ["15,0.1", "50,0.1"], ENCODERS[1]: ["15,0.1"]}},
        "start": {"dataset": DATASET, "encoder": ENCODERS[0], "setting": "15,0.1"},
    }
    chosen = Explorer(Project(warehouse=warehouse.uri), ADDRESS, encoder=ENCODERS[0], setting=parse_setting("50,0.10"))
    assert chosen.catalogue()["start"]["setting"] == "50,0.1"
    for asked_for, message in (
        ({"dataset": "other"}, "'other' has no layouts yet: `counterstain materialize --dataset other"),
        ({"encoder": "other"}, "no layouts of encoder 'other'; encoders with layouts: encoder_a, encoder_b"),
        ({"setting": Setting(5, 0.1)}, "has no layout 5,0.1; n_neighbors,min_dist: 15,0.1; 50,0.1"),
    ):
        with pytest.raises(CounterstainError, match=message):
            Explorer(Project(warehouse=warehouse.uri), ADDRESS, **asked_for)  # type: ignore[arg-type]


def test_nothing_to_explore_yet(project: Project) -> None:
    with pytest.raises(CounterstainError, match="no layouts to explore yet"):
        Explorer(project, ADDRESS)


def test_ports_that_browsers_refuse_or_others_have(warehouse: Warehouse, server: ExplorerServer) -> None:
    for port, message in (
        (5060, "browsers refuse port 5060"),
        (server.server_port, "choose another"),
        (99_999, "choose"),
    ):
        with pytest.raises(CounterstainError, match=message):
            ExplorerServer(port, lambda address: Explorer(Project(warehouse=warehouse.uri), address))


def test_a_missing_viewer_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CounterstainError, match=r"`pip install --no-deps embedding-atlas==0\.22\.0`, or `make setup`"):
        viewer.viewer_script()


def test_another_release_of_the_viewer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "0.24.0")
    with pytest.raises(CounterstainError, match=r"needs embedding-atlas 0\.22\.0, 0\.24\.0 is installed"):
        viewer.viewer_script()


def test_the_viewer_is_pinned_where_it_is_installed() -> None:
    root = Path(__file__).parents[2]
    assert f"embedding-atlas=={viewer.VERSION}" in (root / "constraints.txt").read_text().splitlines()
    assert "--no-deps embedding-atlas" in (root / "Makefile").read_text()


def test_control_c_ends_it_quietly(warehouse: Warehouse) -> None:
    command = [*COMMAND, "explore", "--port", "0", "--warehouse", warehouse.uri]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            port = int(line.split("127.0.0.1:")[1].split()[0])
            with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:  # which a browser would keep
                question = json.dumps({"dataset": DATASET, "sql": "DESCRIBE dataset"})
                connection.request("POST", "/api/query", question, JSON)
                assert connection.getresponse().status == 200
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=60) == 0
                assert process.stderr.read() == ""
        finally:
            process.kill()


def test_views_on_the_command_line(tmp_path: Path) -> None:
    warehouse = open_warehouse(tmp_path / "warehouse")
    write_mapped(warehouse)
    registered = {"dataset": DATASET, "reader": "folder", "root": "", "groups": [], "registered_at": datetime.now(UTC)}
    warehouse.upsert(DATASETS, [{**registered, "label": None}])
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(2 * IMAGES_EACH, 8)).astype(np.float32))
    import_as_encoder(warehouse, "mine", DATASET, tmp_path / "vectors.npy", pl.DataFrame({"image_id": IDS}))

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, [*words, "--warehouse", warehouse.uri])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    escaping = [
        "views",
        "save",
        "escaped",
        "--dataset",
        DATASET,
        "--where",
        "false) OR (true",
        "--warehouse",
        warehouse.uri,
    ]
    assert "false) OR (true" in str(CliRunner().invoke(app, escaping).exception)
    where = f"image_id < '{IDS[10]}' OR label = 'benign'"
    assert run("views", "save", "thirty", "--dataset", DATASET, "--where", where) == "thirty: 30 images\n"
    assert "30" in run("views")
    found = run("search", IDS[0], "--encoder", "mine", "--view", "thirty", "-k", "40")
    assert "29 images by mine of view thirty" in found
    assert found.count(".png") == 1 + 29  # the image that was looked for, and those found
    scores = run("views", "probe", "thirty", "--encoder", "mine")
    assert "view thirty" in scores
    assert "balanced_accuracy" in scores
    images = warehouse.frame("images").sort("image_id").collect()
    added = pl.concat([images, images.head(1).with_columns(image_id=pl.lit("f" * 64))])
    write_images(warehouse, DATASET, added.to_arrow().cast(IMAGES.schema).to_batches())
    save_view(warehouse, "later", DATASET, ["f" * 64, *IDS], "by hand")
    with pytest.raises(CounterstainError, match=r"'later' has images without a vector of encoder 'mine' \(1\)"):
        probe_view(Project(warehouse=warehouse.uri), "later", "mine")
    save_view(warehouse, "gone", DATASET, ["f" * 64], "by hand")
    write_images(warehouse, DATASET, images.to_arrow().cast(IMAGES.schema).to_batches())
    with pytest.raises(CounterstainError, match="view 'gone': none of its images is in data set 'mapped' any more"):
        probe_view(Project(warehouse=warehouse.uri), "gone", "mine")
    run("views", "remove", "thirty")
    assert "thirty" not in run("views")
