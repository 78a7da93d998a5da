"""The sections of the report, each from small tables."""

import io
import re

import polars as pl
import pytest
from markupsafe import Markup
from PIL import Image

from analysis.report import ReportTables, headlines, render_report, report_assets, report_tables, wanted_images
from analysis.report.blocks import Lines, Note, Score, Table, Words
from analysis.report.section import CELLS_PLACE, CellPlace
from analysis.report.sections import report_parts, report_sections
from analysis.report.sections.duplicates import duplicate_groups
from analysis.report.summary import encoder_verdicts
from analysis.shifts import PER_CLASS_DISTANCE, PER_DUPLICATE_DISTANCE, SHIFT

HOSTILE = "<b onmouseover=alert(1)>&'\"{{ 7*7 }}"
CELL = CellPlace("d", "e")


def section(name):
    return next(each for each in (*report_sections(), *report_parts()) if each.name == name)


def said(name, frames, *cell, thumbnails=None):
    """Return a section's words, cells of tables ended by a bar, and how many pictures it has."""
    blocks = section(name).make(ReportTables(frames, thumbnails or {}), *cell)
    html = "".join(block.__html__() for block in blocks)
    words = re.sub(r"<[^>]+>", "", html.replace("</td>", "|").replace("</tr>", "\n"))
    return words, html.count("<img ")


def png(value):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def test_sections_stand_in_their_order_and_have_names_of_their_own():
    every = [*report_sections(), *report_parts()]
    assert len({each.name for each in every}) == len(every)
    assert [each.place for each in report_sections()] == sorted(each.place for each in report_sections())
    assert {"leaderboard", "contrasts", "c-path", "duplicates", "provenance"} <= {s.name for s in report_sections()}
    assert {"layouts", "clusters", "audits", "neighbors", "overlay-shift"} <= {part.name for part in report_parts()}
    assert CELLS_PLACE not in {each.place for each in report_sections()}
    # What can be missing says so in words; what is made on request is no one's upstream.
    assert all(each.what for each in every if each.asset)
    assert "calibration" not in report_assets(requested=False)
    assert "calibration" in report_assets(requested=True)
    assert {table for each in every for table in each.tables} <= set(report_tables())


@pytest.mark.parametrize("part", report_parts(), ids=lambda part: part.name)
def test_a_part_without_tables_makes_nothing(part):
    assert list(part.make(ReportTables(), CELL)) == []


def test_blocks_escape_what_they_are_given():
    table = Table(
        [HOSTILE], [[HOSTILE], [Lines([HOSTILE], code=True)], [Note(HOSTILE)]], folded=HOSTILE, caption=HOSTILE
    )
    for block in (Words(HOSTILE), table):
        html = block.__html__()
        assert "<b" not in html
        assert str(Markup.escape(HOSTILE)) in html
    assert "<script" not in Score(0.5, tone='"><script>').__html__()


def test_numbers_are_written_as_a_reader_expects():
    html = Table(["a"], [[None], [1234], [0.126], [-0.001], [True]]).__html__()
    assert re.findall(r"<td[^>]*>([^<]*)</td>", html) == ["–", "1,234", "0.13", "0.00", "yes"]


def score(encoder, protocol, value, *, dataset="d", metric="macro_f1", n=40):
    return {
        "dataset": dataset,
        "encoder": encoder,
        "protocol": protocol,
        "split": "test",
        "metric": metric,
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "n": n,
    }


def test_the_leaderboard_says_what_was_seen_in_training_and_ranks_by_grouped_score():
    ranked = pl.DataFrame(
        [
            *(score("one", protocol, value) for protocol, value in (("grouped", 0.5), ("published", 0.9))),
            *(score("two", protocol, value) for protocol, value in (("grouped", 0.6), ("published", 0.7))),
            score("one", "c_path C=1/N", 0.99),
        ]
    )
    seen = pl.DataFrame({"dataset": ["d"] * 2, "encoder": ["one", "two"], "seen": ["modality", None]})
    words, pictures = said("leaderboard", {"leaderboard": ranked, "exposure": seen})
    assert pictures == 1
    first, second = [line for line in words.splitlines() if "one|" in line or "two|" in line]
    assert first.endswith("d|1|two|0.60 [0.50, 0.70] |0.70 [0.60, 0.80] |–|–|40|none on record|")
    assert second == "|2|one|0.50 [0.40, 0.60] |0.90 [0.80, 1.00] |–|–|40|images of this kind|"
    assert "Hollow dots" in words
    assert "Hollow dots" not in said("leaderboard", {"leaderboard": ranked})[0]
    assert "0.99" not in words


