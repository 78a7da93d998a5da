import croma
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import analysis.bias_probes as package
from analysis.arrays import encode
from analysis.bias_probes import SCHEMA, bias_probes, discover_probes
from analysis.bias_probes.case import BiasScore, Case, Heading
from analysis.bias_probes.held_out import TooFewError, grouped_folds, predict_held_out
from analysis.bias_probes.leace import fit_leace
from analysis.bias_probes.reweighted import independence_weights
from analysis.bias_probes.stratum_gap import worst_and_gap
from analysis.bias_probes.walk import CRAMERS_V, design_walk, summarise
from analysis.bootstrap import Interval
from analysis.probes import probe
from analysis.statistics import cramers_v
from tests import worlds

KEYS = ["target", "protocol", "stratum", "metric"]
VALUES = ("breast", "axilla")


def crossed(
    *,
    lesion=0.0,
    background=0.0,
    association=0.0,
    turned=0.0,
    blind=False,
    patient=1.0,
    n_groups=120,
    size=2,
    d=12,
    seed=0,
):
    """Two labels and two backgrounds, associated as told; the lesion may look different on one of them, or unseen."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(n_groups) % 2)
    value = np.where(rng.random(n_groups) < (1 + association) / 2, label, 1 - label)
    if association == 0:
        for code in (0, 1):
            value[label == code] = rng.permutation(np.arange((label == code).sum()) % 2)
    groups = np.repeat(np.arange(n_groups), size)
    label, value = label[groups], value[groups]
    directions = np.linalg.qr(rng.normal(size=(d, 3)))[0].T
    sign = 2 * label - 1
    seen = np.where(blind & (value == 1), 0, lesion)
    vectors = rng.normal(size=(len(groups), d)) + patient * rng.normal(size=(n_groups, d))[groups]
    vectors += np.outer(sign * seen * np.where(value == 1, 1 - turned, 1), directions[0])
    vectors += np.outer(sign * lesion * turned * (value == 1), directions[1])
    vectors += np.outer((2 * value - 1) * background, directions[2])
    return worlds.World(
        vectors.astype(np.float32), np.array(["benign", "malignant"])[label], np.array(VALUES)[value], groups
    )


def run(world, seed=0, **given):
    return bias_probes(world.vectors, world.labels, world.groups, {"site": world.confounder}, seed=seed, **given)


def one(frame, **keys):
    [row] = frame.filter(**keys).iter_rows(named=True)
    return row


@pytest.fixture(scope="module")
def lesion_only():
    return run(crossed(lesion=4))


@pytest.fixture(scope="module")
def background_only():
    return run(crossed(background=4))


@pytest.fixture(scope="module")
def mixed():
    return run(crossed(lesion=1.2, background=4, association=0.3, n_groups=240))


@pytest.fixture(scope="module")
def turned():
    """The lesion looks different on either background."""
    return run(crossed(lesion=4, turned=1.0, background=1))


def test_every_row_has_its_support_or_a_reason(lesion_only):
    assert dict(lesion_only.schema) == SCHEMA
    assert not lesion_only.select(KEYS).is_duplicated().any()
    assert set(lesion_only["split"]) == {"cv"}
    assert lesion_only["fold"].is_null().all()
    defined = lesion_only.filter(pl.col("value").is_not_null())
    assert (defined["n"] > 0).all()
    assert (defined["ci_low"] <= defined["value"] + 1e-9).all()
    assert (defined["value"] <= defined["ci_high"] + 1e-9).all()
    assert lesion_only.filter(pl.col("value").is_null())["note"].str.starts_with("undefined: ").all()
    assert set(lesion_only["protocol"]) == {
        "background_only", "c_path", "dropped:site", "erased:site", "grouped", "leak", "reweighted:site", "shuffled",
        "transfer", "walk", "within_class",
    }  # fmt: skip


def test_background_is_decoded_within_a_class_where_it_is(lesion_only, background_only):
    for label in ("benign", "malignant"):
        keys = {"protocol": "within_class", "stratum": f"label={label}", "metric": "balanced_accuracy"}
        assert one(background_only, **keys)["ci_low"] > 0.9
        assert one(lesion_only, **keys)["value"] < 0.6


def test_label_does_not_stand_in_for_the_background():
    world = crossed(lesion=4, association=0.8, n_groups=240)
    decoded = probe(world.vectors, world.confounder, world.groups, protocol="grouped", target="site", seed=0).scores
    whole = one(decoded.filter(pl.col("fold").is_null()), split="cv", metric="balanced_accuracy")
    within = one(run(world), protocol="within_class", stratum="label=benign", metric="balanced_accuracy")
    assert whole["ci_low"] > 0.8
    assert within["value"] < 0.6


def test_transfer_drops_where_the_lesion_looks_different(lesion_only, turned):
    for stratum in ("site:breast→axilla", "site:axilla→breast"):
        keys = {"protocol": "transfer", "stratum": stratum}
        assert one(turned, **keys, metric="transfer_drop")["ci_low"] > 0.2
        assert abs(one(lesion_only, **keys, metric="transfer_drop")["value"]) < 0.03
        to = stratum.split("→")[1]
        stay = one(turned, protocol="transfer", stratum=f"site:{to}→{to}", metric="balanced_accuracy")
        across = one(turned, **keys, metric="balanced_accuracy")
        drop = one(turned, **keys, metric="transfer_drop")
        assert drop["value"] == pytest.approx(stay["value"] - across["value"])


def test_transfer_leaves_one_of_many_values_out():
    world = worlds.lesion_only()
    frame = run(world).filter(protocol="transfer", metric="transfer_drop")
    assert set(frame["stratum"]) == {f"site:others→{value}" for value in ("axilla", "breast", "none")}
    assert frame["value"].abs().max() < 0.05


def test_stratum_gap_where_one_background_hides_the_lesion(lesion_only):
    blind = run(crossed(lesion=4, blind=True))
    gap = {"protocol": "grouped", "stratum": "site"}
    assert one(blind, **gap, metric="stratum_gap")["ci_low"] > 0.2
    assert one(blind, **gap, metric="worst_stratum_accuracy")["value"] < 0.65
    assert "worst over all folds: axilla" in one(blind, **gap, metric="stratum_gap")["note"]
    even = one(lesion_only, **gap, metric="stratum_gap")
    assert even["ci_low"] <= 0 <= even["ci_high"]


def test_gap_of_equal_strata_is_zero_on_average():
    rng = np.random.default_rng(0)
    images = np.full((400, 1, 5, 3), 12)
    sums = np.stack([rng.binomial(images, 0.7), images], axis=-1).astype(float)
    worst, gap = worst_and_gap(sums).mean(axis=0)
    naive = sums[..., 0].sum(axis=2) / 60
    assert worst == pytest.approx(0.7, abs=0.012)
    assert gap == pytest.approx(0, abs=0.02)
    # What choosing and scoring on the same images would give.
    assert (naive.max(axis=-1) - naive.min(axis=-1)).mean() > 0.07


def test_leak_is_what_groups_give_away(lesion_only):
    # Nothing but the patient is to be seen.
    patients = run(crossed(n_groups=60, size=6, d=100))
    for metric in ("accuracy", "macro_f1"):
        assert one(patients, protocol="leak", metric=metric)["ci_low"] > 0.03
        assert abs(one(lesion_only, protocol="leak", metric=metric)["value"]) < 0.03


def test_walk_degrades_where_the_background_is_louder(lesion_only, mixed):
    for metric in ("apd", "nipd"):
        assert one(mixed, protocol="walk", metric=metric)["ci_high"] < -0.03
        assert abs(one(lesion_only, protocol="walk", metric=metric)["value"]) < 0.03
    curve = mixed.filter(protocol="walk", metric="accuracy")
    assert curve["stratum"].to_list() == [f"site:V={v:.2f}" for v in CRAMERS_V]
    assert curve["value"][0] > curve["value"][-1] + 0.15


@pytest.mark.parametrize(
    ("probe_name", "planted", "strengths", "fixed", "keys", "chance"),
    [
        (
            "within_label_gap",
            "background",
            (0, 1, 3),
            {"lesion": 1.2, "association": 0.6, "n_groups": 400},
            {"metric": "within_label_gap"},
            0,
        ),
        (
            "within_class",
            "background",
            (0, 0.5, 2),
            {"lesion": 1, "n_groups": 240},
            {"stratum": "label=benign", "metric": "balanced_accuracy"},
            0.5,
        ),
        (
            "transfer",
            "turned",
            (0, 0.5, 1),
            {"lesion": 2, "n_groups": 240},
            {"stratum": "site:breast→axilla", "metric": "transfer_drop"},
            0,
        ),
        ("leak", "patient", (0, 1, 2), {"n_groups": 80, "size": 6, "d": 100}, {"metric": "accuracy"}, 0),
        ("walk", "background", (0, 0.5, 2), {"lesion": 1.2, "n_groups": 400}, {"metric": "apd"}, 0),
        ("walk", "background", (0, 0.5, 2), {"lesion": 1.2, "n_groups": 400}, {"metric": "nipd"}, 0),
    ],
    ids=["gap", "decodability", "transfer", "leak", "apd", "nipd"],
)
def test_nothing_where_nothing_is_planted_and_more_the_more_is(
    probe_name, planted, strengths, fixed, keys, chance, monkeypatch
):
    monkeypatch.setattr(package, "discover_probes", lambda: {probe_name: discover_probes()[probe_name]})
    none, some, much = (one(run(crossed(**fixed, **{planted: strength})), **keys) for strength in strengths)
    assert none["ci_low"] <= chance <= none["ci_high"]
    # Performance drops below what it was, all else rises above it.
    harm = [abs(row["value"] - chance) for row in (some, much)]
    assert abs(none["value"] - chance) < harm[0] < harm[1]
    assert not much["ci_low"] <= chance <= much["ci_high"]
    assert (much["value"] < chance) == (probe_name == "walk")


def test_within_label_gap_by_hand(mixed):
    world = crossed(lesion=1.2, background=4, association=0.3, n_groups=240)
    cv = probe(
        world.vectors, world.labels, world.groups, protocol="grouped", target="label", seed=0
    ).predictions.filter(split="cv")
    cv = cv.with_columns(site=pl.Series(world.confounder[cv["row"].to_numpy()]))
    gaps = []
    for label in ("benign", "malignant"):
        hits = images = np.zeros(2)
        for fold in range(5):
            of_label = cv.filter(truth=label)
            others = of_label.filter(pl.col("fold") != fold).group_by("site").agg(pl.mean("correct")).sort("correct")
            own = of_label.filter(fold=fold)
            ends = [own.filter(site=site)["correct"] for site in (others["site"][0], others["site"][-1])]
            hits, images = hits + [end.sum() for end in ends], images + [len(end) for end in ends]
        worst, best = hits / images
        gaps.append(best - worst)
    row = one(mixed, protocol="grouped", stratum="site", metric="within_label_gap")
    assert row["value"] == pytest.approx(np.mean(gaps))
    assert row["n"] == cv.height


def test_a_gap_needs_two_values_of_one_label():
    world = crossed(lesion=1, n_groups=80)
    site = np.where(world.labels == "benign", "breast", "axilla")
    frame = run(worlds.World(world.vectors, world.labels, site, world.groups))
    row = one(frame, protocol="grouped", stratum="site", metric="within_label_gap")
    assert row["note"] == "undefined: no label occurs in 5 groups or more with each of two values"


def test_walk_without_skill_is_undefined(background_only):
    row = one(background_only, protocol="walk", metric="nipd")
    assert row["value"] is None
    assert "not above chance" in row["note"]
    assert one(background_only, protocol="walk", metric="apd")["value"] is not None


@pytest.mark.parametrize("seed", range(5))
def test_degradation_agrees_with_croma(seed):
    rng = np.random.default_rng(seed)
    images = np.repeat(rng.integers(1, 9, size=(10, 1)), 4, axis=1)
    hits = rng.binomial(np.broadcast_to(images, (len(CRAMERS_V), 10, 4)), 0.8)
    accuracy = hits.sum(axis=-1) / images.sum(axis=-1)
    [found] = summarise(np.concatenate([hits, images[None]])[None].astype(float))
    np.testing.assert_allclose(found[:-2], accuracy.mean(axis=1))
    assert found[-2] == pytest.approx(croma.apd(accuracy))
    assert found[-1] == pytest.approx(croma.nipd(accuracy, CRAMERS_V, 0.5))


def case_of(world, seed=0):
    labels, site = encode(world.labels, what="labels"), encode(world.confounder, what="site")
    return Case(world.vectors, labels, world.groups, {"site": site}, seed, {"grouped": "none", "published": "none"})


def test_walk_sets_are_what_they_say():
    case = case_of(crossed(association=0.3, n_groups=160, size=3))
    label, site = case.labels.codes, case.backgrounds["site"].codes
    walk, pairing = design_walk(case, case.backgrounds["site"])
    # Values are sorted: axilla was planted with malignant.
    assert pairing == "benign with breast, malignant with axilla at V=1"
    for number, (fit, test) in enumerate(walk.folds):
        v = CRAMERS_V[number % len(CRAMERS_V)]
        assert cramers_v(label[fit], site[fit]) == pytest.approx(v, abs=1e-9)
        assert np.bincount(label[fit]).tolist() == [walk.per_class] * 2
        assert np.unique(np.bincount(2 * label[test] + site[test])).size == 1
        assert not set(case.groups[fit]) & set(case.groups[test])
        first = walk.folds[number - number % len(CRAMERS_V)]
        np.testing.assert_array_equal(test, first[1])
        if v == 1:
            # Of each class half the images stay, the other half is exchanged.
            assert len(set(fit.tolist()) & set(first[0].tolist())) == walk.per_class


def test_shuffled_labels_are_not_learnt(lesion_only):
    row = one(lesion_only, protocol="shuffled", metric="balanced_accuracy")
    assert 0.35 < row["value"] < 0.6
    assert row["n"] == 240


def test_background_alone_tells_what_it_is_associated_with(lesion_only):
    confounded = run(crossed(association=0.9))
    keys = {"protocol": "background_only", "stratum": "all", "metric": "balanced_accuracy"}
    assert one(confounded, **keys)["ci_low"] > 0.85
    assert one(lesion_only, **keys)["value"] < 0.6


def test_erasing_leaves_the_label(mixed, background_only):
    for frame in (mixed, background_only):
        keys = {"target": "site", "protocol": "erased:site", "metric": "balanced_accuracy"}
        before, after = (one(frame, **keys, stratum=stratum) for stratum in ("before", "after"))
        assert before["ci_low"] > 0.9
        assert after["value"] < 0.75
    change = one(mixed, target="label", protocol="erased:site", metric="change")
    assert change["ci_low"] > -0.15


def test_dropping_costs_where_the_lesion_looks_different(lesion_only, turned):
    keys = {"protocol": "dropped:site", "stratum": "after", "metric": "change"}
    assert one(turned, **keys)["ci_high"] < 0
    assert abs(one(lesion_only, **keys)["value"]) < 0.03


def test_reweighting_parts_label_and_background(lesion_only):
    confounded = run(crossed(lesion=1, background=2, association=0.9, n_groups=600, size=1))
    keys = {"protocol": "reweighted:site", "metric": "group_balanced_accuracy"}
    before, after = (one(confounded, **keys, stratum=stratum) for stratum in ("before", "after"))
    change = one(confounded, protocol="reweighted:site", metric="group_balanced_change")
    assert change["value"] == pytest.approx(after["value"] - before["value"])
    assert change["ci_low"] > 0
    assert one(confounded, protocol="reweighted:site", metric="change")["ci_high"] < 0
    for metric in ("change", "group_balanced_change"):
        assert abs(one(lesion_only, protocol="reweighted:site", metric=metric)["value"]) < 0.03


def test_reweighted_scores_agree_with_liblinear():
    world = crossed(lesion=0.8, background=1, association=0.5, n_groups=100)
    case = case_of(world)
    folds = grouped_folds(np.arange(200), case.labels.codes, world.groups, case.labels.names, seed=0)
    site = case.backgrounds["site"].codes
    weights = np.stack([independence_weights(case.labels.codes, site, fit) for fit, _ in folds])
    found = predict_held_out(world.vectors, case.labels.codes, world.groups, folds, sample_weight=weights)
    expected = []
    for (fit, held_out), weight in zip(folds, weights, strict=True):
        scaler = StandardScaler().fit(world.vectors[fit])
        model = LinearSVC(C=100 / len(fit), tol=1e-9, max_iter=10**6, random_state=0)
        model.fit(scaler.transform(world.vectors[fit]), case.labels.codes[fit], sample_weight=weight[fit])
        expected.extend(model.predict(scaler.transform(world.vectors[held_out])))
    np.testing.assert_array_equal(found.predicted, expected)


def test_weights_make_label_and_background_independent():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    values = np.where(rng.random(500) < 0.7, labels, rng.integers(0, 3, 500))
    fit = rng.permutation(500)[:300]
    weights = independence_weights(labels, values, fit)
    table, plain = np.zeros((2, 3, 3))
    np.add.at(table, (labels[fit], values[fit]), weights[fit])
    np.add.at(plain, (labels[fit], values[fit]), 1)
    np.testing.assert_allclose(table, np.outer(plain.sum(axis=1), plain.sum(axis=0)) / 300)
    assert (weights[np.setdiff1d(np.arange(500), fit)] == 1).all()


def test_pairs_that_never_occur_are_counted():
    world = crossed(lesion=2, n_groups=80)
    site = np.where(world.labels == "benign", "breast", world.confounder)
    frame = run(worlds.World(world.vectors, world.labels, site, world.groups))
    row = one(frame, protocol="reweighted:site", stratum="after", metric="group_balanced_accuracy")
    assert row["note"].endswith("1 of 4 pairs of label and value do not occur")


def test_c_path_passes_through_the_study(mixed):
    world = crossed(lesion=1.2, background=4, association=0.3, n_groups=240)
    scores = probe(world.vectors, world.labels, world.groups, protocol="grouped", target="label", seed=0).scores
    expected = one(scores.filter(pl.col("fold").is_null()), split="cv", metric="balanced_accuracy")
    path = {row["stratum"]: row for row in mixed.filter(protocol="c_path").iter_rows(named=True)}
    assert list(path) == ["C=1/N", "C=10/N", "C=100/N", "C=1000/N"]
    assert path["C=100/N"]["value"] == pytest.approx(expected["value"])
    assert path["C=100/N"]["ci_low"] == pytest.approx(expected["ci_low"])
    assert path["C=1/N"]["value"] != path["C=1000/N"]["value"]


def test_probes_given_are_used_again(monkeypatch):
    world = crossed(lesion=1, n_groups=80)
    order = np.random.default_rng(0).permutation(len(world.labels))
    given = {
        protocol: probe(world.vectors[order], world.labels[order], world.groups[order], protocol=protocol,
                        target="label", seed=0, repeats=2)
        for protocol in ("grouped", "published")
    }  # fmt: skip
    monkeypatch.setattr(package, "probe", None)
    shuffled = worlds.World(world.vectors[order], world.labels[order], world.confounder[order], world.groups[order])
    frame = run(shuffled, **given)
    accuracy = {
        protocol: one(result.scores.filter(pl.col("fold").is_null()), split="cv", metric="accuracy")["value"]
        for protocol, result in given.items()
    }
    leak = one(frame, protocol="leak", metric="accuracy")
    assert leak["value"] == pytest.approx(accuracy["published"] - accuracy["grouped"])
    with pytest.raises(ValueError, match="has other labels"):
        run(world, **given)
    with pytest.raises(ValueError, match="of another protocol"):
        run(shuffled, grouped=given["published"], published=given["published"])


def test_no_group_straddles_a_split(monkeypatch):
    world = crossed(lesion=1, background=1, n_groups=60, size=4)
    # Patients whose images differ in background, and in label.
    rng = np.random.default_rng(0)
    site = np.where(rng.random(240) < 0.3, "axilla", world.confounder)
    labels = np.where(rng.random(240) < 0.1, "benign", world.labels)
    calls = []

    def checked(vectors, codes, groups, folds, **options):
        for fit, held_out in folds:
            assert not set(groups[fit].tolist()) & set(groups[held_out].tolist())
            calls.append(len(fit))
        return original(vectors, codes, groups, folds, **options)

    from analysis.bias_probes import held_out as module

    original = module.predict_held_out
    for name in discover_probes():
        found = getattr(package, name)
        if hasattr(found, "predict_held_out"):
            monkeypatch.setattr(found, "predict_held_out", checked)
    run(worlds.World(world.vectors, labels, site, world.groups))
    assert len(calls) > 100


def test_seed_decides_and_row_order_does_not(lesion_only):
    world = crossed(lesion=1, background=1, n_groups=80)
    frame = run(world)
    assert run(world).equals(frame)
    assert not run(world, seed=1)["value"].equals(frame["value"])
    order = np.random.default_rng(0).permutation(len(world.labels))
    moved = run(worlds.World(world.vectors[order], world.labels[order], world.confounder[order], world.groups[order]))
    assert moved.equals(frame)


def test_names_change_nothing():
    world = crossed(lesion=1, background=1, n_groups=80)
    labels = np.where(world.labels == "benign", "z", "a")
    site = np.where(world.confounder == "breast", "1", "2")
    frame, renamed = run(world), run(worlds.World(world.vectors, labels, site, world.groups))
    back = {"label=z": "label=benign", "label=a": "label=malignant"}
    renamed = renamed.with_columns(pl.col("stratum").replace(back))
    # Draws of images, and the published split, go by the order of names.
    compared = ["within_class", "grouped", "c_path", "erased:site", "background_only"]
    both = [f.filter(pl.col("protocol").is_in(compared)).sort(KEYS) for f in (frame, renamed)]
    assert both[0].select(KEYS).equals(both[1].select(KEYS))
    assert both[0].height == 19
    for column in ("value", "ci_low", "ci_high"):
        np.testing.assert_allclose(both[0][column], both[1][column])


@pytest.mark.parametrize("world", [worlds.one_group(), worlds.one_class()], ids=["one_group", "one_class"])
def test_nothing_is_made_up(world):
    frame = run(world).filter(pl.col("protocol") != "within_class")
    assert frame["value"].is_null().all()
    assert set(frame["protocol"]) > {"leak", "walk", "transfer", "erased:site", "dropped:site", "shuffled"}
    assert frame["note"].str.starts_with("undefined: ").all()


def test_reasons_are_named():
    world = crossed(lesion=2, n_groups=60)
    site = np.where((world.labels == "benign") & (world.groups > 8), "breast", world.confounder)
    rare = run(worlds.World(world.vectors, world.labels, site, world.groups))
    count = np.unique(world.groups[(world.labels == "benign") & (site == "axilla")]).size
    assert 0 < count < 5
    assert f"{count} groups" in one(rare, protocol="transfer", stratum="site:breast→axilla", metric="accuracy")["note"]
    assert "benign with axilla" in one(rare, protocol="walk", metric="apd")["note"]
    assert (
        f"axilla ({count} groups)"
        in one(rare, protocol="within_class", stratum="label=benign", metric="accuracy")["note"]
    )
    three = run(worlds.mixed())
    assert "3 values" in one(three, protocol="walk", metric="nipd")["note"]
    bare = bias_probes(world.vectors, world.labels, world.groups, {}, seed=0)
    assert one(bare, protocol="background_only", metric="accuracy")["note"].startswith("undefined: no background")
    assert one(bare, protocol="leak", metric="accuracy")["value"] is not None


def test_unknown_values_are_left_out():
    world = crossed(lesion=4, background=4)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(240) < 0.8, world.labels.astype(object), None)
    site = np.where(rng.random(240) < 0.7, world.confounder.astype(object), None)
    frame = bias_probes(world.vectors, labels, world.groups, {"site": site}, seed=0)
    known = np.array([value is not None for value in labels])
    both = known & np.array([value is not None for value in site])
    assert one(frame, protocol="shuffled", metric="accuracy")["n"] == known.sum()
    assert frame.filter(protocol="within_class", metric="accuracy")["n"].sum() == both.sum()
    into = frame.filter(pl.col("stratum").is_in(["site:breast→axilla", "site:axilla→breast"]), metric="accuracy")
    assert into["n"].sum() == both.sum()
    assert one(frame, target="label", protocol="erased:site", metric="change")["n"] < both.sum()


def test_wrong_inputs_are_refused():
    world = crossed(n_groups=20)
    with pytest.raises(ValueError, match=r"site must have shape \(40,\)"):
        bias_probes(world.vectors, world.labels, world.groups, {"site": ["a"]}, seed=0)
    with pytest.raises(ValueError, match="must be finite"):
        bias_probes(world.vectors * np.nan, world.labels, world.groups, {}, seed=0)
    with pytest.raises(TooFewError, match="4 groups of b, and 5 are needed"):
        grouped_folds(np.arange(12), np.repeat([0, 1], [8, 4]), np.arange(12), ["a", "b"], seed=0)
    heading = Heading("label", "walk", "site", "apd")
    with pytest.raises(ValueError, match="needs a note"):
        BiasScore(heading, None, Interval(None, None), 0, "")
    with pytest.raises(ValueError, match="must be None"):
        BiasScore(heading, float("nan"), Interval(None, None), 0, "")


def categories_and_vectors(n, d, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    scale = rng.uniform(0.2, 3, d)
    vectors = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * scale + 3 * rng.normal(size=(3, d))[codes]
    return vectors, codes


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
@pytest.mark.parametrize(("n", "d"), [(300, 10), (40, 60)])
def test_erased_classes_have_one_mean(n, d, shrinkage):
    vectors, codes = categories_and_vectors(n, d)
    erased = fit_leace(vectors, codes, shrinkage=shrinkage)(vectors)
    scale = np.abs(vectors).max()
    for code in range(3):
        assert np.abs(vectors[codes == code].mean(axis=0) - vectors.mean(axis=0)).max() > 0.05 * scale
        np.testing.assert_allclose(erased[codes == code].mean(axis=0), vectors.mean(axis=0), atol=1e-9 * scale)
    assert np.linalg.matrix_rank(erased - vectors, tol=1e-8 * scale) == 2


def test_no_linear_classifier_beats_the_constant_one():
    vectors, codes = categories_and_vectors(300, 10)
    constant = np.bincount(codes) / len(codes)
    # Barely penalised, it would find whatever is left.
    for features, learns in ((vectors, True), (fit_leace(vectors, codes)(vectors), False)):
        standard = (features - features.mean(axis=0)) / vectors.std(axis=0)
        model = LogisticRegression(C=1e4, max_iter=5000, tol=1e-8).fit(standard, codes)
        found = model.predict_proba(standard)
        if learns:
            assert np.abs(found - constant).max() > 0.5
        else:
            np.testing.assert_allclose(found, np.broadcast_to(constant, found.shape), atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_no_other_eraser_changes_less(seed):
    vectors, codes = categories_and_vectors(300, 10, seed)
    rng = np.random.default_rng(seed)
    change = fit_leace(vectors, codes)(vectors) - vectors
    means = np.stack([vectors[codes == code].mean(axis=0) for code in range(3)]) - vectors.mean(axis=0)
    # Whatever is added to the map must send all means to the same point: its rows are orthogonal to them.
    free = np.linalg.svd(means)[2][2:]
    for inner in (np.eye(10), np.diag(rng.uniform(0.1, 10, 10))):
        least = np.einsum("ij,jk,ik->", change, inner, change)
        for _ in range(10):
            other = change + (vectors - vectors.mean(axis=0)) @ free.T @ rng.normal(size=(len(free), 10)) * 1e-2
            assert np.einsum("ij,jk,ik->", other, inner, other) > least


def test_a_degenerate_fold_is_reported():
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(200) % 20 == 0, "rare", "common")
    # One constant feature: nothing to go by.
    result = probe(np.ones((200, 1)), labels, np.arange(200), protocol="published", target="label", seed=0)
    assert "degenerate: fold 0 predicts common only" in result.note
    varied = probe(rng.normal(size=(200, 1)) + 9 * (labels == "rare")[:, None], labels, np.arange(200),
                   protocol="published", target="label", seed=0)  # fmt: skip
    assert "degenerate" not in varied.note
