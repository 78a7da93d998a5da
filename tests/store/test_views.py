"""Named views: kept, read in SQL by name, searched within, forgotten."""

import polars as pl
import pytest

from store import open_warehouse
from store.schema import NAMED_VIEWS, CounterstainError
from store.views import remove_view, save_view, view_members, view_names, within_view

from .rows import embed, image_ids

IDS = image_ids(12)


@pytest.fixture
def filled(warehouse):
    embed(warehouse, "d", 12)
    embed(warehouse, "other", 12)
    return warehouse


def test_a_view_is_a_table_of_its_images(filled):
    assert save_view(filled, "axilla", "d", [IDS[3], IDS[1], IDS[3]], "text_overlay") == 2
    answer = filled.sql("SELECT dataset, image_id, label FROM axilla ORDER BY image_id")
    assert answer.rows() == [("d", IDS[1], "b"), ("d", IDS[3], "b")]
    assert filled.sql("SELECT * FROM axilla").columns == filled.sql("SELECT * FROM images").columns
    [(predicate, saved_at)] = filled.frame("named_views").select("predicate", "saved_at").collect().rows()
    assert predicate == "text_overlay"
    assert saved_at.tzinfo is not None
    assert view_names(filled, "d") == ["axilla"]
    assert view_names(filled, "other") == []


def test_a_view_follows_corrections(filled):
    save_view(filled, "few", "d", IDS[:2], "")
    filled.correct("d", pl.DataFrame({"image_id": [IDS[0]], "label": ["c"]}))
    assert filled.sql("SELECT label FROM few ORDER BY image_id")["label"].to_list() == ["c", "b"]


def test_search_stays_within_a_view(filled):
    save_view(filled, "few", "d", IDS[:6], "")
    found = filled.search("enc", IDS[0], where=within_view(filled, "few"), k=12)
    assert set(found.select("dataset", "image_id").rows()) == {("d", each) for each in IDS[1:6]}
    labelled = filled.search("enc", IDS[0], where=within_view(filled, "few", "label = 'a' OR label = 'b' -- all"), k=12)
    assert labelled.height == 5
    assert filled.search("enc", IDS[0], where=within_view(filled, "few", "label = 'a'"), k=12).height == 2


def test_a_filter_cannot_leave_its_parentheses(filled):
    save_view(filled, "few", "d", IDS[:2], "")
    with pytest.raises(CounterstainError, match="filter"):
        within_view(filled, "few", "false) OR (true")


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "1a", "a__b", "x" * 64, "images", "named_views", "select", "left", "a;b"]
)
def test_a_name_must_be_fit_for_a_table(filled, name):
    with pytest.raises(CounterstainError, match="cannot name a view"):
        save_view(filled, name, "d", IDS, "")


def test_a_name_is_given_once(filled):
    save_view(filled, "few", "d", IDS[:2], "")
    with pytest.raises(CounterstainError, match="already"):
        save_view(filled, "few", "d", IDS[:3], "")
    assert view_members(filled, "few") == ("d", IDS[:2])
    remove_view(filled, "few")
    assert save_view(filled, "few", "other", IDS[:3], "") == 3
    assert view_members(filled, "few") == ("other", IDS[:3])


def test_what_cannot_be_a_view(filled):
    with pytest.raises(CounterstainError, match="no image is selected"):
        save_view(filled, "empty", "d", [], "")
    with pytest.raises(CounterstainError, match="has no image 'zz'"):
        save_view(filled, "empty", "d", [IDS[0], "zz"], "")
    with pytest.raises(CounterstainError, match="no view 'empty'; views: none yet"):
        remove_view(filled, "empty")


def test_views_of_the_past_are_read_as_of_then(filled):
    save_view(filled, "few", "d", IDS[:2], "")
    filled.tag("then")
    save_view(filled, "more", "d", IDS[:4], "")
    past = open_warehouse(filled.uri, as_of="then")
    assert past.sql("SELECT count(*) AS n FROM few")["n"].item() == 2
    with pytest.raises(CounterstainError, match="more"):
        past.sql("SELECT * FROM more")


def test_a_stored_name_that_is_no_name_reaches_no_sql(filled):
    save_view(filled, "few", "d", IDS[:2], "")
    hostile = 'x" AS SELECT 1; CREATE TABLE evil AS SELECT 1 --'
    row = {"name": hostile, "dataset": "d", "image_ids": IDS[:1], "predicate": "", "saved_at": None}
    filled.upsert(NAMED_VIEWS, [row])
    assert filled.sql("SELECT count(*) AS n FROM few")["n"].item() == 2
    assert view_names(filled, "d") == ["few"]
