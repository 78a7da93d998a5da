"""One partition is replaced at a time, whole or not at all."""

import lancedb
import polars as pl
import pyarrow as pa
import pytest

from store import open_warehouse
from store.schema import IMAGES, REJECTS, RUNS, SCHEMA_VERSION_KEY, CounterstainError, TableSpec, embeddings_table
from tests.store.rows import images, rejects


def counts(warehouse):
    frame = warehouse.frame("rejects").group_by("dataset").len().collect()
    return dict(zip(frame["dataset"], frame["len"], strict=True))


def test_replaces_its_partition_and_no_other(warehouse):
    warehouse.replace_partition(REJECTS, rejects("a", 5, "old"), dataset="a")
    warehouse.replace_partition(REJECTS, rejects("b", 4), dataset="b")
    version = warehouse.replace_partition(REJECTS, rejects("a", 3, "new"), dataset="a")
    assert counts(warehouse) == {"a": 3, "b": 4}
    assert set(warehouse.frame("rejects").filter(pl.col("dataset") == "a").collect()["reason"]) == {"new"}
    assert warehouse.versions() == {"rejects": version}


def test_empty_replacement_empties_it(warehouse):
    for dataset in ("a", "b"):
        warehouse.replace_partition(REJECTS, rejects(dataset, 2), dataset=dataset)
    warehouse.replace_partition(REJECTS, REJECTS.schema.empty_table(), dataset="a")
    assert counts(warehouse) == {"b": 2}
    warehouse.replace_partition(REJECTS, iter([]), dataset="b")
    assert counts(warehouse) == {}


@pytest.mark.parametrize(
    "error", [KeyError("k"), CounterstainError("c"), RuntimeError("r"), OSError("o"), KeyboardInterrupt()], ids=repr
)
def test_failing_rows_change_nothing_and_their_error_comes_out(warehouse, error):
    warehouse.replace_partition(REJECTS, rejects("a", 5, "old"), dataset="a")
    before = warehouse.versions()

    def rows():
        yield rejects("a", 2, "new").to_batches()[0]
        raise error

    with pytest.raises(type(error)) as caught:
        warehouse.replace_partition(REJECTS, rows(), dataset="a")
    assert caught.value is error
    assert warehouse.versions() == before
    assert set(warehouse.frame("rejects").collect()["reason"]) == {"old"}


def test_row_of_another_partition_is_refused(warehouse):
    warehouse.replace_partition(REJECTS, rejects("a", 5), dataset="a")
    mixed = pa.concat_tables([rejects("a", 1), rejects("b", 1)])
    with pytest.raises(ValueError, match="a row's dataset is not 'a'"):
        warehouse.replace_partition(REJECTS, mixed, dataset="a")
    assert counts(warehouse) == {"a": 5}


def test_null_partition_value_is_refused(warehouse):
    nullable = pa.schema([field.with_nullable(True) for field in REJECTS.schema])
    rows = pa.Table.from_pylist([{"dataset": None, "uri": "u", "reason": ""}], schema=nullable)
    with pytest.raises(ValueError, match="null"):
        warehouse.replace_partition(REJECTS, rows, dataset="a")


def test_partition_columns_must_be_named(warehouse):
    with pytest.raises(ValueError, match="partitioned by"):
        warehouse.replace_partition(REJECTS, rejects("a", 1), encoder="a")


@pytest.mark.parametrize("dataset", ["it's", "a' OR '1'='1", 'double"quote', "back\\slash", "per%cent_", "-- comment"])
def test_quotes_in_a_value_are_only_text(warehouse, dataset):
    warehouse.replace_partition(REJECTS, rejects("other", 3), dataset="other")
    warehouse.replace_partition(REJECTS, rejects(dataset, 2), dataset=dataset)
    warehouse.replace_partition(REJECTS, rejects(dataset, 1), dataset=dataset)
    assert counts(warehouse) == {"other": 3, dataset: 1}
    assert warehouse.frame("rejects").filter(pl.col("dataset") == dataset).collect().height == 1


@pytest.mark.parametrize("split", [False, True], ids=["one batch", "two batches"])
def test_key_that_comes_twice_is_refused(warehouse, split):
    batches = [rejects("a", 3).to_batches()[0], rejects("a", 1).to_batches()[0]]
    rows = batches if split else pa.Table.from_batches(batches).combine_chunks()
    with pytest.raises(ValueError, match=r"more than one row has the key.*u0"):
        warehouse.replace_partition(REJECTS, rows, dataset="a")
    assert counts(warehouse) == {}


def test_upsert_refuses_a_key_that_comes_twice(warehouse):
    row = {"dataset": "a", "uri": "u", "reason": ""}
    with pytest.raises(ValueError, match="more than one row has the key"):
        warehouse.upsert(REJECTS, [row, row])