def test_contrasts_over_all_data_sets_are_listed_and_those_that_cannot_be_told_are_said():
    row = {
        "contrast": "medical", "target": "label", "protocol": "grouped", "dataset": None, "metric": "balanced_accuracy",
        "value": 0.25, "ci_low": 0.125, "ci_high": 0.375, "p_adjusted": 0.03, "n": 4, "note": HOSTILE,
    }  # fmt: skip
    untold = row | {"contrast": "language", "value": None, "note": "undefined: one data set"}
    of_one = row | {"dataset": "d", "n": 30, "note": "one"}
    words, pictures = said("contrasts", {"encoder_contrasts": pl.DataFrame([row, untold, of_one])})
    assert pictures == 1
    assert f"with medical images|label|grouped|0.25 [0.12, 0.38]|0.030|4|{Markup.escape(HOSTILE)}|" in words
    assert "1 more could not be told: undefined: one data set." in words
    assert words.count("grouped|") == 1


def test_the_c_path_is_drawn_where_there_is_one():
    rows = [
        {"target": "label", "fold": None, "stratum": f"C={c}/N", "protocol": "c_path", **score("e", "c_path", v)}
        | {"protocol": "c_path", "split": "cv", "metric": "balanced_accuracy"}
        for c, v in ((1, 0.5), (100, 0.7))
    ]
    scores = pl.DataFrame(rows, schema_overrides={"fold": pl.Int32})
    assert said("c-path", {"probe_scores": scores})[1] == 1
    assert said("c-path", {"probe_scores": scores.filter(pl.col("protocol") != "c_path")})[0] == ""


def comparison(**values):
    row = {
        "dataset": "brainmr", "encoder": "vgg16", "metric": "accuracy", "value": 0.8, "ci_low": 0.7, "ci_high": 0.9,
        "published": 0.83, "published_std": 0.01, "difference": -0.03, "published_dataset": "brainmr",
        "doubtful": False, "note": "",
    }  # fmt: skip
    return pl.DataFrame([row | values, row | values | {"metric": "macro_f1"}], schema_overrides={"value": pl.Float64})


def test_published_scores_stand_beside_ours_or_it_is_said_that_there_are_none():
    words, pictures = said("published", {"published_comparison": comparison()})
    assert "brainmr|vgg16|0.80 [0.70, 0.90]|0.83|-0.03||" in words
    assert pictures == 1
    alone = comparison(value=None, ci_low=None, ci_high=None)
    words, pictures = said("published", {"published_comparison": alone})
    assert "there is no score to set beside ours" in words
    assert pictures == 0


PAIRS = pl.DataFrame(
    [
        ("d", "a", "b", "a", "exact", 0.0, True),
        ("d", "a", "c", "a", "near", 0.1, False),
        ("d", "x", "y", "x", "near", 0.2, True),
        ("f", "m", "n", "m", "near", 0.2, None),
    ],
    ["dataset", "image_id", "other_id", "duplicate_group", "kind", "distance", "same_label"],
    orient="row",
)


def test_duplicates_are_counted_by_data_set_and_drawn_mixed_groups_first():
    groups = duplicate_groups(PAIRS)
    assert groups.select("dataset", "members", "mixed").rows() == [
        ("d", ["a", "b", "c"], True),
        ("d", ["x", "y"], False),
        ("f", ["m", "n"], False),
    ]
    ids = ["a", "b", "c", "x", "y", "z", "w", "v", "u", "t"]
    images = pl.DataFrame({"dataset": "d", "image_id": ids, "label": [HOSTILE] * 10})
    runs = pl.DataFrame({"asset": ["duplicates"] * 3, "dataset": ["d", "f", "g"]})
    frames = {"duplicates": PAIRS, "images": images, "runs": runs}
    wanted = section("duplicates").images(ReportTables(frames))
    assert sorted(wanted) == sorted([("d", i) for i in "abcxy"] + [("f", "m"), ("f", "n")])
    words, pictures = said("duplicates", frames, thumbnails={("d", i): png(50) for i in ids})
    assert pictures == 1  # of f there is no thumbnail
    assert "d|2|5|50%|1|2|1|" in words
    assert "f|1|2|–|0|1|0|" in words
    assert "g|0|0|–|0|0|0|" in words
    assert said("duplicates", {"runs": runs})[0] == "No two images look the same.\n"
    assert said("duplicates", {"runs": runs.clear()})[0] == ""


