"""Names, and cells of a user's table."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.schema import (
    GIVEN_COLUMNS,
    IMAGES,
    TABLES,
    CounterstainError,
    check_dataset_name,
    check_encoder_name,
    embeddings_table,
    parse_cell,
    staging_table,
)


@pytest.mark.parametrize("name", ["d", "9", "BrainMR", "a-b_c.d.e", "a.", "x" * 64])
def test_names_of_data_sets(name):
    assert check_dataset_name(name) == name


@pytest.mark.parametrize("name", ["d", "9", "vit_b_16", "a__b", "x" * 64])
def test_names_of_encoders(name):
    assert check_encoder_name(name) == name


WRONG = [
    "",
    " ",
    "it's",
    'a"b',
    "a/b",
    "a\\b",
    "a|b",
    "..",
    ".",
    ".a",
    "-a",
    "_a",
    "x" * 65,
    "é",
    "٣",
    "a b",
    "a\n",
    "\na",
]


@pytest.mark.parametrize("name", [*WRONG, "a,b", "a:b", "a*", "a..b", "a..."])
def test_names_that_are_no_data_sets(name):
    with pytest.raises(CounterstainError, match="cannot name a data set: use 1 to 64 letters"):
        check_dataset_name(name)


@pytest.mark.parametrize("name", [*WRONG, "A", "a-b", "a.b"])
def test_names_that_are_no_encoders(name):
    with pytest.raises(CounterstainError, match="cannot name an encoder: use 1 to 64 lower-case"):
        check_encoder_name(name)
    with pytest.raises(CounterstainError):
        embeddings_table(name, 4)
    with pytest.raises(CounterstainError):
        staging_table(name, 4)


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_the_design(name):
    spec = TABLES[name]
    assert spec.name == name
    assert set(spec.key) <= set(spec.schema.names)
    assert set(spec.partition) <= set(spec.key)
    assert len(set(spec.schema.names)) == len(spec.schema.names)
    assert [f.name for f in spec.schema if not f.nullable] == [n for n in spec.schema.names if n in spec.key]


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("label", " benign ", "benign"),
        ("label", "a;b", "a;b"),
        ("label", "1", "1"),
        ("text_overlay", "true", True),
        ("text_overlay", " YES ", True),
        ("text_overlay", "1", True),
        ("annotation", "False", False),
        ("annotation", "no", False),
        ("annotation", "0", False),
        ("annotation_kinds", "arrow; caliper ;;", ["arrow", "caliper"]),
        ("annotation_kinds", ";", []),
        ("lesion_box", "[1, 2, 3, 4]", [1, 2, 3, 4]),
        ("overlay_boxes", "[[1,2,3,4],[5,6,7,8]]", [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ("overlay_boxes", "[]", []),
    ],
)
def test_cells(column, text, value):
    assert parse_cell(column, text) == value


@pytest.mark.parametrize("column", [*GIVEN_COLUMNS, "caption", "lesion_box", "overlay_boxes"])
@pytest.mark.parametrize("text", [None, "", " ", "\t\n"])
def test_empty_cells(column, text):
    assert parse_cell(column, text) is None


@pytest.mark.parametrize("text", ["maybe", "2", "t", "true false", "-1", "nan"])
def test_cells_that_are_no_flags(text):
    with pytest.raises(CounterstainError, match=r"column 'annotation': .* is not a flag; write true or false"):
        parse_cell("annotation", text)


NO_BOX = [
    "1,2,3,4", "[1,2,3]", "[1,2,3,4,5]", "[1,2,3,4.5]", "[1,2,3,4.0]", "[1,2,3,true]", "[1,2,3,null]",
    '["1","2","3","4"]', '"1234"', '{"a":1,"b":2,"c":3,"d":4}', "null", "7", "[1,2,3,2147483648]", "[1,2,3,NaN]",
    "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", [*NO_BOX, "[]", "[[1,2,3,4]]"], ids=lambda text: text[:20])
def test_cells_that_are_no_box(text):
    with pytest.raises(CounterstainError, match=r"column 'lesion_box': .* is not \[x0, y0, x1, y1\] in whole pixels"):
        parse_cell("lesion_box", text)


@pytest.mark.parametrize(
    "text", [*NO_BOX, *(f"[{text}]" for text in NO_BOX), "[1,2,3,4]", "{}", '""', "[[]]"], ids=lambda text: text[:20]
)
def test_cells_that_are_no_boxes(text):
    with pytest.raises(CounterstainError, match=r"column 'overlay_boxes': .* is not \[\[x0, y0, x1, y1\], …\] in"):
        parse_cell("overlay_boxes", text)


@settings(deadline=None)  # the machine may be busy
@given(st.sampled_from([*GIVEN_COLUMNS, "caption", "lesion_box", "overlay_boxes"]), st.text(max_size=30))
def test_any_text_fits_its_column_or_is_refused(column, text):
    try:
        value = parse_cell(column, text)
    except CounterstainError:
        return
    assert pa.array([value], IMAGES.schema.field(column).type).to_pylist() == [value]


coordinate = st.integers(-(2**31) + 1, 2**31 - 1)


@settings(deadline=None)
@given(st.lists(st.lists(coordinate, min_size=4, max_size=4)))
def test_boxes_come_back(boxes):
    assert parse_cell("overlay_boxes", json.dumps(boxes)) == boxes
    for box in boxes:
        assert parse_cell("lesion_box", json.dumps(box)) == box
    assert pa.array([boxes], IMAGES.schema.field("overlay_boxes").type).to_pylist() == [boxes]
