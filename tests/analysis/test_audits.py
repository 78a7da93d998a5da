from functools import partial

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from analysis import audits
from analysis.audits import IMAGE_SCHEMA, SCHEMA, audit_cell, discover_audits, run_audits
from analysis.audits.confounder_agreement import confounder_agreement
from analysis.audits.croma import croma
from analysis.audits.robustness import robustness_index
from analysis.jackknife import jackknife
from analysis.neighbors import Neighbors, cosine_neighbors
from analysis.results import Audit, AuditResult
from analysis.space import Space
from tests import worlds

K = 15


def report(world, *, k=K, seed=0, lists=40, vectors=None):
    neighbors = cosine_neighbors(world.vectors, lists, groups=world.groups)
    return run_audits(
        neighbors, world.labels, {"site": world.confounder}, world.groups, k=k, seed=seed, vectors=vectors
    )


def one(frame, metric):
    return frame.row(by_predicate=pl.col("metric") == metric, named=True)


def test_every_file_of_the_folder_is_an_audit():
    assert set(discover_audits()) == {
        "label_agreement", "confounder_agreement", "robustness", "mari", "croma", "ilisi", "clisi", "kbet",
        "robustness_balanced", "silhouette", "pcr", "clustering", "leakage", "duplicates", "hubness", "matched",
    }  # fmt: skip


def test_a_new_file_is_found_without_an_edit(tmp_path, monkeypatch):
    (tmp_path / "loneliness.py").write_text(
        "from analysis.results import Audit, AuditResult\n"
        "def loneliness(neighbors, labels, confounder, groups, *, k, seed):\n"
        "    return [AuditResult('loneliness', 0.25, None, None, None, neighbors.n, 'test', k=k)]\n"
        "AUDIT = Audit('loneliness', loneliness, reads_confounder=False)\n"
    )
    monkeypatch.setattr(audits, "__path__", [*audits.__path__, str(tmp_path)])
    assert one(report(worlds.null()), "loneliness")["value"] == 0.25


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
    world = worlds.mixed()
    frame = report(world, vectors=world.vectors)
    assert frame.schema == SCHEMA
    of_label = frame.filter(pl.col("confounder").is_null())["metric"].unique(maintain_order=True).to_list()
    assert of_label == [
        "near_duplicates", "near_duplicates_across_labels", "hubness_skewness", "hubness_robin_hood", "hubness_orphans",
        "label_agreement", "label_agreement_by_k", "same_group_first", "same_group_share", "clisi",
    ]  # fmt: skip
    of_site = frame.filter(confounder="site")["metric"].unique(maintain_order=True).to_list()
    # What the design supports is said first.
    assert of_site == [
        "cramers_v", "clustering_score", "confounder_agreement", "confounder_agreement_by_k", "croma_median",
        "croma_tail", "croma_dominated", "kbet", "ilisi", "mari", "background_within_label", "label_within_background",
        "pcr", "robustness_index", "robustness_index_balanced", "batch_silhouette", "bras",
    ]  # fmt: skip
    assert (frame["seed"] == 0).all()
    assert frame["value"].null_count() == 0
    # One test of the label, two of the background: the rest describes, and does not dilute them.
    assert frame.filter(pl.col("p_value").is_not_null())["metric"].to_list() == [
        "label_agreement", "confounder_agreement", "robustness_index",
    ]  # fmt: skip
    defined = frame.filter(pl.col("ci_low").is_not_null())
    assert set(frame["metric"]) - set(defined["metric"]) == {"cramers_v", "clustering_score", "hubness_orphans"}
    assert ((defined["ci_low"] <= defined["value"]) & (defined["value"] <= defined["ci_high"])).all()


def test_without_vectors_the_audits_that_read_them_are_left_out():
    assert not set(report(worlds.mixed())["metric"]) & {
        "croma_median",
        "bras",
        "pcr",
        "clustering_score",
        "same_group_first",
    }


