"""Findings, as polars frames, become partitions."""

import polars as pl
import pytest

from store.results import write_results
from store.schema import LAYOUT_QUALITY

QUALITY = pl.DataFrame(
    {
        "n_neighbors": [5, 15],
        "n_neighbors_requested": [5, 15],
        "min_dist": [0.1, 0.1],
        "metric": ["it's", None],
        "value": [0.5, None],
        "n": [9, 9],
        "seed": [0, 0],
    }
)


def test_a_frame_becomes_a_partition(warehouse):
    for encoder in ("one", "two"):
        write_results(warehouse, LAYOUT_QUALITY, QUALITY.reverse(), dataset="d", encoder=encoder)
    write_results(warehouse, LAYOUT_QUALITY, QUALITY, dataset="d", encoder="one")
    stored = warehouse.frame("layout_quality").filter(pl.col("encoder") == "one").sort("row").collect()
    assert stored["row"].to_list() == [0, 1]
    assert stored.select(QUALITY.columns).rows() == QUALITY.rows()
    assert warehouse.frame("layout_quality").collect().height == 4


def test_an_empty_frame_empties_it(warehouse):
    for rows in (QUALITY, QUALITY.clear()):
        write_results(warehouse, LAYOUT_QUALITY, rows, dataset="d", encoder="one")
    assert warehouse.frame("layout_quality").collect().is_empty()


@pytest.mark.parametrize("rows", [QUALITY.drop("seed"), QUALITY.with_columns(other=1), QUALITY.rename({"n": "m"})])
def test_other_columns_are_refused(warehouse, rows):
    with pytest.raises(ValueError, match="columns missing or left over"):
        write_results(warehouse, LAYOUT_QUALITY, rows, dataset="d", encoder="one")
    assert warehouse.tables() == []


def test_partition_must_be_named(warehouse):
    with pytest.raises(ValueError, match="left over"):
        write_results(warehouse, LAYOUT_QUALITY, QUALITY, dataset="d")
    with pytest.raises(ValueError, match="partitioned by"):
        write_results(warehouse, LAYOUT_QUALITY, QUALITY.with_columns(encoder=pl.lit("one")), dataset="d")
