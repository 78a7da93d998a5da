"""What is known of an image can be corrected everywhere, without encoding again."""

import polars as pl
import pytest

from store import open_warehouse
from store.images import read_metadata, refresh_metadata, resolve_image_ids, write_images
from store.schema import GIVEN_COLUMNS, IMAGES, CounterstainError
from tests.store.rows import embed, images


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """A warehouse in which nothing must be stored."""
    warehouse = open_warehouse(tmp_path_factory.mktemp("unchanged"))
    embed(warehouse)
    return warehouse


def known(warehouse, table, image_id, dataset="d"):
    where = (pl.col("dataset") == dataset) & (pl.col("image_id") == image_id)
    return warehouse.frame(table).filter(where).collect().row(0, named=True)


@pytest.mark.parametrize("named_by", ["image_id", "uri"])
def test_corrected_everywhere_and_vectors_untouched(warehouse, named_by):
    embed(warehouse)
    embed(warehouse, encoder="other", seed=1)
    before = {encoder: warehouse.vectors(encoder, "d").vectors.tobytes() for encoder in ("enc", "other")}
    names = {"image_id": ["i004", "i001"], "uri": ["d/i004.png", "d/i001.png"]}[named_by]
    corrections = pl.DataFrame(
        {
            named_by: names,
            "text_overlay": ["yes", "TRUE"],
            "label": ["it's new", "b"],
            "annotation_kinds": ["a; b", None],
        }
    )
    assert warehouse.correct("d", corrections) == 2
    for table in ("images", "embeddings__enc", "embeddings__other"):
        row = known(warehouse, table, "i004")
        assert (row["text_overlay"], row["text_overlay_source"], row["label"]) == (True, "corrected", "it's new")
        assert (row["annotation_kinds"], row["annotation_source"]) == (["a", "b"], "corrected")
        row = known(warehouse, table, "i001")
        assert (row["text_overlay"], row["text_overlay_source"], row["label"]) == (True, "corrected", "b")
        assert (row["annotation_kinds"], row["annotation_source"]) == (None, None)
    for encoder in ("enc", "other"):
        matrix = warehouse.vectors(encoder, "d")
        assert matrix.vectors.tobytes() == before[encoder]
        assert matrix.images.filter(pl.col("image_id") == "i004")["label"].item() == "it's new"
        found = warehouse.search(encoder, "i000", where="text_overlay_source = 'corrected'", k=99)
        assert sorted(found["image_id"]) == ["i001", "i004"]
    assert warehouse.sql("SELECT image_id FROM embeddings__enc WHERE label = 'it''s new'").item() == "i004"


def test_nothing_else_changes(warehouse):
    embed(warehouse)
    embed(warehouse, "e")
    before = {t: warehouse.frame(t).sort("dataset", "image_id").collect() for t in ("images", "embeddings__enc")}
    assert warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "label": ["new"]})) == 1
    for table, frame in before.items():
        after = warehouse.frame(table).sort("dataset", "image_id").collect()
        at = pl.col("image_id") == "i003", pl.col("dataset") == "d"
        assert after.filter(*at)["label"].item() == "new"
        assert after.with_columns(label=pl.when(*at).then(pl.lit("b")).otherwise("label")).equals(frame)


def test_null_and_empty_cells_leave_the_value(warehouse):
    embed(warehouse)
    corrections = pl.DataFrame({"image_id": ["i000", "i001"], "label": [None, " "], "view": ["front", None]})
    assert warehouse.correct("d", corrections) == 1
    assert known(warehouse, "images", "i000")["label"] == "a"
    assert known(warehouse, "images", "i001") == known_row(1)
    assert known(warehouse, "images", "i000") == {**known_row(0), "view": "front"}
    assert warehouse.correct("d", pl.DataFrame({"image_id": ["i000"], "label": [None]})) == 0
    assert warehouse.frame("corrections").collect().height == 1


def known_row(i):
    return pl.DataFrame(images("d", i + 1)).row(i, named=True)


def test_survive_that_the_images_are_written_again(warehouse):
    embed(warehouse)
    warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "label": ["new"], "text_overlay": [False]}))
    warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "label": ["newer"]}))
    embed(warehouse, count=15, seed=2)
    for table in ("images", "embeddings__enc"):
        row = known(warehouse, table, "i003")
        assert (row["label"], row["text_overlay"], row["text_overlay_source"]) == ("newer", False, "corrected")
        assert known(warehouse, table, "i004")["label"] == "a"


def test_image_that_went_away_and_came_back(warehouse):
    embed(warehouse)
    warehouse.correct("d", pl.DataFrame({"image_id": ["i011"], "label": ["new"]}))
    write_images(warehouse, "d", images("d", 3).to_batches())
    assert warehouse.frame("images").collect().height == 3
    write_images(warehouse, "d", images("d", 12).to_batches())
    assert known(warehouse, "images", "i011")["label"] == "new"


def test_made_while_the_images_are_being_written(warehouse):
    embed(warehouse)

    def slowly():
        yield from images("d", 6).to_batches()
        warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "label": ["new"]}))
        yield from images("d", 12).slice(6).to_batches()

    version = write_images(warehouse, "d", slowly())
    assert known(warehouse, "images", "i003")["label"] == "new"
    assert version == warehouse.versions()["images"]


