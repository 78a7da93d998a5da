"""The report's parts on zero-shot and retrieval, from what the analyses return."""

import re

import numpy as np
import polars as pl
import pytest

from analysis.report.section import CellPlace
from analysis.report.sections import retrieval, zero_shot
from analysis.report.tables import ReportTables
from analysis.zero_shot.evaluate import Images, Prompts, evaluate

CELL = CellPlace("set", "enc")
NAMES = {"dataset": pl.lit("set"), "encoder": pl.lit("enc")}
HOSTILE = "<b>bare"


def said(part, frames: dict[str, pl.DataFrame], cell: CellPlace = CELL) -> tuple[str, int]:
    """Return a part's words, cells of tables ended by a bar, and how many pictures it has."""
    html = "".join(block.__html__() for block in part.make(ReportTables(frames), cell))
    assert "<b>bare" not in html
    return re.sub(r"<[^>]+>", "", html.replace("</td>", "|").replace("</tr>", "\n")), html.count("<img ")


@pytest.fixture(scope="module")
def answered() -> dict[str, pl.DataFrame]:
    """Answers to 60 images of two classes, which a word moves, and of two labels."""
    rng = np.random.default_rng(0)
    truth, word = np.arange(60) % 2, np.arange(60) // 2 % 2
    vectors = np.eye(2, 4)[truth] + np.outer(word, [0, 2, 0, 0]) + 0.1 * rng.normal(size=(60, 4))
    prompts = Prompts(
        np.concatenate([np.eye(2, 4), -np.eye(2, 4)]), ["a", "b"] * 2, np.array([False] * 2 + [True] * 2), 10, 0
    )
    images = Images(
        vectors, ["ab"[c] for c in truth], ["ab"[c] for c in truth], [None] * 60, np.arange(60),
        {"overlay_text": ["AXILLA" if w else "BREAST" for w in word]},
    )  # fmt: skip
    found = evaluate(images, {HOSTILE: prompts}, seed=0)
    return {
        "zero_shot_scores": found.scores.with_columns(**NAMES),
        "zero_shot_reliability": found.reliability.with_columns(**NAMES),
    }


def test_zero_shot_answers_and_what_moves_them_are_tables(answered: dict[str, pl.DataFrame]) -> None:
    words, pictures = said(zero_shot.PART, answered)
    scores = answered["zero_shot_scores"]
    whole = scores.filter(pl.col("label").is_null(), stratum="all", rule="highest cosine", split="all")
    value = dict(whole.select("metric", "value").iter_rows())["balanced_accuracy"]
    [line] = re.findall(rf"&lt;b&gt;bare\|({value:.2f} .*)\|60\|", words)
    assert " vs 0.50" in line
    for rule in ("inner product &gt; 0", "logit &gt; 0, threshold", "positive against negative"):
        assert f"&lt;b&gt;bare|{rule}|" in words
    shift = scores.filter(metric="answer_shift", split="all").row(0, named=True)
    assert f"{shift['value']:.2f} vs {shift['expected']:.2f}" in words
    assert pictures == 2
    assert said(zero_shot.PART, answered, CellPlace("set", "enc", severity=40))[1] == 0


def test_retrieval_is_a_line_for_each_direction() -> None:
    rows = [
        {"kind": HOSTILE, "direction": direction, "metric": metric, "k": k, "value": value, "ci_low": 0.1,
         "ci_high": 0.9, "expected": expected, "n": 30, "candidates": 40, "note": None}
        for direction in ("image to text", "text to image")
        for metric, k, value, expected in (
            ("recall", 1, 0.5, 0.03), ("recall", 10, None, None), ("median_rank", None, 2.5, 20.5),
            ("mean_average_precision", None, 0.6, 0.11))
    ]  # fmt: skip
    words, _ = said(retrieval.PART, {"retrieval_scores": pl.DataFrame(rows).with_columns(**NAMES)})
    assert words.count("|2.5 [20.5]|") == 2
    assert words.count("vs 0.03") == words.count("vs 0.11") == 2
    assert "|30|40|" in words


def test_what_is_undefined_says_why() -> None:
    row = {"value": None, "note": "undefined: it has <no> text side", "split": "all", "stratum": "all", "label": None}
    frame = pl.DataFrame([row], schema_overrides={"value": pl.Float64, "label": pl.String}).with_columns(**NAMES)
    for part, table in ((zero_shot.PART, "zero_shot_scores"), (retrieval.PART, "retrieval_scores")):
        assert said(part, {table: frame})[0].rstrip().endswith(": it has &lt;no&gt; text side.")
