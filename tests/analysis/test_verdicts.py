import polars as pl
import pytest

from analysis.audits import run_audits
from analysis.neighbors import cosine_neighbors
from analysis.probes import probe
from analysis.verdicts import FINDINGS_COLUMNS, FINDINGS_SCHEMA, adjust_p_values, verdicts
from tests import worlds

SCORES = {
    "dataset": pl.String,
    "encoder": pl.String,
    "target": pl.String,
    "protocol": pl.String,
    "split": pl.String,
    "fold": pl.Int32,
    "stratum": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
}
AUDITS = {
    "dataset": pl.String,
    "encoder": pl.String,
    "audit": pl.String,
    "confounder": pl.String,
    "metric": pl.String,
    "k": pl.Int32,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "p_value": pl.Float64,
    "p_adjusted": pl.Float64,
    "expected": pl.Float64,
    "n": pl.Int64,
    "note": pl.String,
}
CELL = {"dataset": "us", "encoder": "enc"}
SEEN = (0.97, 0.94, 0.99)
UNSEEN = (0.50, 0.44, 0.57)


def score(target, numbers, *, protocol="grouped", stratum="all", metric="balanced_accuracy", note=None, **cell):
    value, low, high = numbers or (None, None, None)
    keys = {"target": target, "protocol": protocol, "split": "cv", "stratum": stratum, "metric": metric}
    return CELL | keys | {"value": value, "ci_low": low, "ci_high": high, "n": 192, "note": note} | cell


def audit(metric, confounder, numbers, *, expected=None, p=None, n=240, note="", **cell):
    value, low, high = numbers or (None, None, None)
    keys = {"audit": metric, "confounder": confounder, "metric": metric, "k": 15}
    numbers = {"value": value, "ci_low": low, "ci_high": high, "p_value": p, "expected": expected, "n": n}
    return CELL | keys | numbers | {"note": note} | cell


def tables(
    *,
    label=SEEN,
    published=None,
    words=SEEN,
    label_neighbors=(0.55, 0.50, 0.60),
    words_neighbors=(0.80, 0.75, 0.85),
    words_expected=0.5,
    words_p=0.001,
    robustness=(0.20, 0.10, 0.35),
    association=0.0,
):
    scores = [score("label", label), score("label", published or label, protocol="published"), score("text", words)]
    scores += [score("label", UNSEEN, stratum=f"text={value}") for value in ("true", "false")]
    audits = [
        audit("label_agreement", None, label_neighbors, expected=0.5, p=0.001),
        audit("confounder_agreement", "text", words_neighbors, expected=words_expected, p=words_p),
        audit("robustness_index", "text", robustness, expected=0.7, p=words_p),
        audit("cramers_v", "text", (association, None, None), expected=0.1),
    ]
    return pl.DataFrame(scores, schema=SCORES), pl.DataFrame(audits, schema=AUDITS)


def judge(**changes):
    label, background = verdicts(*tables(**changes)).iter_rows(named=True)
    assert label["confounder"] is None
    assert background["confounder"] == "text"
    return label, background


def test_a_background_that_neighbours_follow_rather_than_the_label_leads():
    _, background = judge()
    assert background["verdict"] == "background leads"
    for part in (
        "text can be read off the features (balanced accuracy 0.97 [0.94, 0.99], guessing gives 0.50)",
        "share it more often than chance (0.80 [0.75, 0.85] against 0.50, adjusted p 0.001)",
        "robustness index 0.20 [0.10, 0.35]",
    ):
        assert part in background["sentence"]


@pytest.mark.parametrize(
    "changes",
    [
        {"robustness": (0.45, 0.3, 0.6)},  # the interval leaves open which one leads
        {"label_neighbors": (0.95, 0.9, 0.99)},  # the label's agreement is farther above chance
        {"robustness": None},
        {"words": UNSEEN, "robustness": (0.6, 0.55, 0.7)},  # neighbours alone
        {"words_p": 0.4},  # the probe alone
    ],
)
def test_a_background_that_is_seen_and_does_not_lead_is_visible(changes):
    assert judge(**changes)[1]["verdict"] == "background is visible"


def test_a_background_that_neither_probe_nor_neighbours_see_gives_no_sign():
    _, background = judge(words=UNSEEN, words_p=0.4)
    assert background["verdict"] == "no sign of the background"
    assert "cannot be read off" in background["sentence"]
    assert "no more often than chance" in background["sentence"]


def test_a_lower_end_just_above_guessing_is_no_sign():
    # Intervals leave out what other training sets would change: one null cell in twenty would be flagged.
    _, background = judge(words=(0.55, 0.51, 0.60), words_p=0.4)
    assert background["verdict"] == "no sign of the background"
    assert "barely" in background["sentence"]