def test_images_keep_their_values():
    world = worlds.mixed()
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    known = np.arange(240) >= 30
    sites = [site if ok else None for site, ok in zip(world.confounder, known, strict=True)]
    tables = audit_cell(neighbors, world.labels, {"site": sites}, world.groups, k=K, seed=0, vectors=world.vectors)
    assert tables.images.schema == IMAGE_SCHEMA
    agreement = tables.images.filter(metric="label_agreement")
    assert agreement["image"].to_list() == list(range(240))
    assert agreement["value"].mean() == pytest.approx(one(tables.summary, "label_agreement")["value"])
    margin = tables.images.filter(metric="croma_median", confounder="site")
    assert margin["image"].to_list() == np.flatnonzero(known).tolist()
    assert margin["value"].median() == pytest.approx(one(tables.summary, "croma_median")["value"])


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
            ["label_agreement", "confounder_agreement"],
            "no image has a neighbour outside its own group",
        ),
        (worlds.one_group, ["robustness_index"], "in 3 groups or more"),
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
    found, expected = (each.filter(confounder="site") for each in (frame, expected))
    # Where copies of a list are cut to what is known, as many neighbours are left as there are images.
    same = ~pl.col("metric").is_in(["confounder_agreement_by_k"])
    assert found.filter(same).select(columns).equals(expected.filter(same).select(columns))
    assert all(f"{(~known).sum()} of 240 images left out" in note for note in found["note"])
    assert one(frame, "label_agreement")["n"] == 240
    # Codes may be given instead of strings, -1 where unknown.
    codes = np.where(known, np.unique(world.confounder, return_inverse=True)[1], -1)
    coded = run_audits(full, world.labels, {"site": codes}, world.groups, k=K, seed=0)
    assert coded.drop("note").equals(frame.drop("note"))


def test_nothing_known_is_undefined():
    world = worlds.mixed()
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    frame = run_audits(neighbors, world.labels, {"site": [None] * 240}, world.groups, k=K, seed=0)
    of_site = frame.filter(confounder="site")
    assert of_site["value"].null_count() == of_site.height
    assert set(of_site["n"]) == {0}


def test_rotation_changes_nothing():
    world = worlds.mixed(3)
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(16, 16)))[0].astype(np.float32)
    turned = worlds.World(world.vectors @ rotation, world.labels, world.confounder, world.groups)
    found, expected = report(turned), report(world)
    numbers = ["value", "ci_low", "ci_high", "expected", "p_value"]
    assert found.drop(numbers).equals(expected.drop(numbers))
    for column in numbers:
        np.testing.assert_allclose(found[column].to_numpy(), expected[column].to_numpy(), atol=1e-6, err_msg=column)


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


def rejected_in_noise(draw, *, sets=100):
    """Share of sets of pure noise that each test rejects, or None where it has no p-value in any."""
    p_values = {"confounder_agreement": [], "robustness_index": []}
    for seed in range(sets):
        rng = np.random.default_rng([7, seed])
        labels, sites, groups = draw(rng)
        vectors = rng.normal(size=(len(groups), 8)) + 2 * rng.normal(size=(int(groups.max()) + 1, 8))[groups]
        neighbors = cosine_neighbors(vectors, K, groups=groups)
        for found in (confounder_agreement, robustness_index):
            first = found(neighbors, labels, sites, groups, k=K, seed=seed)[0]
            p_values[first.metric].append(first.p_value)
    assert all(len({p is None for p in each}) == 1 for each in p_values.values())
    return {
        metric: None if each[0] is None else int(np.sum(np.array(each) <= 0.05)) for metric, each in p_values.items()
    }