def shifts():
    rows = []
    for name, factor in (("unchanged", 0.0), ("text removed", 1.0), ("placebo: painted over elsewhere", 0.5)):
        for metric, unit in ((SHIFT, 0.04), (PER_CLASS_DISTANCE, 0.25), (PER_DUPLICATE_DISTANCE, None)):
            value = None if unit is None else factor * unit
            note = "no near-duplicates in the data set" if value is None else "relative to 1"
            rows.append(("d", "e", name, metric, value, value, value, 8, note))
    columns = ["dataset", "encoder", "intervention", "metric", "value", "ci_low", "ci_high", "n", "note"]
    return pl.DataFrame(rows, columns, orient="row")


def test_shifts_are_told_with_the_images_that_moved_most():
    examples = pl.DataFrame(
        {
            "dataset": "d",
            "encoder": "e",
            "image_id": ["a", "a", "b"],
            "intervention": ["unchanged", "text removed", "unchanged"],
            "shift": [0.0, 0.4, 0.0],
            "picture": [png(10), png(200), png(90)],
        }
    )
    frames = {"overlay_shift": shifts(), "overlay_shift_examples": examples}
    words, pictures = said("overlay-shift", frames, CELL)
    assert "text removed|0.04 [0.04, 0.04]|0.25 [0.25, 0.25]|–|8|no near-duplicates in the data set|" in words
    # A chart, and a sheet for each choice of changes.
    assert pictures == 3
    assert said("overlay-shift", frames, CellPlace("d", "e", severity=12))[1] == 1
    assert said("overlay-shift", {"overlay_shift": shifts()}, CELL)[1] == 1


def layouts(settings):
    ids = [f"i{k}" for k in range(12)]
    return pl.concat(
        pl.DataFrame({"image_id": ids, "x": [float(k) for k in range(12)], "y": [float(k % 3) for k in range(12)]})
        .with_columns(pl.lit(n, pl.Int32).alias("n_neighbors"), pl.lit(spread).alias("min_dist"))
        .with_columns(dataset=pl.lit("d"), encoder=pl.lit("e"))
        for n, spread in settings
    )


def test_a_grid_of_many_layouts_is_shown_whole_by_label_beside_background():
    images = pl.DataFrame(
        {
            "dataset": ["d"] * 12,
            "image_id": [f"i{k}" for k in range(12)],
            "label": ["x", "y"] * 6,
            "text_overlay": [True] * 6 + [False] * 6,
        }
    )
    findings = pl.DataFrame(
        {"dataset": ["d"], "encoder": ["e"], "confounder": ["text_overlay"], "verdict": ["visible"]}
    )
    frames = {"images": images, "findings": findings}
    grid = [(n, spread) for n in (5, 15, 50) for spread in (0.1, 0.5, 0.9)]

    def captions(settings, **place):
        tables = ReportTables(frames | {"layouts": layouts(settings)})
        html = "".join(block.__html__() for block in section("layouts").make(tables, CellPlace("d", "e", **place)))
        return re.findall(r'alt="([^"]*)"', html)

    by_label, by_word = ("d, e: UMAP layouts coloured by label", "d, e: UMAP layouts coloured by text_overlay")
    assert captions(grid) == ["d, e: every UMAP layout, coloured by label beside text_overlay", by_label, by_word]
    assert captions(grid[:6]) == [by_label, by_word]
    assert captions(grid, severity=12, cells=40) == [by_label, by_word]


def test_what_is_missing_of_any_cell_is_named_first():
    frames = {
        "layouts": pl.concat([layouts([(5, 0.1)]), layouts([(5, 0.1)]).with_columns(encoder=pl.lit("f"))]),
        "overlay_shift": shifts(),
    }
    html = render_report(ReportTables(frames))
    partial = re.search(r"This report is partial.*?</p>", html, re.DOTALL)
    assert partial is not None
    named = re.findall(r"<code>(\w+)</code>", partial[0])
    assert {"overlay_shift", "svm_probes", "neighbor_audits", "leaderboard", "duplicates", "bias_report"} <= set(named)
    assert "umap_layouts" not in named
    assert "calibration" not in named
    # Of one cell there is no shift, and it is said there.
    assert html.count("No counterfactual shifts yet: materialize <code>overlay_shift</code>") == 1


def test_thumbnails_are_asked_for_by_those_that_draw_them():
    assert wanted_images(ReportTables({"duplicates": PAIRS})) == sorted(
        [("d", i) for i in "abcxy"] + [("f", "m"), ("f", "n")]
    )


def finding(dataset, confounder, verdict):
    return {"dataset": dataset, "encoder": "e", "confounder": confounder, "verdict": verdict}