def test_few_images_do_not_make_an_all_clear():
    _, background = judge(words=(0.6, 0.3, 0.85), words_p=0.4)
    assert background["verdict"] == "cannot be told"
    assert "too few" in background["sentence"]


def test_what_is_read_by_way_of_the_label_cannot_be_told():
    label, background = judge(words_p=0.4, association=0.8)
    assert background["verdict"] == "cannot be told"
    assert "Cramér's V 0.80" in background["sentence"]
    assert "no evidence of seeing the lesion" in background["sentence"]
    assert label["verdict"] == "reads label or background"


def test_an_entangled_background_takes_the_labels_score_as_evidence_away():
    label, background = judge(association=0.73)
    assert background["verdict"] == "background leads"
    assert "cannot be fully told apart" in background["sentence"]
    assert label["verdict"] == "reads label or background"
    assert "text goes with the label" in label["sentence"]


def test_association_that_chance_would_give_is_none():
    scores, audits = tables(association=0.32)
    audits = audits.with_columns(expected=pl.when(metric="cramers_v").then(0.31).otherwise("expected"))
    assert verdicts(scores, audits)["verdict"].to_list() == ["reads the label", "background leads"]


def test_an_entangled_background_without_a_sign_leaves_the_label_alone():
    label, _ = judge(words=UNSEEN, words_p=0.4, association=0.8)
    assert label["verdict"] == "reads the label"


def test_an_undefined_probe_says_why():
    scores, audits = tables(words_p=0.4)
    undefined = score("text", None, metric="accuracy", note="undefined: 3 groups cannot be divided")
    scores = pl.concat([scores.filter(pl.col("target") != "text"), pl.DataFrame([undefined], schema=SCORES)])
    background = verdicts(scores, audits).row(1, named=True)
    assert background["verdict"] == "cannot be told"
    assert "could not be probed (3 groups cannot be divided)" in background["sentence"]
    assert background["decodability"] is None


def test_an_undefined_audit_says_why():
    scores, audits = tables(words=UNSEEN)
    why = "undefined: no image has a neighbour outside its own group"
    undefined = audit("confounder_agreement", "text", None, note=why, n=0)
    others = audits.filter(pl.col("metric") != "confounder_agreement")
    background = verdicts(scores, pl.concat([others, pl.DataFrame([undefined], schema=AUDITS)])).row(1, named=True)
    assert background["verdict"] == "cannot be told"
    assert "no image has a neighbour outside its own group" in background["sentence"]


def test_probes_without_audits_and_audits_without_probes_are_judged_by_what_there_is():
    scores, audits = tables()
    assert verdicts(scores, audits.clear())["verdict"].to_list() == ["reads the label", "background is visible"]
    assert verdicts(scores.clear(), audits)["verdict"].to_list() == ["reads the label", "background leads"]
    assert verdicts(pl.DataFrame(), audits).equals(verdicts(scores.clear(), audits))


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        (SEEN, "reads the label"),
        (UNSEEN, "no better than chance"),
        ((0.6, 0.3, 0.9), "cannot be told"),
    ],
)
def test_the_label_is_judged_by_the_grouped_probe(numbers, verdict):
    assert judge(label=numbers, words=UNSEEN, words_p=0.4)[0]["verdict"] == verdict


def test_the_published_score_alone_is_no_evidence():
    scores, audits = tables(published=SEEN)
    scores = scores.filter(~((pl.col("target") == "label") & (pl.col("protocol") == "grouped")))
    label = verdicts(scores, audits.filter(pl.col("metric") != "label_agreement")).row(0, named=True)
    assert label["verdict"] == "cannot be told"
    assert "gives 0.97 [0.94, 0.99]: this may be recognising the group" in label["sentence"]


@pytest.mark.parametrize(
    ("published", "grouped", "said"),
    [
        ((0.95, 0.92, 0.97), (0.80, 0.75, 0.85), "0.15 more: that part"),
        ((0.86, 0.80, 0.92), (0.80, 0.74, 0.86), "0.06 more; the intervals overlap"),
    ],
)
def test_a_leak_is_named(published, grouped, said):
    assert said in judge(label=grouped, published=published)[0]["sentence"]


def test_no_leak_no_clause():
    assert "published" not in judge(label=(0.80, 0.75, 0.85), published=(0.82, 0.77, 0.87))[0]["sentence"]


def test_without_backgrounds_the_label_row_says_that_nothing_was_checked():
    scores, audits = tables()
    scores = scores.filter(target="label", stratum="all")
    [label] = verdicts(scores, audits.filter(pl.col("confounder").is_null())).iter_rows(named=True)
    assert label["verdict"] == "reads the label"
    assert "No background is on record" in label["sentence"]


