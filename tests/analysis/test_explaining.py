import pytest

from analysis.explaining import SCHEMA, what_neighbors_share


def test_what_is_shared_beyond_chance_comes_first():
    labels = ["benign", "malignant", "normal", None, *["benign"] * 6]
    words = ["AXILLA", "AXILLA", "AXILLA", None, *["BREAST"] * 6]
    side = ["left", "right"] * 5
    found = what_neighbors_share([0, 1, 2, 3], labels, {"overlay_text": words, "side": side})
    assert found.schema == SCHEMA
    first = found.row(0, named=True)
    assert (first["attribute"], first["value"]) == ("overlay_text", "AXILLA")
    assert (first["neighbors"], first["of"]) == (3, 3)
    assert first["share_in_data_set"] == pytest.approx(1 / 3)
    assert first["labels"] == "benign 1, malignant 1, normal 1"
    sides = found.filter(attribute="side")
    assert sides["share"].to_list() == sides["share_in_data_set"].to_list() == [0.5, 0.5]
    assert sides["labels"].to_list() == ["benign 1, normal 1", "malignant 1, unknown 1"]
    assert what_neighbors_share([], labels, {}).is_empty()
