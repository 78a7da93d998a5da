"""What made a partition, and whether what it says has changed."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from store import open_warehouse
from store.images import write_images
from store.runs import Run, data_version, digest, latest_runs, record_run
from store.schema import LAYOUTS, REJECTS, TABLES, CounterstainError
from tests.store.rows import embed, images, rejects


def run(run_id, asset="images", dataset="d", encoder="", **values):
    return Run(
        **{
            "run_id": run_id,
            "asset": asset,
            "dataset": dataset,
            "encoder": encoder,
            "code_version": "1",
            "data_version": "x",
            "inputs": {"b": "2", "a": "1"},
            "parameters": {"k": [1, 2], "name": "it's"},
            "rows": 3,
            "seconds": 0.5,
            **values,
        }
    )


def test_a_run_is_recorded_and_tags_every_table(warehouse):
    warehouse.replace_partition(REJECTS, rejects("d", 2), dataset="d")
    record_run(warehouse, run("r1", table_versions=warehouse.versions()))
    warehouse.replace_partition(REJECTS, rejects("d", 5), dataset="d")
    row = warehouse.frame("runs").collect().row(0, named=True)
    assert (row["run_id"], row["rows"], row["seconds"]) == ("r1", 3, 0.5)
    assert json.loads(row["inputs"]) == {"a": "1", "b": "2"}
    assert json.loads(row["parameters"]) == {"k": [1, 2], "name": "it's"}
    assert json.loads(row["table_versions"]) == {"rejects": 2}
    assert warehouse.tags() == {"run-r1"}
    past = open_warehouse(warehouse.uri, as_of="run-r1")
    assert past.frame("rejects").collect().height == 2
    assert past.frame("runs").collect().height == 1


def test_one_run_of_several_assets(warehouse):
    record_run(warehouse, run("r1"))
    record_run(warehouse, run("r1", asset="embeddings", encoder="enc"))
    record_run(warehouse, run("r1", rows=4))
    assert warehouse.frame("runs").collect().height == 2
    assert open_warehouse(warehouse.uri, as_of="run-r1").frame("runs").collect().height == 2


def test_latest_runs_are_the_newest_of_each_partition(warehouse):
    assert latest_runs(warehouse).is_empty()
    for run_id in ("r9", "r1", "r5"):
        record_run(warehouse, run(run_id))
    record_run(warehouse, run("r2", dataset="e"))
    record_run(warehouse, run("r3", asset="embeddings", encoder="enc"))
    newest = latest_runs(warehouse).select("run_id", "asset", "dataset", "encoder").rows()
    assert sorted(newest) == [("r2", "images", "e", ""), ("r3", "embeddings", "d", "enc"), ("r5", "images", "d", "")]


def test_run_whose_id_cannot_be_a_tag(warehouse):
    with pytest.raises(CounterstainError, match="cannot name a tag"):
        record_run(warehouse, run("a/b"))


# ---- data versions ------------------------------------------------------------------------------------------------


def shuffled(table, seed):
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))


def full_images(**columns):
    """Images with a value or a null in every column that a digest could stumble over."""
    return images(
        "d",
        30,
        **{
            "lesion_box": lambda i: [i, 0, 9, 9] if i % 2 else None,
            "overlay_boxes": lambda i: [[0, 0, i, i]] * (i % 3) if i % 4 else None,
            "annotation_kinds": lambda i: ["x", "it's", 'q"'][: i % 3] if i % 5 else None,
            "attributes": lambda i: json.dumps({"é": str(i)}),
            **columns,
        },
    )


def test_same_content_same_version_whatever_made_it(tmp_path):
    digests = set()
    for seed in range(3):
        warehouse = open_warehouse(tmp_path / str(seed))
        if seed:
            write_images(warehouse, "other", images("other", 5).to_batches())
            write_images(warehouse, "d", images("d", 7 * seed).to_batches())
            write_images(warehouse, "d", full_images(label=lambda i: "z").to_batches())
        write_images(warehouse, "d", shuffled(full_images(), seed).to_batches(max_chunksize=3 + 9 * seed))
        digests.add(data_version(warehouse, "images", dataset="d"))
        warehouse.maintain()
        digests.add(data_version(warehouse, "images", dataset="d"))
    assert len(digests) == 1
    assert "" not in digests


@pytest.mark.parametrize(
    "name", [name for name in TABLES if "row" not in TABLES[name].schema.names and name != "images"]
)
def test_row_order_is_no_content(warehouse, name):
    """Of every table whose key is not a row number, as its rows come from several threads or people."""
    spec = TABLES[name]
    column = spec.key[-1]
    numbered = pa.types.is_integer(spec.schema.field(column).type)
    rows = [{**dict.fromkeys(spec.key, "same"), column: i if numbered else f"{i:02}"} for i in range(21)]
    *rows, another = rows
    warehouse.upsert(spec, rows)
    first = data_version(warehouse, name)
    warehouse.upsert(spec, rows[7:9])
    assert data_version(warehouse, name) == first
    warehouse.upsert(spec, [another])
    assert data_version(warehouse, name) != first


def test_one_cell_makes_another_version(warehouse):
    write_images(warehouse, "d", full_images().to_batches())
    seen = {data_version(warehouse, "images", dataset="d")}
    changes = {
        "label": "new",
        "split": "",
        "text_overlay": False,
        "annotation_kinds": ["y"],
        "lesion_box": [0, 0, 1, 1],
        "overlay_boxes": [],
        "attributes": "{}",
        "width_px": 1,
    }
    for n, (column, value) in enumerate(changes.items(), 2):
        changed = full_images()
        cells = changed[column].to_pylist()
        assert cells[0] != value
        cells[0] = value
        at = changed.schema.get_field_index(column)
        changed = changed.set_column(at, changed.field(column), pa.array(cells, changed.field(column).type))
        write_images(warehouse, "d", changed.to_batches())
        seen.add(data_version(warehouse, "images", dataset="d"))
        assert len(seen) == n, column


def test_version_of_embeddings(warehouse):
    embed(warehouse)
    first = data_version(warehouse, "embeddings__enc", dataset="d")
    embed(warehouse)
    embed(warehouse, "e")
    assert data_version(warehouse, "embeddings__enc", dataset="d") == first
    warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "view": ["front"]}))
    corrected = data_version(warehouse, "embeddings__enc", dataset="d")
    embed(warehouse, seed=1)
    assert len({first, corrected, data_version(warehouse, "embeddings__enc", dataset="d")}) == 3


def test_thumbnails_are_no_content(warehouse):
    write_images(warehouse, "d", images("d", 3).to_batches())
    first = data_version(warehouse, "images", dataset="d")
    write_images(warehouse, "d", images("d", 3, thumbnail=lambda i: b"better").to_batches())
    assert data_version(warehouse, "images", dataset="d") == first


def test_what_is_not_there_has_no_version(warehouse):
    assert data_version(warehouse, "images", dataset="d") == ""
    warehouse.replace_partition(LAYOUTS, LAYOUTS.schema.empty_table(), dataset="d", encoder="enc")
    assert data_version(warehouse, "layouts", dataset="d", encoder="enc") == ""
    assert data_version(warehouse, "layouts") == ""


def test_bytes_under_a_null_are_no_content():
    """Equal tables need not be equal in memory."""
    clean = pa.array([1, None, 3], pa.int32())
    dirty = pa.Array.from_buffers(
        pa.int32(), 3, [clean.buffers()[0], pa.py_buffer(np.array([1, 99, 3], np.int32).tobytes())]
    )
    assert clean.equals(dirty)
    assert digest(pa.table({"x": clean})) == digest(pa.table({"x": dirty}))
    chunked = pa.chunked_array([clean.slice(0, 1), dirty.slice(1)])
    assert digest(pa.table({"x": clean})) == digest(pa.table({"x": chunked}))
    assert digest(pa.table({"x": clean})) != digest(pa.table({"x": clean.take([0, 2, 1])}))
