import numpy as np
import pytest

from analysis.arrays import encode
from analysis.audits import run_audits
from analysis.design import comparable
from analysis.neighbors import cosine_neighbors
from tests import worlds


def told_apart(labels, confounder, groups=None):
    groups = np.arange(len(labels)) if groups is None else groups
    return comparable(encode(labels, what="labels"), encode(confounder, what="site"), groups)


def audited(world, confounder, **changes):
    neighbors = cosine_neighbors(world.vectors, 60, groups=world.groups)
    frame = run_audits(
        neighbors, world.labels, {"site": confounder}, world.groups, k=15, seed=0, vectors=world.vectors, **changes
    )
    return {row["metric"]: row for row in frame.filter(confounder="site").iter_rows(named=True)}


COMPARING = ("robustness_index", "mari", "croma_median", "clustering_score")


def test_a_crossed_design_is_kept_whole():
    world = worlds.mixed()
    found = told_apart(world.labels, world.confounder, world.groups)
    assert found.keep.all()
    assert found.note == ""


def test_a_label_with_one_background_is_left_out():
    # As BreastUS: no calliper on any normal image.
    labels = np.repeat(["normal", "benign", "malignant"], 40)
    marks = np.where(labels == "normal", "plain", np.tile(["plain", "marked"], 60))
    found = told_apart(labels, marks)
    np.testing.assert_array_equal(found.keep, labels != "normal")
    assert "on the 80 images" in found.note
    assert "40 left out, all of normal" in found.note


def test_what_is_left_out_takes_others_with_it():
    # c is seen with z only, and without c nothing is left that b's w could be compared with.
    cells = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "w"), ("c", "w")]
    labels, sites = (np.repeat([cell[i] for cell in cells], 5) for i in (0, 1))
    found = told_apart(labels, sites)
    np.testing.assert_array_equal(found.keep, sites != "w")
    assert "all of c, w" in found.note


def test_images_of_one_patient_are_no_combination():
    labels, sites = np.repeat(["a", "b"], 40), np.tile(["x", "y"], 40)
    groups = np.arange(80)
    groups[(labels == "a") & (sites == "x")] = 1000
    found = told_apart(labels, sites, groups)
    assert not found.keep.any()
    assert "cannot be told apart" in found.note


def test_where_label_and_background_coincide_no_number_is_given():
    world = worlds.mixed()
    found = audited(world, world.labels)
    assert found["cramers_v"]["value"] == pytest.approx(1)
    for metric in (*COMPARING, "confounder_agreement", "background_within_label", "bras"):
        assert found[metric]["value"] is None, metric
        assert found[metric]["p_value"] is None, metric
    assert "label and background cannot be told apart" in found["croma_median"]["note"] + found["mari"]["note"]
    assert "every label has one background only" in found["confounder_agreement"]["note"]


def test_comparisons_rest_on_the_images_that_allow_them():
    world = worlds.mixed()
    site = np.where(world.labels == "benign", "none", world.confounder)
    third = np.arange(240) % 6 < 2
    labels = np.where(third, "normal", world.labels)
    site = np.where(third, "none", world.confounder)
    mixed = worlds.World(world.vectors, labels, site, world.groups)
    found = audited(mixed, site)
    part = worlds.World(world.vectors[~third], labels[~third], site[~third], world.groups[~third])
    alone = audited(part, part.confounder)
    for metric in COMPARING:
        assert found[metric]["value"] == pytest.approx(alone[metric]["value"], abs=1e-6), metric
        assert "all of normal" in found[metric]["note"], metric
    assert "no image of: normal with axilla, normal with breast" in found["cramers_v"]["note"]
    assert found["confounder_agreement"]["n"] == 240
    assert "2 of 3 labels vary in background" in found["background_within_label"]["note"]


def test_matched_neighbours_are_not_moved_by_an_association():
    # The vectors show the lesion only; the background follows the label in nine images of ten.
    world = worlds.lesion_only()
    follow = np.repeat(np.random.default_rng(1).random(120) < 0.9, 2)
    site = np.where(follow == (world.labels == "benign"), "left", "right")
    found = audited(world, site)
    assert found["confounder_agreement"]["value"] > 0.7
    matched = found["background_within_label"]
    assert matched["ci_low"] <= matched["expected"] <= matched["ci_high"]
    assert found["label_within_background"]["value"] > 0.9 > found["label_within_background"]["expected"]
    # And where the vectors show the background only, that is what is found.
    world = worlds.background_only()
    found = audited(world, world.confounder)
    assert found["background_within_label"]["value"] > 0.9
    within = found["label_within_background"]
    assert within["ci_low"] <= within["expected"] <= within["ci_high"]
