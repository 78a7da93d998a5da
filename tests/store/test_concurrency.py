"""Several processes write and read at once."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from lancedb.db import LanceDBConnection

from store import maintenance, open_warehouse
from store.embeddings import EmbeddingPartition
from store.images import write_images
from store.maintenance import drop_replaced_versions
from store.schema import REJECTS, CounterstainError
from tests.store import worker
from tests.store.rows import DIMENSION, image_ids, images, rejects, vectors


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        for future in [executor.submit(worker.ready) for _ in range(2)]:
            future.result()
        yield executor


def soon(seconds=0.3):
    return time.time() + seconds


def test_two_first_writers_of_two_partitions(pool, tmp_path):
    for trial in range(20):
        uri = str(tmp_path / str(trial))
        start = soon(0.1)
        futures = [pool.submit(worker.replace, uri, dataset, [30], start) for dataset in ("a", "b")]
        for future in futures:
            future.result()
        frame = open_warehouse(uri).frame("rejects").group_by("dataset").agg(pl.len(), pl.col("uri").n_unique())
        assert sorted(frame.collect().rows()) == [("a", 30, 30), ("b", 30, 30)]


def test_two_first_writers_of_one_partition(pool, tmp_path):
    for trial in range(20):
        uri = str(tmp_path / str(trial))
        start = soon(0.1)
        futures = [pool.submit(worker.replace, uri, "a", [30], start) for _ in range(2)]
        for future in futures:
            future.result()
        frame = open_warehouse(uri).frame("rejects").collect()
        assert (frame.height, frame["uri"].n_unique()) == (30, 30)


def test_one_of_two_makes_a_table(tmp_path, monkeypatch):
    made = []
    create = LanceDBConnection.create_table

    def slow(self, name, *args, **kwargs):
        made.append(name)
        time.sleep(0.2)
        return create(self, name, *args, **kwargs)

    monkeypatch.setattr(LanceDBConnection, "create_table", slow)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: open_warehouse(tmp_path / "w").create_table(REJECTS), range(2)))
    assert made == ["rejects"]


def test_two_writers_of_one_partition_and_a_reader(pool, warehouse):
    warehouse.replace_partition(REJECTS, rejects("a", 10, "10"), dataset="a")
    warehouse.replace_partition(REJECTS, rejects("b", 5, "5"), dataset="b")
    start = soon()
    futures = [pool.submit(worker.replace, warehouse.uri, "a", counts, start) for counts in ([40, 20] * 5, [30] * 10)]
    seen = set()
    while not all(future.done() for future in futures):
        frame = warehouse.frame("rejects").filter(pl.col("dataset") == "a").collect()
        assert frame["uri"].n_unique() == frame.height
        seen.add((frame.height, *frame["reason"].unique()))
        assert warehouse.sql("SELECT count(*) FROM rejects WHERE dataset = 'b'").item() == 5
    for future in futures:
        future.result()
    assert seen <= {(10, "10"), (20, "20"), (30, "30"), (40, "40")}, "a reader saw a part"
    assert len(seen) > 1
    frame = warehouse.frame("rejects").filter(pl.col("dataset") == "a").collect()
    assert (frame.height, frame["uri"].n_unique()) in {(20, 20), (30, 30)}


def test_two_encoders_of_one_partition(pool, warehouse):
    write_images(warehouse, "a", images("a", 60).to_batches())
    start = soon()
    # Were a commit to lose what the other staged, the other would never be done, or say so by a refusal.
    futures = [pool.submit(worker.embed, warehouse.uri, "a", 60, [f"f{i}" for i in range(3)], start) for _ in range(2)]
    for future in futures:
        future.result()
    matrix = warehouse.vectors("enc", "a")
    assert matrix.images["image_id"].to_list() == image_ids(60)
    np.testing.assert_array_equal(matrix.vectors, vectors(60))
    assert warehouse.sql("SELECT count(*), count(DISTINCT image_id) FROM embeddings__enc").row(0) == (60, 60)


def test_writers_beside_maintenance(pool, warehouse):
    for dataset in ("a", "b"):
        write_images(warehouse, dataset, images(dataset, 30).to_batches())
    start = soon()
    futures = [
        pool.submit(worker.embed, warehouse.uri, dataset, 30, [f"f{i}" for i in range(4)], start)
        for dataset in ("a", "b")
    ]
    while not all(future.done() for future in futures):
        warehouse.maintain(older_than=timedelta(minutes=1))
    assert [future.result() for future in futures] == [0, 0]
    counts = warehouse.sql("SELECT dataset, count(DISTINCT image_id), count(*) FROM embeddings__enc GROUP BY ALL")
    assert sorted(counts.rows()) == [("a", 30, 30), ("b", 30, 30)]


def test_writer_that_loses_what_it_staged_is_told(warehouse):
    write_images(warehouse, "a", images("a", 10).to_batches())
    mine = EmbeddingPartition(warehouse, "enc", "a", DIMENSION, "mine")
    mine.stage(image_ids(10)[:6], vectors(10)[:6])
    theirs = EmbeddingPartition(warehouse, "enc", "a", DIMENSION, "theirs")
    theirs.stage(image_ids(10), vectors(10))
    theirs.commit()
    mine.stage(image_ids(10)[6:], vectors(10)[6:])
    with pytest.raises(CounterstainError, match="6 of 10 images"):
        mine.commit()
    assert mine.encoded_ids() == set(image_ids(10)[6:])
    assert theirs.encoded_ids() == set(image_ids(10))


@pytest.fixture
def staged(warehouse):
    write_images(warehouse, "a", images("a", 10).to_batches())
    partition = EmbeddingPartition(warehouse, "enc", "a", DIMENSION, "f")
    for i, image_id in enumerate(image_ids(10)):
        partition.stage([image_id], vectors(10)[i : i + 1])
    return partition


def test_vectors_are_committed_by_another_while_they_are_read(warehouse, staged):
    reading = warehouse.dataset("staging__enc")
    staged.commit()
    warehouse.maintain()
    assert warehouse.dataset("staging__enc").count_rows() == 0
    assert sorted(reading.to_table()["image_id"].to_pylist()) == image_ids(10)


def test_vectors_are_committed_by_another_between_reading_two_tables(warehouse, staged, monkeypatch):
    asked = []
    has_table = type(warehouse).has_table

    def has_table_and_commit(self, name):
        asked.append(name)
        if len(asked) == 2:
            staged.commit()
        return has_table(self, name)

    monkeypatch.setattr(type(warehouse), "has_table", has_table_and_commit)
    assert staged.encoded_ids() == set(image_ids(10))
    assert len(asked) > 2


def test_a_version_is_dropped_by_when_it_was_replaced(warehouse, monkeypatch):
    for reason in ("first", "second"):
        warehouse.replace_partition(REJECTS, rejects("a", 3, reason), dataset="a")
    dataset = warehouse.dataset("rejects")
    *_, first, second = (version["timestamp"] for version in dataset.versions())

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return second + timedelta(hours=5)

    monkeypatch.setattr(maintenance, "datetime", Later)
    # Written longer ago than this, replaced less long ago.
    drop_replaced_versions(dataset, timedelta(hours=5) + (second - first) / 2)
    assert warehouse.dataset("rejects").checkout_version(2).to_table()["reason"].to_pylist() == ["first"] * 3
    drop_replaced_versions(dataset, timedelta(hours=5))
    assert [version["version"] for version in dataset.versions()] == [3]
    assert set(warehouse.frame("rejects").collect()["reason"]) == {"second"}
