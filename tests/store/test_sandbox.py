"""The table that a browser may query as it likes."""

import threading

import polars as pl
import pyarrow as pa
import pytest

from store.sandbox import QueryError, Sandbox


@pytest.fixture
def sandbox():
    return Sandbox(pl.DataFrame({"image_id": ["a", "b", "c"], "label": ["x", "y", None]}))


def rows(sandbox, query):
    return pa.ipc.open_stream(sandbox.answer(query)).read_all().to_pylist()


def test_rows_are_numbered_in_their_order(sandbox):
    assert rows(sandbox, "SELECT __row_index__ AS row, image_id FROM dataset") == [
        {"row": 0, "image_id": "a"}, {"row": 1, "image_id": "b"}, {"row": 2, "image_id": "c"},
    ]  # fmt: skip


def test_columns_are_added_and_replaced_in_place(sandbox):
    sandbox.add_columns(pl.DataFrame({"x": [1.0, 2.0, 3.0]}))
    sandbox.add_columns(pl.DataFrame({"x": [4.0, 5.0, 6.0], "with space": [1, 2, 3]}))
    assert rows(sandbox, 'SELECT x, "with space" AS s FROM dataset') == [
        {"x": 4.0, "s": 1}, {"x": 5.0, "s": 2}, {"x": 6.0, "s": 3},
    ]  # fmt: skip
    assert [row["column_name"] for row in rows(sandbox, "DESCRIBE dataset")] == [
        "__row_index__", "image_id", "label", "x", "with space",
    ]  # fmt: skip


def test_a_viewer_may_add_columns_of_its_own(sandbox):
    sandbox.answer("ALTER TABLE dataset ADD COLUMN c INTEGER DEFAULT 0; UPDATE dataset SET c = 7")
    assert rows(sandbox, "CREATE SCHEMA mine") == []
    sandbox.add_columns(pl.DataFrame({"x": [1, 2, 3]}))
    assert rows(sandbox, "SELECT sum(c) AS c, sum(x) AS x FROM dataset") == [{"c": 21, "x": 6}]


def test_columns_of_any_name_stay(sandbox):
    sandbox.answer('ALTER TABLE dataset ADD COLUMN "a "" b" INTEGER DEFAULT 1')
    sandbox.add_columns(pl.DataFrame({'c " d': [1, 2, 3]}))
    sandbox.add_columns(pl.DataFrame({"LABEL": ["z", "z", "z"]}))
    assert rows(sandbox, 'SELECT label, sum("a "" b") AS a, sum("c "" d") AS c FROM dataset GROUP BY label') == [
        {"LABEL": "z", "a": 3, "c": 6}
    ]


def test_a_predicate_chooses_rows(sandbox):
    assert sandbox.chosen("image_id", "label = 'x' OR label IS NULL -- both") == ["a", "c"]


@pytest.mark.parametrize("predicate", ["nonsense", "label =", ""])
def test_a_predicate_that_is_none_is_refused(sandbox, predicate):
    with pytest.raises(QueryError):
        sandbox.chosen("image_id", predicate)


def test_nothing_else_is_within_reach(sandbox, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    visible = pl.DataFrame({"in_python": [1]})
    for query in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"COPY dataset TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'new.db'}'",
        "INSTALL httpfs",
        "SELECT * FROM visible",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
    ):
        with pytest.raises(QueryError):
            sandbox.answer(query)
    assert visible.height == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_threads_take_turns(sandbox):
    failures = []

    def ask(number):
        try:
            for _ in range(20):
                assert rows(sandbox, f"SELECT {number} AS n, count(*) AS c FROM dataset") == [{"n": number, "c": 3}]
                sandbox.add_columns(pl.DataFrame({f"c{number}": [1, 2, 3]}))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