@pytest.mark.parametrize(
    ("there", "elsewhere", "said"),
    [
        ("reads the label", "no better than chance", "Sees view beside the label"),
        ("no better than chance", "reads the label", "Sees view and not the label"),
        ("cannot be told", "reads the label", "Sees view; whether it reads the label too cannot be told"),
        ("reads label or background", "reads the label", "Sees view; whether it reads the label too cannot be told"),
    ],
)
def test_a_headline_says_of_the_label_what_the_data_sets_say_in_which_the_background_is_seen(there, elsewhere, said):
    findings = [
        finding("d", None, there),
        finding("d", "view", "background is visible"),
        finding("f", None, elsewhere),
        finding("f", "view", "no sign of the background"),
    ]
    assert headlines(pl.DataFrame(findings, schema_overrides={"confounder": pl.String})).rows() == [("e", said)]


def test_counterexamples_are_asked_for_of_backgrounds_that_go_with_the_label():
    findings = pl.DataFrame([finding("d", None, "reads label or background"), finding("d", "view", "cannot be told")])
    v = pl.DataFrame(
        {
            "dataset": "d",
            "encoder": "e",
            "metric": "cramers_v",
            "confounder": ["view", "scanner"],
            "value": [0.6, 0.35],
            "expected": [0.1, 0.3],  # of the second, chance explains most
            "note": ["no image of: benign with axilla", "no image of: benign with A"],
        }
    )
    [verdict] = encoder_verdicts(ReportTables({"findings": findings, "neighbor_audits": v}))
    assert any(remedy.endswith("By view: no image of: benign with axilla.") for remedy in verdict.remedies)
    assert not any("scanner" in remedy for remedy in verdict.remedies)


def test_neighbours_without_a_thumbnail_are_not_said_to_be_none():
    near = {"dataset": "d", "encoder": "e", "image_id": "a", "neighbor_id": "b"}
    lists = pl.DataFrame([near | {"rank": 1, "distance": 0.1, "same_label": False, "same_background": ["view"]}])
    pairs = pl.DataFrame([near | {"confounder": "view", "score": 1.0}])
    images = pl.DataFrame({"dataset": "d", "image_id": ["a", "b"], "label": ["x", "y"], "view": ["axial", "axial"]})
    frames = {"neighbors": lists, "telling_neighbors": pairs, "images": images}
    assert "no picture of them" in said("neighbors", frames, CELL)[0]
    shown = said("neighbors", frames, CELL, thumbnails={("d", "a"): png(1), ("d", "b"): png(2)})
    assert shown[1] == 1
    assert "no picture" not in shown[0]
    assert "No image is nearer" in said("neighbors", frames | {"telling_neighbors": pairs.clear()}, CELL)[0]


def test_an_encoder_is_told_before_and_after_it_was_fine_tuned():
    where = {"dataset": "d", "encoder": "e"}
    scores = [
        ("full", "test", None, "balanced_accuracy", 0.8, 30),
        ("full", "train", None, "balanced_accuracy", 1.0, 90),
        ("full", "test", "a", "recall", 0.7, 15),
    ]
    columns = ["mode", "part", "label", "metric", "value", "n"]
    trained = pl.DataFrame(scores, columns, orient="row").with_columns(
        **{name: pl.lit(value) for name, value in where.items()}, training=pl.lit(HOSTILE), ci_low=0.7, ci_high=0.9
    )
    measured = [
        ("test", "before", None, "decodability", 0.6, ""),
        ("test", "after", None, "decodability", 0.8, ""),
        ("all", "after", None, "decodability", 1.0, ""),
        ("test", "before", "word", "robustness_index", 0.3, ""),
        ("test", "after", "word", "robustness_index", None, "undefined: one value"),
    ]
    shift = pl.DataFrame(measured, ["images", "moment", "confounder", "metric", "value", "note"], orient="row")
    shift = shift.with_columns(
        dataset=pl.lit("d"), encoder=pl.lit(HOSTILE), base=pl.lit("e"), ci_low="value", ci_high="value", expected=0.5,
        n=30,
    )  # fmt: skip
    words, pictures = said("finetuning", {"finetuning_scores": trained, "finetuning_shift": shift})
    assert "full|0.80 [0.70, 0.90]|30|" in words
    assert "1.0" not in words
    assert "decodability|label|0.60 [0.60, 0.60]|0.80 [0.80, 0.80]|0.20|30||" in words
    assert "robustness index|word|0.30 [0.30, 0.30]|–|–|30|undefined: one value|" in words
    assert pictures == 1
    html = "".join(b.__html__() for b in section("finetuning").make(ReportTables({"finetuning_shift": shift})))
    assert HOSTILE not in html
    assert said("finetuning", {"finetuning_scores": trained})[1] == 0
    assert said("finetuning", {}) == ("", 0)
