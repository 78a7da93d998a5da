"""What was detected fills the flags that nobody gave or corrected, everywhere, and survives a run that dies."""

import polars as pl
import pytest

from store.images import write_images
from store.maintenance import build_indexes
from store.overlays import OverlayPartition
from store.schema import CounterstainError
from tests.store.rows import embed, image_ids, images

COUNT = 6
# The first two without a source, then given, corrected, and detected by an earlier run.
SOURCES = (None, None, "given", "corrected", "detected", None)


def found(image_id, text="LEFT BREAST"):
    image = {
        "image_id": image_id,
        "text_overlay": bool(text),
        "overlay_text": text,
        "overlay_boxes": [[1, 2, 30, 12]] if text else [],
        "annotation": True,
        "annotation_kinds": ["calliper"],
    }
    items = [{"kind": "word", "text": text, "term": text, "box": [1, 2, 30, 12], "confidence": 0.9}] if text else []
    return image, items


def stored(warehouse, table="images"):
    columns = ["image_id", "text_overlay", "text_overlay_source", "overlay_text", "annotation", "annotation_source"]
    return {row[0]: row[1:] for row in warehouse.frame(table).select(columns).sort("image_id").collect().iter_rows()}


@pytest.fixture
def searched(warehouse):
    """Images with flags of every source, embedded, and searched."""
    embed(
        warehouse,
        count=COUNT,
        text_overlay=lambda i: False if SOURCES[i] else None,
        text_overlay_source=lambda i: SOURCES[i],
        overlay_text=lambda i: "mine" if SOURCES[i] == "corrected" else None,
    )
    partition = OverlayPartition(warehouse, "d", "first")
    partition.stage([found(image_id) for image_id in image_ids(COUNT)])
    partition.commit()
    return warehouse


def test_only_what_nobody_gave_or_corrected_is_filled(searched):
    expected = {
        None: (True, "detected", "LEFT BREAST", True, "detected"),
        "given": (False, "given", None, True, "detected"),
        "corrected": (False, "corrected", "mine", True, "detected"),
        "detected": (True, "detected", "LEFT BREAST", True, "detected"),
    }
    for table in ("images", "embeddings__enc"):
        assert stored(searched, table) == {f"i{i:03}": expected[source] for i, source in enumerate(SOURCES)}
    assert searched.sql("SELECT count(*) FROM overlays WHERE kind = 'word'").item() == COUNT


def test_images_read_anew_keep_what_was_detected(searched):
    searched.correct("d", pl.DataFrame({"image_id": ["i000"], "text_overlay": ["no"]}))
    write_images(
        searched, "d", images("d", COUNT, text_overlay=lambda i: None, text_overlay_source=lambda i: None).to_batches()
    )
    for table in ("images", "embeddings__enc"):
        now = stored(searched, table)
        assert now["i000"][:2] == (False, "corrected")
        assert now["i001"] == (True, "detected", "LEFT BREAST", True, "detected")


def test_a_corrected_text_says_that_there_is_text(searched):
    rows = {"image_id": ["i002", "i003"], "overlay_text": ["AXILLA", "AXILLA"], "text_overlay": [None, "no"]}
    searched.correct("d", pl.DataFrame(rows))
    for table in ("images", "embeddings__enc"):
        now = stored(searched, table)
        assert now["i002"][:3] == (True, "corrected", "AXILLA")
        assert now["i003"][:3] == (False, "corrected", None)


def test_no_text_empties_what_goes_with_it_and_yes_brings_it_back(searched):
    def all_of(image_id):
        row = searched.frame("images").filter(pl.col("image_id") == image_id).collect()
        return row.select("overlay_text", "overlay_boxes", "annotation_kinds").row(0)

    no = pl.DataFrame({"image_id": ["i000"], "text_overlay": ["no"], "annotation": ["no"]})
    searched.correct("d", no)
    assert all_of("i000") == (None, None, None)
    OverlayPartition(searched, "d", "first").commit()
    assert all_of("i000") == (None, None, None)
    searched.correct("d", no.with_columns(text_overlay=pl.lit("yes"), annotation=pl.lit("yes")))
    assert all_of("i000") == ("LEFT BREAST", [[1, 2, 30, 12]], ["calliper"])
    searched.correct("d", no)
    searched.correct("d", pl.DataFrame({"image_id": ["i000"], "overlay_text": ["AXILLA"]}))
    assert stored(searched)["i000"][:3] == (True, "corrected", "AXILLA")


def test_a_newer_detector_replaces_what_an_older_one_found(searched):
    partition = OverlayPartition(searched, "d", "second")
    assert partition.searched_ids() == set()
    partition.stage([found(image_id, None) for image_id in image_ids(COUNT)])
    partition.commit()
    assert stored(searched)["i000"] == (False, "detected", None, True, "detected")
    assert searched.frame("overlays").collect().is_empty()


def test_a_run_that_died_is_taken_up(warehouse):
    write_images(warehouse, "d", images("d", 4).to_batches())
    partition = OverlayPartition(warehouse, "d", "first")
    partition.stage([found("i000"), found("i001")])
    with pytest.raises(CounterstainError, match="2 of 4 images of 'd' have not been searched"):
        partition.commit()
    assert not warehouse.has_table("overlays")
    again = OverlayPartition(warehouse, "d", "first")
    assert again.searched_ids() == {"i000", "i001"}
    again.stage([found("i002"), found("i003", None)])
    again.commit()
    assert again.searched_ids() == set(image_ids(4))
    assert sorted(warehouse.frame("overlays").collect()["image_id"]) == ["i000", "i001", "i002"]
    # One more image: what was found on the others is kept, with its items.
    write_images(warehouse, "d", images("d", 5).to_batches())
    again.stage([found("i004")])
    again.commit()
    assert sorted(warehouse.frame("overlays").collect()["image_id"]) == ["i000", "i001", "i002", "i004"]


def test_text_is_searched_by_words(warehouse):
    texts = ["LEFT BREAST", "rt axilla", None, "LT AXILLA C"]
    write_images(warehouse, "d", images("d", 4, overlay_text=lambda i: texts[i]).to_batches())
    write_images(warehouse, "e", images("e", 1, overlay_text=lambda i: "AXILLA").to_batches())
    with pytest.raises(CounterstainError, match="not indexed yet"):
        warehouse.search_text("axilla")
    build_indexes(warehouse, "images")
    assert set(warehouse.search_text("Axilla", dataset="d")["image_id"]) == {"i001", "i003"}
    assert warehouse.search_text("left breast")["overlay_text"].to_list() == ["LEFT BREAST"]
    warehouse.correct("d", pl.DataFrame({"image_id": ["i002", "i001"], "overlay_text": ["axilla", "RIGHT"]}))
    assert set(warehouse.search_text("AXILLA", dataset="d")["image_id"]) == {"i002", "i003"}
    assert warehouse.search_text("axilla", k=1).height == 1
    assert warehouse.search_text("it's) OR (").is_empty()
    with pytest.raises(CounterstainError, match="at least one word"):
        warehouse.search_text(" ")
