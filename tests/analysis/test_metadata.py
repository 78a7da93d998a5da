"""What of an image's metadata is read as background."""

import json

import polars as pl

from analysis.metadata import background_attributes, group_codes
from store.schema import METADATA_FIELDS


def images(**attributes: list[str | None]) -> pl.DataFrame:
    """Return metadata rows that have nothing but free attributes."""
    n = len(next(iter(attributes.values())))
    rows = [{name: values[i] for name, values in attributes.items() if values[i] is not None} for i in range(n)]
    empty = {field.name: [None] * n for field in METADATA_FIELDS if field.name != "attributes"}
    return pl.DataFrame({**empty, "attributes": [json.dumps(row) for row in rows]})


def test_further_labels_are_no_background() -> None:
    frame = images(
        stain=["pale", "dark"] * 20,
        **{
            "label:subtype": ["ductal", "lobular"] * 20,
            "label:all": ["a;b", "c"] * 20,
            "labelling lab": ["x", "y"] * 20,
        },
    )
    assert set(background_attributes(frame)) == {"stain", "labelling lab"}
    assert set(background_attributes(frame, ["stain"])) == {"labelling lab"}


def test_an_attribute_may_tie_images_together() -> None:
    frame = images(lesion=["a", "a", None, "b"], source=["x", "y", "x", "x"])
    codes = group_codes(frame, ["1", "2", "3", "4"], ["lesion"])
    assert codes[0] == codes[1]
    assert len(set(codes)) == 3
