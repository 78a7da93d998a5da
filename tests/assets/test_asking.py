"""Questions in SQL on the command line: from where they come, and in which form they are answered."""

import json
from pathlib import Path

import polars as pl
import pytest

from assets.printing import as_text
from store import Warehouse, open_warehouse
from tests.assets.test_cli import run
from tests.store.rows import embed

COUNTS = "SELECT label, count(*) AS n FROM images WHERE dataset = $dataset GROUP BY label ORDER BY label"
ANSWER = [{"label": "a", "n": 6}, {"label": "b", "n": 6}]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse that is only read."""
    warehouse = open_warehouse(tmp_path_factory.mktemp("asking"))
    embed(warehouse, "it's", 12)
    embed(warehouse, "other", 3)
    return warehouse


def test_a_query_in_a_file_with_a_bound_value(stored: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "counts.sql").write_text(f"-- images of each class\n{COUNTS};\n")
    words = ["sql", "--file", str(tmp_path / "counts.sql"), "--param", "dataset=it's"]
    assert json.loads(run(stored.uri, *words, "--json").stdout) == ANSWER
    assert run(stored.uri, *words, "--csv").stdout == "label,n\na,6\nb,6\n"
    assert run(stored.uri, *words, "--parquet", str(tmp_path / "a.parquet")).stdout.endswith("a.parquet: 2 rows\n")
    assert pl.read_parquet(tmp_path / "a.parquet").to_dicts() == ANSWER
    table = run(stored.uri, *words).stdout
    assert [line.split() for line in table.splitlines()[3:5]] == [["│", "a", "6", "│"], ["│", "b", "6", "│"]]


def test_a_query_from_standard_input(stored: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from assets import asking

    monkeypatch.setattr(
        "sys.stdin", io.StringIO("SELECT count(*) FROM images WHERE image_id < $id AND width_px IS NULL")
    )
    assert asking.ask(stored, None, Path("-"), ["id=i003"]).item() == 6


def test_values_are_read_as_what_they_are_compared_with(stored: Warehouse) -> None:
    query = "SELECT count(*) AS n FROM images WHERE text_overlay = $flag AND octet_length(thumbnail) = $size"
    done = run(stored.uri, "sql", query, "--param", "flag=true", "--param", "size=1", "--json")
    assert json.loads(done.stdout) == [{"n": 5}]
    done = run(stored.uri, "sql", "SELECT $v AS v", "--param", "v==1=' OR TRUE", "--json")
    assert json.loads(done.stdout) == [{"v": "=1=' OR TRUE"}]


def test_the_dictionary(stored: Warehouse) -> None:
    told = run(stored.uri, "sql", "--tables").stdout
    assert "images (15 rows): an image and what is known of it\n" in told
    assert "embeddings__enc (15 rows): an image's vector from one encoder" in told
    of_rejects = run(stored.uri, "sql", "--tables", "rejects").stdout
    assert of_rejects.splitlines() == [
        "rejects (0 rows): a file that could not be read",
        "  dataset  VARCHAR  data set",
        "  uri      VARCHAR  path of the file within the data set",
        "  reason   VARCHAR  why not",
    ]
    rows = json.loads(run(stored.uri, "sql", "--tables", "rejects", "--json").stdout)
    assert [row["column"] for row in rows] == ["dataset", "uri", "reason"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one SELECT"),
        (["SELECT 1", "--file", "x.sql"], "give one SELECT"),
        (["--file", "none.sql"], "cannot read none.sql as SQL"),
        (["SELECT $x", "--param", "x"], "--param 'x': write name=value"),
        (["SELECT $x", "--param", "1=2"], "--param '1=2': write name=value"),
        (["SELECT $x", "--param", "y=2"], "SQL: "),
        (["SELECT 1", "--json", "--csv"], "one of --json, --csv and --parquet"),
        (["SELECT 1", "--parquet", "no/such/folder.parquet"], "cannot write no/such/folder.parquet"),
        (["--tables", "nope"], "no table 'nope'"),
    ],
)
def test_refused(stored: Warehouse, words: list[str], message: str) -> None:
    assert message in run(stored.uri, "sql", *words, ok=False).message


def test_what_cannot_be_read_on_a_screen_is_not_printed() -> None:
    text = as_text(pl.DataFrame({"word": ["AX\x1b[2JILLA", None], "thumbnail": [b"\xff" * 3, None], "n": [1, 20]}))
    assert "AX\\x1b[2JILLA" in text
    assert "<3 bytes>" in text
    assert "\x1b" not in text
    assert [line[-4:] for line in text.splitlines()[3:5]] == [" 1 │", "20 │"]
