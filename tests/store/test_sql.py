"""One SELECT over the tables, and nothing else within its reach."""

from datetime import timedelta

import polars as pl
import pytest

from store import open_warehouse
from store.embeddings import EmbeddingPartition
from store.schema import REJECTS, TABLES, CounterstainError
from tests.store.rows import DIMENSION, embed, rejects, vectors


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A warehouse that is only read."""
    warehouse = open_warehouse(tmp_path_factory.mktemp("sql"))
    embed(warehouse, "d", 12)
    EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "f").stage(["i000"], vectors(1))
    return warehouse


def test_answers(stored):
    query = """
        WITH known AS (SELECT label, image_id FROM images WHERE dataset = 'd')
        SELECT known.label, count(*) AS n, count(e.vector) AS encoded
        FROM known JOIN embeddings__enc AS e USING (image_id) GROUP BY known.label ORDER BY 1
    """
    assert stored.sql(query).equals(pl.DataFrame({"label": ["a", "b"], "n": [6, 6], "encoded": [6, 6]}))
    assert "label" in stored.sql("DESCRIBE images")["column_name"].to_list()
    assert stored.sql("SUMMARIZE images").height == stored.sql("DESCRIBE images").height
    assert stored.sql("EXPLAIN SELECT 1").row(0)[0] == "physical_plan"
    assert stored.sql("SELECT 1 -- one; two").item() == 1


def test_vectors_keep_their_type(stored):
    frame = stored.sql("SELECT vector FROM embeddings__enc WHERE image_id = 'i003'")
    assert frame.schema["vector"] == pl.Array(pl.Float32, DIMENSION)
    assert frame["vector"].to_numpy()[0].tolist() == vectors(12)[3].tolist()


@pytest.mark.parametrize("value", ["it's", "'; DROP TABLE images; --", 'a"b', "?", "$x", "\\"])
def test_values_are_bound(stored, value):
    assert stored.sql("SELECT ? AS v", [value]).item() == value
    assert stored.sql("SELECT $x AS v, $x || 'y' AS w", {"x": value}).row(0) == (value, value + "y")
    assert stored.sql("SELECT * FROM images WHERE label = ?", [value]).is_empty()


def test_number_of_values_must_fit(stored):
    for parameters in ([], [1, 2], {"y": 1}):
        with pytest.raises(CounterstainError, match="SQL: "):
            stored.sql("SELECT ? + 1" if isinstance(parameters, list) else "SELECT $x", parameters)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_of_the_design_can_be_asked(stored, name):
    frame = stored.sql(f"SELECT * FROM {name}")
    assert frame.columns == TABLES[name].schema.names
    assert frame.is_empty() == (name != "images")


def test_unknown_table_says_which_there_are(stored):
    with pytest.raises(
        CounterstainError, match=r"(?s)SQL: .*nope.*Tables: .*corrections, datasets, duplicates, embeddings__enc"
    ):
        stored.sql("SELECT * FROM nope")
    with pytest.raises(CounterstainError, match=r"SQL: .*nope"):
        stored.sql("SELECT nope FROM images")


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("SELECT * FROM image", ["Closest: images"]),
        ("SELECT * FROM embeddings", ["Tables: calibration, calibration_intervals, corrections, datasets"]),
        ("SELECT lable FROM images", ["Closest: label", "Columns of images: dataset, image_id, content_hash"]),
        ("SELECT i.Overlay_Txt FROM images i", ["Closest: overlay_text", "Columns of images: dataset"]),
        (
            "SELECT n.overlay_text FROM neighbors n",
            [
                "A column of that name is in: embeddings__enc, image_attributes, images",
                "Columns of neighbors: dataset, encoder, row, image_id, rank, neighbor_id, distance, same_label, "
                "same_background",
            ],
        ),
        ("WITH a AS (SELECT label AS l FROM images) SELECT zzz FROM a", ["Columns of images: dataset"]),
    ],
)
def test_a_slip_of_the_pen_is_helped(stored, query, lines):
    with pytest.raises(CounterstainError) as raised:
        stored.sql(query)
    told = str(raised.value).splitlines()
    for line in lines:
        assert any(each.startswith(line) for each in told), told


def test_staging_is_hidden(stored):
    assert "staging__enc" in stored.tables(staging=True)
    assert "staging__enc" not in stored.sql("SHOW TABLES")["name"].to_list()
    with pytest.raises(CounterstainError, match="staging__enc"):
        stored.sql("SELECT * FROM staging__enc")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW images",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO images VALUES (1)",
        "DELETE FROM images",
        "DROP VIEW images",
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "PRAGMA enable_profiling",
        "INSTALL httpfs",
        "LOAD httpfs",
        "ATTACH 'x.db'",
        "COPY images TO 'x.csv'",
        "COPY (SELECT 1) TO 'x.csv'",
        "EXPORT DATABASE 'x'",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE COPY images TO 'x.csv'",
        "EXPLAIN ANALYZE ATTACH 'x.db'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "SELECT getenv('HOME')",
    ],
)
def test_nothing_else_is_within_reach(stored, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CounterstainError, match="SQL: "):
        stored.sql(query)
    assert list(tmp_path.iterdir()) == []


def test_python_variables_are_out_of_reach(stored):
    mine = pl.DataFrame({"x": [1]})
    assert mine.height == 1
    for name in ("mine", "stored", "statements", "connection", "warehouse"):
        with pytest.raises(CounterstainError, match="does not exist"):
            stored.sql(f"SELECT * FROM {name}")


def test_one_query_reads_one_moment(warehouse):
    """Each table is as it was when the query was asked, and the next query sees what was written since."""
    for count in (1, 2):
        warehouse.replace_partition(REJECTS, rejects("d", count), dataset="d")
        assert warehouse.sql("SELECT count(*) FROM rejects").item() == count
    warehouse.maintain(older_than=timedelta(0))
    assert warehouse.sql("SELECT count(*) FROM rejects").item() == 2


def test_filter_and_columns_are_pushed_down(stored):
    plan = stored.sql("EXPLAIN SELECT image_id FROM embeddings__enc WHERE label = 'a'").row(0)[1]
    assert plan.index("Arrow Scan") < plan.index("Filters: \"label\" = 'a'") < plan.index("Projections: image_id")
    assert plan.count("╭") == 1, "there is more than the scan"
