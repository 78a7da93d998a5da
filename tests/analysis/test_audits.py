import numpy as np
import polars as pl
import pytest

from analysis import audits
from analysis.audits import SCHEMA, discover_audits, run_audits
from analysis.neighbors import Neighbors, cosine_neighbors
from analysis.results import Audit, AuditResult
from tests import worlds

K = 15


def report(world, *, k=K, seed=0, lists=40):
    neighbors = cosine_neighbors(world.vectors, lists, groups=world.groups)
    return run_audits(neighbors, world.labels, {"site": world.confounder}, world.groups, k=k, seed=seed)


def one(frame, metric):
    return frame.row(by_predicate=pl.col("metric") == metric, named=True)


def test_every_file_of_the_folder_is_an_audit():
    assert set(discover_audits()) == {"label_agreement", "confounder_agreement", "robustness"}


def test_a_new_file_is_found_without_an_edit(tmp_path, monkeypatch):
    (tmp_path / "hubness.py").write_text(
        "from analysis.results import Audit, AuditResult\n"
        "def hubness(neighbors, labels, confounder, groups, *, k, seed):\n"
        "    return [AuditResult('hubness', 0.25, None, None, None, neighbors.n, 'test', k=k)]\n"
        "AUDIT = Audit('hubness', hubness, reads_confounder=False)\n"
    )
    monkeypatch.setattr(audits, "__path__", [*audits.__path__, str(tmp_path)])
    assert one(report(worlds.null()), "hubness")["value"] == 0.25


