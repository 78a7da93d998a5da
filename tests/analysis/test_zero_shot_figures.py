"""Pictures of zero-shot answers."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from analysis.figures import over_prediction_figure, reliability_figure

# Were it parsed as a formula it would raise, being none; and no font here has the last two.
HOSTILE = "$\\frac{x$ 100 % _^{ \x07 乳腺"


def bins(sets: tuple[str, ...] = ("bare",), rules: tuple[str, ...] = ("highest cosine",)) -> pl.DataFrame:
    rows = [
        (name, rule, i / 15, (i + 1) / 15, 10 + i, (i + 0.5) / 15, min(1.0, i / 10))
        for name in sets
        for rule in rules
        for i in range(15)
    ]
    columns = ["prompt_set", "rule", "bin_low", "bin_high", "n", "confidence", "accuracy"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def over(labels: tuple[str, ...] = ("benign", "malignant"), value: float = 2.0) -> pl.DataFrame:
    rows = [(rule, label, value, value * 0.8, value * 1.3, 12) for rule in ("one", "two") for label in labels]
    columns = ["rule", "label", "value", "ci_low", "ci_high", "n"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def drawn(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_a_reliability_diagram_is_drawn_for_every_set_and_rule() -> None:
    one = drawn(reliability_figure(bins(), title="x"))
    many = drawn(reliability_figure(bins(("a", "b"), ("p", "q", "r", "s")), title="x"))
    assert many.shape[0] > 1.5 * one.shape[0]
    assert many.shape[1] > 2 * one.shape[1]
    moved = drawn(reliability_figure(bins().with_columns(accuracy=pl.lit(0.5)), title="x"))
    assert (moved != one).any()


def test_over_prediction_is_drawn_where_nothing_is_predicted_and_where_there_is_no_interval() -> None:
    some = over()
    never = some.with_columns(value=pl.when(pl.col("label") == "benign").then(0.0).otherwise("value"))
    without = some.with_columns(ci_low=pl.lit(None, pl.Float64), ci_high=pl.lit(None, pl.Float64))
    pictures = [over_prediction_figure(each, title="x") for each in (some, never, without)]
    assert len({hash(png) for png in pictures}) == 3
    taller = drawn(over_prediction_figure(over(tuple(map(str, range(20)))), title="x"))
    assert taller.shape[0] > drawn(pictures[0]).shape[0]


def test_names_are_no_markup() -> None:
    reliability_figure(bins((HOSTILE,), (HOSTILE,)), title=HOSTILE)
    over_prediction_figure(over((HOSTILE, "b" * 300)), title=HOSTILE)


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(ValueError, match="no rows"):
        reliability_figure(bins().clear(), title="x")
    with pytest.raises(ValueError, match="no rows"):
        over_prediction_figure(over().with_columns(value=pl.lit(None, pl.Float64)), title="x")
    with pytest.raises(ValueError, match="lacks the columns"):
        over_prediction_figure(over().drop("rule"), title="x")