def test_guessing_counts_the_values_of_an_attribute():
    scores, audits = tables(words=(0.40, 0.36, 0.45), words_p=0.4)
    more = [score("label", UNSEEN, stratum=f"text={value}") for value in "abc"]
    judged = verdicts(pl.concat([scores, pl.DataFrame(more, schema=SCORES)]), audits).row(1, named=True)
    assert judged["decodability_expected"] == pytest.approx(1 / 5)
    assert judged["verdict"] == "background is visible"


def test_p_values_are_adjusted_over_all_cells_of_the_report():
    scores, audits = tables(words_p=0.03, words=UNSEEN)
    assert verdicts(scores, audits).row(1, named=True)["verdict"] == "background leads"
    more = [audits.with_columns(pl.lit(f"other {i}").alias("encoder"), p_value=pl.lit(0.9)) for i in range(10)]
    everything = pl.concat([audits, *more])
    found = verdicts(scores, everything).filter(encoder="enc").row(1, named=True)
    assert found["verdict"] == "no sign of the background"
    expected = adjust_p_values(everything).filter(encoder="enc", metric="confounder_agreement")["p_adjusted"].item()
    assert found["p_adjusted"] == expected > 0.03


def test_rows_are_sorted_by_severity_after_the_label():
    def cell(encoder):
        scores = [score("label", SEEN, encoder=encoder)]
        audits = [audit("label_agreement", None, (0.55, 0.5, 0.6), expected=0.5, p=0.001, encoder=encoder)]
        for name, numbers, p, index in (
            ("a_unseen", UNSEEN, 0.9, 0.7),
            ("b_untold", (0.6, 0.3, 0.9), 0.9, 0.7),
            ("c_leads", SEEN, 0.001, 0.1),
            ("d_visible", SEEN, 0.001, 0.7),
        ):
            scores.append(score(name, numbers, encoder=encoder))
            audits += [
                audit("confounder_agreement", name, (0.8, 0.7, 0.9), expected=0.5, p=p, encoder=encoder),
                audit("robustness_index", name, (index, index - 0.05, index + 0.05), expected=0.7, encoder=encoder),
            ]
        return pl.DataFrame(scores, schema=SCORES), pl.DataFrame(audits, schema=AUDITS)

    parts = [cell(encoder) for encoder in ("z", "a")]
    found = verdicts(*(pl.concat(frames) for frames in zip(*parts, strict=True)))
    names = [None, "c_leads", "d_visible", "b_untold", "a_unseen"]
    assert found.select("encoder", "confounder").rows() == [(e, n) for e in ("a", "z") for n in names]


def test_nothing_gives_an_empty_frame_of_the_schema():
    found = verdicts(pl.DataFrame(), pl.DataFrame())
    assert found.schema == pl.Schema(FINDINGS_SCHEMA)
    assert tuple(found.columns) == FINDINGS_COLUMNS


def cell_of(world):
    """Probe and audit a world as the warehouse does."""
    background = {"site": world.confounder}
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    audits = run_audits(neighbors, world.labels, background, world.groups, k=15, seed=0)
    scores = []
    for target, values, protocol, strata in (
        ("label", world.labels, "published", background),
        ("label", world.labels, "grouped", background),
        ("site", world.confounder, "grouped", {}),
    ):
        try:
            result = probe(world.vectors, values, world.groups, protocol=protocol, target=target, seed=0, strata=strata)
            scores.append(result.scores.with_columns(note=pl.lit(result.note)))
        except ValueError as error:
            undefined = score(target, None, protocol=protocol, metric="accuracy", note=f"undefined: {error}")
            scores.append(pl.DataFrame([undefined], schema=SCORES).drop("dataset", "encoder"))
    names = [pl.lit(value).alias(name) for name, value in CELL.items()]
    return pl.concat(scores, how="diagonal").with_columns(names), audits.with_columns(names)


@pytest.mark.parametrize(
    ("world", "label", "background"),
    [
        (worlds.null, "no better than chance", "no sign of the background"),
        (worlds.lesion_only, "reads the label", "no sign of the background"),
        (worlds.background_only, "no better than chance", "background leads"),
        (worlds.mixed, "reads the label", "background is visible"),
        (worlds.one_class, "cannot be told", "background is visible"),
        (worlds.one_group, "cannot be told", "cannot be told"),
    ],
)
def test_worlds_get_the_verdict_that_was_planted(world, label, background):
    assert verdicts(*cell_of(world()))["verdict"].to_list() == [label, background]