def test_two_audits_may_not_share_a_name(tmp_path, monkeypatch):
    (tmp_path / "second.py").write_text("from analysis.audits.robustness import AUDIT\n")
    monkeypatch.setattr(audits, "__path__", [*audits.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match=r"two modules of analysis\.audits declare 'robustness'"):
        discover_audits()


def test_agreement_counts_by_hand():
    # Row 3 has one neighbour, row 4 none.
    indices = np.array([[1, 2], [0, 2], [3, 1], [0, -1], [-1, -1]])
    neighbors = Neighbors(indices, np.where(indices < 0, np.inf, 0.1).astype(np.float32))
    labels = np.array(["a", "a", "b", "b", "a"])
    frame = run_audits(neighbors, labels, {}, np.arange(5), k=2, seed=0)
    row = one(frame, "label_agreement")
    # Shares 1/2, 1/2, 1/2 and 0.
    assert row["value"] == pytest.approx(1.5 / 4)
    assert row["n"] == 4
    assert "2 images list fewer than 2 neighbours" in row["note"]


def test_frame_has_its_columns():
    frame = report(worlds.mixed())
    assert frame.schema == SCHEMA
    assert frame["metric"].to_list() == [
        "label_agreement",
        "confounder_agreement",
        "robustness_index",
        "cramers_v",
    ]
    assert frame["confounder"].to_list() == [None, "site", "site", "site"]
    assert (frame["seed"] == 0).all()
    defined = frame.filter(pl.col("ci_low").is_not_null())
    assert defined["metric"].to_list() == frame["metric"].to_list()[:3]
    assert ((defined["ci_low"] <= defined["value"]) & (defined["value"] <= defined["ci_high"])).all()


def test_p_values_are_adjusted_over_the_report():
    frame = report(worlds.mixed())
    p = frame["p_value"].drop_nulls().sort()
    expected = [min(p[j] * len(p) / (j + 1) for j in range(i, len(p))) for i in range(len(p))]
    adjusted = frame.filter(pl.col("p_value").is_not_null()).sort("p_value")["p_adjusted"]
    np.testing.assert_allclose(adjusted, np.minimum(expected, 1))


def test_null_world_is_not_flagged():
    rows = []
    for seed in range(20):
        frame = report(worlds.null(seed), seed=seed).filter(pl.col("p_value").is_not_null())
        rows.append(frame)
    frame = pl.concat(rows)
    for metric in ("label_agreement", "confounder_agreement", "robustness_index"):
        part = frame.filter(metric=metric)
        # Binomial(20, 0.05) exceeds 4 in 1 of 400 runs.
        assert (part["p_value"] <= 0.05).sum() <= 4, metric
        assert 0.2 < part["p_value"].mean() < 0.8, metric
        covers = (part["ci_low"] <= part["expected"]) & (part["expected"] <= part["ci_high"])
        assert covers.sum() >= 17, metric


def test_images_of_a_group_are_not_counted_as_independent():
    # Six images a group: permuting images one by one calls this noise significant.
    world = worlds.make_world(lesion=0, background=0, group_size=6)
    together = [
        one(report(worlds.make_world(lesion=0, background=0, group_size=6, seed=s)), "label_agreement")
        for s in range(12)
    ]
    assert sum(row["p_value"] <= 0.05 for row in together) <= 3
    assert "of 40 units" in together[0]["note"]
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    frame = run_audits(neighbors, world.labels, {}, np.arange(240), k=K, seed=0)
    assert "of 240 units" in one(frame, "label_agreement")["note"]


def test_background_world():
    frame = report(worlds.background_only())
    agreement, robustness = one(frame, "confounder_agreement"), one(frame, "robustness_index")
    assert agreement["value"] > 0.95
    assert agreement["expected"] == pytest.approx(1 / 3, abs=0.05)
    assert agreement["p_adjusted"] < 0.01
    assert robustness["value"] < 0.05
    assert robustness["value"] < robustness["expected"]
    assert robustness["p_adjusted"] < 0.01
    assert one(frame, "label_agreement")["p_value"] > 0.05


def test_lesion_world():
    frame = report(worlds.lesion_only())
    label, agreement = one(frame, "label_agreement"), one(frame, "confounder_agreement")
    assert label["value"] > 0.95
    assert label["expected"] == pytest.approx(0.5, abs=0.05)
    assert label["p_adjusted"] < 0.01
    assert agreement["p_value"] > 0.05
    assert one(frame, "robustness_index")["value"] > 0.95


def test_background_tied_to_the_label_is_not_held_against_the_encoder():
    # The vectors show the lesion only; the background follows the label in four images of five.
    world = worlds.lesion_only()
    rng = np.random.default_rng(1)
    follow = np.repeat(rng.random(120) < 0.8, 2)
    confounder = np.where(follow == (world.labels == "benign"), "left", "right")
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    frame = run_audits(neighbors, world.labels, {"side": confounder}, world.groups, k=K, seed=0)
    agreement = one(frame, "confounder_agreement")
    assert agreement["value"] > 0.6
    assert agreement["expected"] == pytest.approx(agreement["value"], abs=0.05)
    assert agreement["p_value"] > 0.05
    association = one(frame, "cramers_v")
    assert association["value"] > 0.5 > 2 * association["expected"]


def test_empty_cells_are_named():
    world = worlds.mixed()
    confounder = np.where(world.labels == "benign", "none", world.confounder)
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    frame = run_audits(neighbors, world.labels, {"site": confounder}, world.groups, k=K, seed=0)
    assert "no image of: benign with axilla, benign with breast" in one(frame, "cramers_v")["note"]


@pytest.mark.parametrize(
    ("world", "metrics", "reason"),
    [
        (worlds.one_class, ["label_agreement", "robustness_index"], "all images share one"),
        (worlds.one_class, ["cramers_v"], "constant"),
        (
            worlds.one_group,
            ["label_agreement", "confounder_agreement", "robustness_index"],
            "no image has a neighbour outside its own group",
        ),
    ],
)
def test_undefined_values_say_why(world, metrics, reason):
    frame = report(world())
    for metric in metrics:
        row = one(frame, metric)
        assert row["value"] is None
        assert row["p_value"] is None
        assert row["p_adjusted"] is None
        assert reason in row["note"]


def test_a_leak_shows_as_agreement():
    leaked = one(report(worlds.duplicates(), k=1), "label_agreement")
    assert leaked["value"] == 1
    # Told that the copies belong together, the audit sees nothing.
    world = worlds.duplicates()
    world = worlds.World(world.vectors, world.labels, world.confounder, world.groups // 4)
    row = one(report(world, k=1), "label_agreement")
    assert row["value"] < 0.6
    assert row["p_value"] > 0.05


def test_unknown_backgrounds_are_left_out():
    world = worlds.mixed()
    known = np.random.default_rng(0).random(len(world.labels)) < 0.7
    sites = np.array([site if ok else None for site, ok in zip(world.confounder, known, strict=True)])
    full = cosine_neighbors(world.vectors, 239, groups=world.groups)
    frame = run_audits(full, world.labels, {"site": sites}, world.groups, k=K, seed=0)
    part = worlds.World(world.vectors[known], world.labels[known], world.confounder[known], world.groups[known])
    expected = report(part, lists=len(part.labels) - 1)
    columns = ["metric", "k", "value", "expected", "ci_low", "ci_high", "p_value", "n"]
    assert frame[1:].select(columns).equals(expected[1:].select(columns))
    assert f"{(~known).sum()} of 240 images left out" in frame["note"][1]
    assert frame["n"][0] == 240
    # Codes may be given instead of strings, -1 where unknown.
    codes = np.where(known, np.unique(world.confounder, return_inverse=True)[1], -1)
    coded = run_audits(full, world.labels, {"site": codes}, world.groups, k=K, seed=0)
    assert coded.drop("note").equals(frame.drop("note"))


def test_nothing_known_is_undefined():
    world = worlds.mixed()
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    frame = run_audits(neighbors, world.labels, {"site": [None] * 240}, world.groups, k=K, seed=0)
    assert frame[1:]["value"].null_count() == 3
    assert frame[1:]["n"].to_list() == [0, 0, 0]


def test_rotation_changes_nothing():
    world = worlds.mixed(3)
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(16, 16)))[0].astype(np.float32)
    turned = worlds.World(world.vectors @ rotation, world.labels, world.confounder, world.groups)
    assert report(turned).equals(report(world))


