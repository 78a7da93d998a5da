"""A warehouse at a URI: Lance's object-store code over a local folder, so that no server is needed."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from store import open_warehouse
from store.maintenance import build_indexes
from store.runs import data_version
from tests.store.rows import embed


@pytest.mark.parametrize("scheme", ["file-object-store", "file"])
def test_round_trip(tmp_path, scheme):
    uri = f"{scheme}://{tmp_path / 'bucket'}"
    warehouse = open_warehouse(uri, cache_dir=tmp_path / "cache")
    assert (warehouse.uri, warehouse.is_local) == (uri, False)
    assert warehouse.tables() == []
    values = embed(warehouse)
    warehouse.tag("then")
    warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "label": ["new"]}))
    build_indexes(warehouse, "images", scalar_rows=1)
    warehouse.maintain(older_than=timedelta(0))

    again = open_warehouse(uri, cache_dir=tmp_path / "cache")
    assert again.tables() == ["corrections", "embeddings__enc", "images"]
    assert again.frame("images").filter(pl.col("label") == "new").select("image_id").collect().item() == "i003"
    assert again.sql("SELECT image_id FROM embeddings__enc WHERE label = 'new'").item() == "i003"
    assert again.search("enc", values[3], k=1)["image_id"].item() == "i003"
    matrix = again.vectors("enc", "d")
    assert isinstance(matrix.vectors, np.memmap)
    np.testing.assert_array_equal(matrix.vectors, values)
    assert data_version(again, "images", dataset="d")
    past = open_warehouse(uri, as_of="then", cache_dir=tmp_path / "cache")
    assert past.frame("images").filter(pl.col("label") == "new").collect().is_empty()
    assert {path.name for path in tmp_path.iterdir()} == {"bucket", "cache"}
    assert all(path.suffix == ".lance" for path in (tmp_path / "bucket").iterdir()), "the cache is not for the bucket"


def test_cache_of_a_uri_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, two = (open_warehouse(f"s3://bucket/{name}").cache_dir for name in ("one", "two"))
    assert one.parent == two.parent == tmp_path / "counterstain"
    assert one != two


def test_options_reach_the_object_store(tmp_path):
    """By both ways in, LanceDB's and Lance's own; an S3 server is not needed to see what would be sent to it."""
    options = {"some_option": "value"}
    uri = f"file-object-store://{tmp_path / 'bucket'}"
    warehouse = open_warehouse(uri, cache_dir=tmp_path / "cache", storage_options=options)
    embed(warehouse)
    assert warehouse.open_table("images").to_lance()._storage_options == options
    assert warehouse.dataset("images").to_table().num_rows == 12
