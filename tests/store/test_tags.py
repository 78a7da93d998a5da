"""A tag names the present version of every table; the past can be read, and not written."""

from datetime import timedelta

import polars as pl
import pytest

from store import open_warehouse
from store.embeddings import EmbeddingPartition
from store.images import write_images
from store.maintenance import build_indexes
from store.runs import Run, data_version, record_run
from store.schema import REJECTS, CounterstainError
from tests.store.rows import DIMENSION, embed, images, rejects, vectors

RUN = Run("r", "images", "d", "", "1", "x", {}, {}, rows=1, seconds=0.1)


@pytest.fixture
def past(warehouse):
    """As it was before the label of image i000 was corrected and its data set encoded again with other vectors."""
    embed(warehouse, "d", 12)
    warehouse.tag("then")
    warehouse.correct("d", pl.DataFrame({"image_id": ["i000"], "label": ["new"]}))
    embed(warehouse, "d", 14, seed=1)
    embed(warehouse, "d", 14, encoder="later")
    return open_warehouse(warehouse.uri, as_of="then")


def test_every_way_of_reading_reads_as_of_the_tag(warehouse, past):
    label = pl.col("image_id") == "i000"
    for view, value, count, seed in ((warehouse, "new", 14, 1), (past, "a", 12, 0), (warehouse, "new", 14, 1)):
        assert view.frame("images").filter(label).collect()["label"].item() == value
        assert view.sql("SELECT label FROM embeddings__enc WHERE image_id = 'i000'").item() == value
        assert view.sql("SELECT count(*) FROM images").item() == count
        assert view.search("enc", vectors(count, seed)[0], k=1)["label"].item() == value
        assert view.search("enc", "i001", k=99).height == count - 1
        matrix = view.vectors("enc", "d")
        assert (matrix.vectors == vectors(count, seed)).all()
        assert matrix.images.filter(label)["label"].item() == value
    assert data_version(past, "images", dataset="d") != data_version(warehouse, "images", dataset="d")


def test_a_table_made_after_the_tag_is_absent(past):
    assert past.tables() == ["embeddings__enc", "images"]
    assert past.encoders() == ["enc"]
    assert set(past.versions()) == {"embeddings__enc", "images"}
    assert past.frame("corrections").collect().is_empty()
    assert past.sql("SELECT * FROM corrections").is_empty()
    assert data_version(past, "corrections", dataset="d") == ""
    with pytest.raises(CounterstainError, match="no version tagged 'then'"):
        past.frame("embeddings__later")
    with pytest.raises(CounterstainError, match=r"no vectors of encoder 'later'.*: enc"):
        past.search("later", "i000")
    with pytest.raises(CounterstainError, match="no later vectors"):
        past.vectors("later", "d")
    with pytest.raises(CounterstainError, match=r"SQL: .*embeddings__later"):
        past.sql("SELECT * FROM embeddings__later")


def test_the_past_cannot_be_written(warehouse, past, tmp_path):
    before = warehouse.versions()
    partition = EmbeddingPartition(past, "enc", "d", DIMENSION, "made with 1")
    for write in (
        lambda: past.replace_partition(REJECTS, rejects("d", 1), dataset="d"),
        lambda: past.upsert(REJECTS, rejects("d", 1).to_pylist()),
        lambda: write_images(past, "d", images("d", 1).to_batches()),
        lambda: past.correct("d", pl.DataFrame({"image_id": ["i000"], "label": ["x"]})),
        lambda: partition.stage(["i000"], vectors(1)),
        partition.commit,
        lambda: past.tag("now"),
        lambda: record_run(past, RUN),
        past.maintain,
        lambda: build_indexes(past, "images", scalar_rows=1),
    ):
        with pytest.raises(CounterstainError, match="view of the past and cannot be written"):
            write()
    assert warehouse.versions() == before


def test_unknown_tag_lists_those_there_are(warehouse, past):
    warehouse.tag("run-2")
    with pytest.raises(CounterstainError, match=r"no tag 'nope'.*run-2, then"):
        open_warehouse(warehouse.uri, as_of="nope")
    assert warehouse.tags() == {"then", "run-2"}


def test_tag_of_an_empty_warehouse(tmp_path):
    with pytest.raises(CounterstainError, match="none yet"):
        open_warehouse(tmp_path / "empty", as_of="nope")


def test_a_tag_can_move(warehouse):
    for count in (1, 2):
        warehouse.replace_partition(REJECTS, rejects("d", count), dataset="d")
        assert warehouse.tag("t") == warehouse.versions()
        assert open_warehouse(warehouse.uri, as_of="t").frame("rejects").collect().height == count


def test_name_that_cannot_be_a_tag(warehouse):
    warehouse.replace_partition(REJECTS, rejects("d", 1), dataset="d")
    with pytest.raises(CounterstainError, match=r"'a b/c'.*letters, digits"):
        warehouse.tag("a b/c")


def test_maintenance_keeps_what_is_tagged(warehouse, past):
    for count in (1, 2, 3):
        warehouse.replace_partition(REJECTS, rejects("d", count), dataset="d")
    assert len(warehouse.dataset("rejects").versions()) > 2
    warehouse.maintain(older_than=timedelta(0))
    assert len(warehouse.dataset("rejects").versions()) == 1
    assert past.sql("SELECT label FROM images WHERE image_id = 'i000'").item() == "a"
    assert past.search("enc", "i001", k=99).height == 11
    assert warehouse.search("enc", "i001", k=99).height == 13