def test_label_names_change_nothing():
    world = worlds.mixed(3)
    renamed = worlds.World(
        world.vectors,
        # The other way round in alphabetical order.
        np.where(world.labels == "benign", "z", "a"),
        np.char.add("x", world.confounder),
        world.groups,
    )
    found, expected = report(renamed), report(world)
    same = ["metric", "k", "value", "n"]
    assert found.select(same).equals(expected.select(same))
    # Permutations deal out codes, whose order follows the names.
    np.testing.assert_allclose(found["p_value"].drop_nulls(), expected["p_value"].drop_nulls(), atol=0.05)


def test_row_order_changes_nothing():
    world = worlds.mixed(3)
    order = np.random.default_rng(7).permutation(240)
    shuffled = worlds.World(world.vectors[order], world.labels[order], world.confounder[order], world.groups[order])
    found, expected = report(shuffled), report(world)
    exact = ["metric", "k", "n", "note"]
    assert found.select(exact).equals(expected.select(exact))
    for column in ("value", "ci_low", "ci_high", "expected", "p_value"):
        np.testing.assert_allclose(found[column].to_numpy(), expected[column].to_numpy(), atol=1e-12, err_msg=column)


def test_seed_decides():
    world = worlds.null()
    assert report(world, seed=1).equals(report(world, seed=1))
    assert not report(world, seed=1)["ci_low"].equals(report(world, seed=2)["ci_low"])


def test_wrong_inputs_are_refused():
    world = worlds.mixed()
    neighbors = cosine_neighbors(world.vectors, 10)
    with pytest.raises(ValueError, match="11 neighbours asked for, but lists hold 1 to 10"):
        run_audits(neighbors, world.labels, {}, world.groups, k=11, seed=0)
    with pytest.raises(ValueError, match=r"site must have shape \(240,\)"):
        run_audits(neighbors, world.labels, {"site": ["a"]}, world.groups, k=5, seed=0)
    with pytest.raises(ValueError, match="labels must hold strings"):
        run_audits(neighbors, np.ones(240), {}, world.groups, k=5, seed=0)


def test_results_never_hold_nan():
    with pytest.raises(ValueError, match="must be None"):
        AuditResult("m", float("nan"), None, None, None, 3, "")
    with pytest.raises(ValueError, match="needs a note"):
        AuditResult("m", None, None, None, None, 3, "")
    assert Audit("a", lambda *_, **__: []).reads_confounder