def test_noise_is_not_flagged_where_patients_of_a_background_have_more_images():
    def draw(rng, *, pure=False):
        site = np.arange(60) % 2
        size = np.where(site, 8, 1) if pure else np.where(rng.random(60) < 0.2 + 0.6 * site, 6, 1)
        groups = np.repeat(np.arange(60), size)
        return (np.arange(60) // 2 % 2)[groups], site[groups], groups

    for rejected in rejected_in_noise(draw).values():
        assert binomtest(rejected, 100, 0.05, alternative="greater").pvalue > 0.001
    # Where size and background are one, nothing can be tested, and it is said.
    assert set(rejected_in_noise(partial(draw, pure=True), sets=3).values()) == {None}


def test_noise_is_not_flagged_where_patients_have_both_labels():
    def draw(rng):
        groups = np.repeat(np.arange(60), 4)
        return np.tile([0, 0, 1, 1], 60), rng.permutation(np.arange(60) % 2)[groups], groups

    for rejected in rejected_in_noise(draw, sets=200).values():
        assert binomtest(rejected, 200, 0.05, alternative="greater").pvalue > 0.001


def test_few_known_images_are_searched_anew():
    # 80 of 1,000 have a known background: lists of 100 hold few of them, and there are too few for lists of 100.
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(1000, 8)), np.arange(1000) % 2
    sites = np.where(np.arange(1000) < 80, np.arange(1000) // 2 % 2, -1)
    groups = np.arange(1000)
    whole = cosine_neighbors(vectors, 100, groups=groups)
    found = run_audits(whole, labels, {"site": sites}, groups, k=K, seed=0, vectors=vectors).filter(confounder="site")
    few = cosine_neighbors(vectors[:80], 100, groups=groups[:80])
    alone = run_audits(few, labels[:80], {"site": sites[:80]}, groups[:80], k=K, seed=0, vectors=vectors[:80])
    assert one(found, "croma_median")["n"] == 80
    columns = ["metric", "k", "value", "n"]
    # Neighbourhoods that are as long as lists are: those that end have their places all the same.
    same = ~pl.col("metric").is_in(["ilisi", "confounder_agreement_by_k"])
    assert found.filter(same).select(columns).equals(alone.filter(pl.col("confounder") == "site", same).select(columns))


def test_values_of_images_are_of_one_size():
    world = worlds.mixed()
    neighbors = cosine_neighbors(world.vectors, 40, groups=world.groups)
    tables = audit_cell(neighbors, world.labels, {"site": world.confounder}, world.groups, k=K, seed=0)
    assert tables.summary["metric"].str.ends_with("_by_k").any()
    assert not tables.images["metric"].str.ends_with("_by_k").any()


def large_groups(groups):
    rng = np.random.default_rng(0)
    n = len(groups)
    vectors = rng.normal(size=(n, 6)) + 2 * rng.normal(size=(int(groups.max()) + 1, 6))[groups]
    labels, sites = groups % 2, groups // 2 % 2
    space = Space.of(vectors)
    neighbors = cosine_neighbors(vectors, 100, groups=groups)
    return croma(neighbors, labels, sites, groups, k=K, seed=0, space=space), (space, labels, sites, groups)


def test_margins_without_a_block_are_those_of_a_search_without_it():
    # Ten of an image's nearest may all be of one patient of 15.
    groups = np.repeat(np.arange(24), 15)
    found, (space, labels, sites, _) = large_groups(groups)

    def median(keep):
        part = space.among(keep)
        lists = cosine_neighbors(part.unit, 100, groups=groups[keep])
        return croma(lists, labels[keep], sites[keep], groups[keep], k=K, seed=0, space=part)[0].value

    low, high = jackknife(median, groups, seed=0, within=(-1, 1))
    assert (found[0].ci_low, found[0].ci_high) == pytest.approx((low, high))


def test_margins_have_no_interval_where_a_block_holds_all_the_nearest():
    found, _ = large_groups(np.repeat(np.arange(12), 90))
    assert found[0].value is not None
    assert found[0].ci_low is None
    assert "no interval: a twentieth of the groups" in found[0].note