def test_made_while_vectors_are_being_committed(warehouse, monkeypatch):
    embed(warehouse)
    read = read_metadata

    def read_then_correct(*args):
        frame = read(*args)
        monkeypatch.setattr("store.embeddings.read_metadata", read)
        warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "label": ["new"]}))
        return frame

    monkeypatch.setattr("store.embeddings.read_metadata", read_then_correct)
    embed(warehouse, seed=3)
    assert known(warehouse, "embeddings__enc", "i003")["label"] == "new"


def test_of_one_data_set_does_not_touch_another(warehouse):
    embed(warehouse, "d")
    embed(warehouse, "e")
    warehouse.correct("d", pl.DataFrame({"image_id": ["i003"], "label": ["new"]}))
    write_images(warehouse, "e", images("e", 12).to_batches())
    for table in ("images", "embeddings__enc"):
        assert known(warehouse, table, "i003", "d")["label"] == "new"
        assert known(warehouse, table, "i003", "e")["label"] == "b"


@pytest.mark.parametrize(
    ("column", "cells", "expected"),
    [
        ("label", [3, 4], ["3", "4"]),
        ("text_overlay", [0, 1], [False, True]),
        ("text_overlay", [True, False], [True, False]),
        ("annotation", ["no", "1"], [False, True]),
        ("annotation_kinds", [["x"], []], [["x"], []]),
        ("overlay_text", ["a;b", "true"], ["a;b", "true"]),
    ],
)
def test_cells_as_they_come_out_of_a_csv(warehouse, column, cells, expected):
    embed(warehouse)
    warehouse.correct("d", pl.DataFrame({"image_id": ["i000", "i001"], column: cells}))
    for table in ("images", "embeddings__enc"):
        assert [known(warehouse, table, i)[column] for i in ("i000", "i001")] == expected


def test_every_given_column_can_be_corrected(warehouse):
    embed(warehouse)
    cells = {c: "true" if IMAGES.schema.field(c).type == "bool" else "word" for c in GIVEN_COLUMNS}
    warehouse.correct("d", pl.DataFrame({"image_id": ["i001"], **{c: [text] for c, text in cells.items()}}))
    row = known(warehouse, "embeddings__enc", "i001")
    assert all(row[c] in (True, "word", ["word"]) for c in GIVEN_COLUMNS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"image_id": ["i000"], "thumbnail": ["x"]}, "cannot correct .'thumbnail'.: correctable columns"),
        ({"image_id": ["i000"], "text_overlay_source": ["given"]}, "cannot correct"),
        ({"image_id": ["i000", "zz"], "label": ["x", "y"]}, "1 of 2 rows name no image of data set 'd' by image_id"),
        ({"uri": ["i000"], "label": ["x"]}, "name no image of data set 'd' by uri"),
        ({"image_id": [None], "label": ["x"]}, "name no image"),
        ({"image_id": ["i000", "i000"], "label": ["x", "y"]}, "'i000' is named by more than one row"),
        ({"name": ["i000"], "label": ["x"]}, "cannot correct"),
        ({"label": ["x"]}, "needs a column 'image_id' or 'uri'"),
        ({"image_id": ["i000"], "label": ["x"], "text_overlay": ["maybe"]}, "'maybe' is not a flag"),
        ({"image_id": ["i000"], "label": [["x"]]}, "column 'label'"),
        ({"image_id": ["i000"], "annotation_kinds": [[1]]}, "column 'annotation_kinds'"),
    ],
)
def test_refused_whole(unchanged, table, message):
    before = unchanged.versions()
    with pytest.raises(CounterstainError, match=message):
        unchanged.correct("d", pl.DataFrame(table))
    assert unchanged.versions() == before


def test_data_set_without_images(warehouse):
    with pytest.raises(CounterstainError, match="no images of data set 'd' yet"):
        warehouse.correct("d", pl.DataFrame({"image_id": ["i000"], "label": ["x"]}))


def test_images_are_resolved_in_the_tables_order(unchanged):
    assert resolve_image_ids(unchanged, "d", pl.DataFrame({"uri": ["d/i007.png", "d/i002.png"]})) == ["i007", "i002"]


def test_refresh_takes_over_what_images_say_and_only_where_it_differs(warehouse, monkeypatch):
    embed(warehouse)
    refresh_metadata(warehouse, "enc", "d")
    version = warehouse.versions()["embeddings__enc"]
    updated = []
    update = type(warehouse).update_columns
    monkeypatch.setattr(
        type(warehouse), "update_columns", lambda self, spec, rows: updated.append(rows) or update(self, spec, rows)
    )
    # From null, to null, and to another value.
    write_images(warehouse, "d", images("d", 12, slide=lambda i: "s" if i == 5 else None).to_batches())
    write_images(
        warehouse,
        "d",
        images(
            "d", 12, slide=lambda i: "s" if i == 5 else None, label=lambda i: None if i == 3 else "ab"[i % 2]
        ).to_batches(),
    )
    refresh_metadata(warehouse, "enc", "d")
    assert [rows["image_id"].to_pylist() for rows in updated] == [["i005"], ["i003"]]
    assert warehouse.versions()["embeddings__enc"] == version + 2
    assert known(warehouse, "embeddings__enc", "i003")["label"] is None
    assert known(warehouse, "embeddings__enc", "i005")["slide"] == "s"