def test_upsert_inserts_and_replaces(warehouse):
    warehouse.upsert(REJECTS, rejects("a", 2, "old").to_pylist())
    warehouse.upsert(REJECTS, [{"dataset": "a", "uri": "u1", "reason": "new"}])
    assert sorted(warehouse.frame("rejects").collect()["reason"]) == ["new", "old"]


def test_columns_may_come_in_any_order(warehouse):
    rows = rejects("a", 2, "why").select(["reason", "uri", "dataset"])
    warehouse.replace_partition(REJECTS, rows, dataset="a")
    assert warehouse.frame("rejects").collect().rows() == [("a", "u0", "why"), ("a", "u1", "why")]


@pytest.mark.parametrize("change", ["renamed", "missing", "unknown"])
def test_other_columns_than_the_tables_are_refused(warehouse, change):
    rows = rejects("a", 2)
    if change == "renamed":
        rows = rows.rename_columns(["dataset", "uri", "cause"])
    elif change == "missing":
        rows = rows.drop(["reason"])
    else:
        rows = rows.append_column("cause", pa.array(["", ""]))
    with pytest.raises(ValueError, match="missing from the rows or unknown") as caught:
        warehouse.replace_partition(REJECTS, rows, dataset="a")
    assert ("cause" in str(caught.value)) == (change != "missing")
    assert ("reason" in str(caught.value)) == (change != "unknown")


def test_update_columns_touches_only_what_it_names(warehouse):
    warehouse.replace_partition(IMAGES, images("a", 4), dataset="a")
    warehouse.update_columns(IMAGES, images("a", 6).slice(3).select(["dataset", "image_id", "label"]))
    warehouse.update_columns(IMAGES, images("a", 1, label=lambda i: "new").select(["dataset", "image_id", "label"]))
    frame = warehouse.frame("images").sort("image_id").collect()
    assert frame["label"].to_list() == ["new", "b", "a", "b"]
    assert frame.drop("label").equals(pl.DataFrame(images("a", 4)).drop("label"))


def test_table_of_a_newer_release_is_neither_read_nor_written(warehouse):
    newer = REJECTS.schema.with_metadata({SCHEMA_VERSION_KEY: b"99"})
    lancedb.connect(warehouse.uri).create_table("rejects", schema=newer)
    for use in (
        lambda: warehouse.frame("rejects"),
        lambda: warehouse.sql("SELECT * FROM rejects"),
        lambda: warehouse.replace_partition(REJECTS, rejects("a", 1), dataset="a"),
        lambda: warehouse.upsert(REJECTS, rejects("a", 1).to_pylist()),
    ):
        with pytest.raises(CounterstainError, match=r"schema version 99.*upgrade"):
            use()


def test_another_dimension_is_refused(warehouse):
    warehouse.create_table(embeddings_table("enc", 8))
    with pytest.raises(CounterstainError, match=r"another layout \(columns \['vector'\]\)"):
        warehouse.create_table(embeddings_table("enc", 9))


def test_table_without_partition_columns_is_replaced_whole(warehouse):
    whole = TableSpec("rejects", REJECTS.schema, REJECTS.key, partition=())
    warehouse.replace_partition(whole, pa.concat_tables([rejects("a", 3), rejects("b", 2)]))
    warehouse.replace_partition(whole, rejects("c", 1))
    assert counts(warehouse) == {"c": 1}


def test_unknown_table_says_which_there_are(warehouse):
    warehouse.upsert(RUNS, [{"run_id": "r", "asset": "a", "dataset": "", "encoder": ""}])
    with pytest.raises(CounterstainError, match=r"no table 'nope'.*it has: runs"):
        warehouse.frame("nope")


def test_reading_leaves_no_folder(tmp_path):
    mistyped = open_warehouse(tmp_path / "warehuose")
    assert mistyped.tables() == []
    assert mistyped.sql("SELECT * FROM images").is_empty()
    assert list(tmp_path.iterdir()) == []


def test_frame_of_a_known_table_is_empty_until_written(warehouse):
    frame = warehouse.frame("images").collect()
    assert frame.is_empty()
    assert frame.columns == IMAGES.schema.names


def test_frame_is_lazy_and_pushes_down(warehouse):
    warehouse.replace_partition(REJECTS, rejects("a", 5), dataset="a")
    frame = warehouse.frame("rejects").filter(pl.col("uri") == "u3").select("dataset")
    assert isinstance(frame, pl.LazyFrame)
    plan = frame.explain()
    assert "PYTHON SCAN" in plan
    assert "SELECTION" in plan
    assert "PROJECT 1/3" in plan or "PROJECT 2/3" in plan
    assert "FILTER" not in plan, "the filter stayed above the scan"
    assert frame.collect().rows() == [("a",)]
