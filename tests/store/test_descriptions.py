"""What tables and columns mean is written down, all of it."""

import polars as pl
import pytest

from store import open_warehouse
from store.descriptions import ROWS, describe, meaning, undescribed
from store.schema import TABLES, CounterstainError, embeddings_table
from tests.store.rows import embed


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    warehouse = open_warehouse(tmp_path_factory.mktemp("descriptions"))
    embed(warehouse, "d", 12)
    return warehouse


def test_every_table_and_column_is_described():
    assert undescribed() == [], "write into store/descriptions.py what they mean"
    assert [c for c in embeddings_table("enc", 8).schema.names if meaning("embeddings__enc", c) is None] == []


def test_what_is_not_written_down_is_told(monkeypatch):
    monkeypatch.delitem(ROWS, "images")
    monkeypatch.setitem(TABLES, "more", embeddings_table("more", 3))
    assert undescribed() == ["images", "more"]
    assert meaning("images", "nope") is None


def test_all_that_can_be_asked_is_described_as_it_is_stored(stored):
    described = stored.describe()
    assert described["table"].unique(maintain_order=True).to_list() == sorted({*TABLES, "embeddings__enc"})
    for name, spec in TABLES.items():
        assert described.filter(table=name)["column"].to_list() == spec.schema.names
    assert described.filter(pl.col("meaning").is_null()).is_empty()
    rows = {table: count for table, count in described.select("table", "rows").iter_rows() if count}
    assert rows == {"images": 12, "embeddings__enc": 12}
    vector = describe(stored, "embeddings__enc").filter(column="vector").row(0, named=True)
    assert vector == {
        "table": "embeddings__enc", "rows": 12, "column": "vector", "type": "FLOAT[8]",
        "one_row_is": "an image's vector from one encoder, with what is known of the image",
        "meaning": "the vector, unnormalised",
    }  # fmt: skip


def test_endings_say_of_what_they_are():
    assert meaning("findings", "agreement_ci_low") == "lower end of the 95 % interval of agreement"
    assert meaning("layout_clusters", "min_dist_high") == "greatest min_dist of the layouts that show it"
    assert meaning("published_comparison", "published_low") == "lower end of the study's interval"


def test_unknown_table(stored):
    with pytest.raises(CounterstainError, match="no table 'nope'; tables: calibration, "):
        stored.describe("nope")
