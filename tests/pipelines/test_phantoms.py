"""Phantoms: known lesions, known planted background, and nothing else that tells the label."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from pipelines.phantoms import CLASSES, MANIFEST_COLUMNS, Modality, Phantom, PhantomSpec, draw_phantom, write_phantoms
from pipelines.phantoms import manifest as manifest_module
from pipelines.phantoms.spec import assign

MODALITIES: tuple[Modality, ...] = get_args(Modality)
MARKED: tuple[Modality, ...] = ("ultrasound", "radiograph")


def small(modality: Modality, **changes: Any) -> PhantomSpec:
    """Twelve groups of four at a size that draws fast: four groups a class of three, six a class of two."""
    return replace(PhantomSpec(modality, n_images=48, side_px=96, seed=7), **changes)


def draw_all(spec: PhantomSpec) -> list[Phantom]:
    return [draw_phantom(spec, index) for index in range(spec.n_images)]


def cramers_v(first: list[Any], second: list[Any]) -> float:
    rows, columns = sorted(set(first)), sorted(set(second))
    counts = Counter(zip(first, second, strict=True))
    table = np.array([[counts[row, column] for column in columns] for row in rows], dtype=float)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi_square = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi_square / table.sum() / (min(table.shape) - 1)))


def changed(first: Phantom, second: Phantom) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return (first.pixels != second.pixels).any(axis=2)


def inside(boxes: tuple[tuple[int, int, int, int], ...], side_px: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    covered = np.zeros((side_px, side_px), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= side_px
        assert 0 <= y0 < y1 <= side_px
        covered[y0:y1, x0:x1] = True
    return covered


@pytest.mark.parametrize("modality", MODALITIES)
def test_an_image_is_the_same_drawn_alone_or_after_others(modality: Modality) -> None:
    spec = small(modality, strength=0.8, association=0.5)
    together = [draw_phantom(spec, index) for index in (0, 1, 9)]
    assign.cache_clear()
    alone = draw_phantom(spec, 9)
    np.testing.assert_array_equal(alone.pixels, together[2].pixels)
    assert alone.caption == together[2].caption
    assert alone.overlay_boxes == together[2].overlay_boxes
    assert alone.pixels.shape == (96, 96, 3)
    assert alone.pixels.dtype == np.uint8
    assert (together[0].pixels != together[1].pixels).any()


@pytest.mark.parametrize("modality", MODALITIES)
def test_seeds_give_different_images(modality: Modality) -> None:
    first, second = draw_phantom(small(modality, seed=1), 0), draw_phantom(small(modality, seed=2), 0)
    assert changed(first, second).mean() > 0.5


@pytest.mark.parametrize("modality", MODALITIES)
def test_classes_are_balanced_and_groups_hold_one_label(modality: Modality) -> None:
    phantoms = draw_all(small(modality))
    per_class = 48 // len(CLASSES[modality])
    assert Counter(phantom.label for phantom in phantoms) == dict.fromkeys(CLASSES[modality], per_class)
    group_of = [phantom.slide if modality == "tissue" else phantom.patient for phantom in phantoms]
    assert set(Counter(group_of).values()) == {4}
    assert len({(phantom.label, group) for phantom, group in zip(phantoms, group_of, strict=True)}) == 12
    assert all((phantom.slide is None) == (modality != "tissue") for phantom in phantoms)


def test_a_last_group_may_be_smaller() -> None:
    plan = assign(PhantomSpec("ultrasound", n_images=11, images_per_group=4))
    assert [image.group for image in plan] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("modality", MODALITIES)
def test_images_of_a_group_look_alike(modality: Modality) -> None:
    phantoms = draw_all(small(modality, lesion_contrast=0.0))
    # Fields of a slide share their dye, not their layout; views of a patient share both.
    cells = 1 if modality == "tissue" else 8
    shape = (cells, 96 // cells, cells, 96 // cells, 3)
    coarse = np.stack([phantom.pixels.reshape(shape).mean(axis=(1, 3)).ravel() for phantom in phantoms])
    distance = np.linalg.norm(coarse[:, None] - coarse[None], axis=2)
    group = np.arange(48) // 4
    same = (group[:, None] == group) & ~np.eye(48, dtype=bool)
    assert np.median(distance[same]) < 0.85 * np.median(distance[group[:, None] != group])


@pytest.mark.parametrize("modality", MARKED)
def test_words_and_marks_are_independent_of_the_label_at_association_0(modality: Modality) -> None:
    plan = assign(small(modality, strength=1.0))
    assert Counter((image.label, image.words, image.mark) for image in plan) == {
        (label, words, mark): 4 for label in CLASSES[modality] for words in (True, False) for mark in (True, False)
    }
    views = [image.view for image in plan]
    assert len(set(views)) > 1
    assert cramers_v([image.label for image in plan], views) == pytest.approx(0)


@pytest.mark.parametrize("modality", MARKED)
def test_the_share_with_words_and_marks_runs_from_none_to_all_at_association_1(modality: Modality) -> None:
    plan = assign(small(modality, strength=1.0, association=1.0))
    for flag in ("words", "mark"):
        carriers = Counter(image.label for image in plan if getattr(image, flag))
        assert [carriers[label] for label in CLASSES[modality]] == [0, 8, 16]


@pytest.mark.parametrize("modality", MARKED)
def test_association_between_two_classes_grows_to_1(modality: Modality) -> None:
    extremes = CLASSES[modality][0], CLASSES[modality][-1]
    values = []
    for association in (0.0, 0.5, 1.0):
        plan = [i for i in assign(small(modality, strength=1.0, association=association)) if i.label in extremes]
        values.append(cramers_v([image.label for image in plan], [image.words for image in plan]))
    assert values == pytest.approx([0.0, 0.5, 1.0])


def test_stain_goes_to_whole_slides_and_with_the_label_as_asked() -> None:
    values = []
    for association in (0.0, 1.0):
        plan = assign(small("tissue", strength=1.0, association=association))
        assert len({(image.group, image.stain) for image in plan}) == 12
        assert Counter(image.stain for image in plan) == {"a": 24, "b": 24}
        values.append(cramers_v([image.label for image in plan], [image.stain for image in plan]))
    assert values == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("modality", MODALITIES)
def test_at_strength_0_nothing_is_planted_whatever_the_association(modality: Modality) -> None:
    for plain, tied in zip(draw_all(small(modality)), draw_all(small(modality, association=1.0)), strict=True):
        np.testing.assert_array_equal(plain.pixels, tied.pixels)
        for phantom in (plain, tied):
            assert not phantom.text_overlay
            assert not phantom.annotation
            assert phantom.overlay_text is None
            assert phantom.overlay_boxes == phantom.annotation_boxes == phantom.annotation_kinds == ()
            assert phantom.stain == ("a" if modality == "tissue" else None)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_strength_too_small_to_see_keeps_the_flags_and_the_pixels(modality: Modality) -> None:
    plain, null = draw_all(small(modality)), draw_all(small(modality, strength=1e-6))
    assert len({(phantom.text_overlay, phantom.annotation, phantom.stain) for phantom in null}) > 1
    assert np.mean([changed(first, second).mean() for first, second in zip(plain, null, strict=True)]) < 1e-4


@pytest.mark.parametrize("modality", MARKED)
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_planted_pixels_lie_in_the_recorded_boxes(modality: Modality, strength: float) -> None:
    plain, planted = draw_all(small(modality)), draw_all(small(modality, strength=strength))
    for before, after in zip(plain, planted, strict=True):
        difference = changed(before, after)
        boxes = after.overlay_boxes + after.annotation_boxes
        assert not (difference & ~inside(boxes, 96)).any()
        assert all(difference[y0:y1, x0:x1].any() for x0, y0, x1, y1 in boxes)
        assert after.text_overlay == bool(after.overlay_boxes) == bool(after.overlay_text)
        assert after.annotation == bool(after.annotation_boxes) == bool(after.annotation_kinds)
        assert before.lesion_box == after.lesion_box
        assert before.caption == after.caption


def test_words_say_the_view_and_grow_with_strength() -> None:
    faint, strong = (draw_all(small("ultrasound", strength=strength, side_px=160)) for strength in (0.2, 1.0))
    heights = []
    for phantoms in (faint, strong):
        burned = [phantom for phantom in phantoms if phantom.text_overlay]
        assert len(burned) == 24
        assert all(phantom.overlay_text == phantom.view.upper() for phantom in burned)
        heights.append(np.mean([y1 - y0 for phantom in burned for _, y0, _, y1 in phantom.overlay_boxes]))
    assert {word for p in strong if p.overlay_text for word in p.overlay_text.split()} == {
        "LEFT",
        "RIGHT",
        "BREAST",
        "AXILLA",
    }
    assert heights[0] < heights[1]


def test_a_radiograph_marker_stands_on_the_side_it_names() -> None:
    burned = [phantom for phantom in draw_all(small("radiograph", strength=1.0)) if phantom.overlay_text]
    assert {phantom.overlay_text for phantom in burned} == {"L", "R", "L PORTABLE", "R PORTABLE"}
    for phantom in burned:
        assert phantom.overlay_text is not None
        assert (phantom.overlay_boxes[0][0] > 48) == phantom.overlay_text.startswith("L")
        assert ("PORTABLE" in phantom.overlay_text) == (phantom.view == "ap")


@pytest.mark.parametrize("modality", MARKED)
def test_marks_do_not_depend_on_what_lesion_is_there(modality: Modality) -> None:
    blank = draw_all(small(modality, strength=1.0, lesion_contrast=0.0))
    full = draw_all(small(modality, strength=1.0, lesion_contrast=1.0))
    assert [p.annotation_boxes for p in blank] == [p.annotation_boxes for p in full]


def test_stain_shifts_slides_b_and_leaves_slides_a_alone() -> None:
    shifts = []
    for strength in (0.5, 1.0):
        pairs = list(zip(draw_all(small("tissue")), draw_all(small("tissue", strength=strength)), strict=True))
        assert not any(changed(plain, planted).any() for plain, planted in pairs if planted.stain == "a")
        moved = [
            planted.pixels.mean((0, 1)) - plain.pixels.mean((0, 1)) for plain, planted in pairs if planted.stain == "b"
        ]
        shifts.append(np.linalg.norm(np.mean(moved, axis=0)))
    assert 5 < shifts[0] < shifts[1]


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("contrast", [0.3, 1.0])
def test_the_lesion_box_holds_all_that_the_lesion_changes(modality: Modality, contrast: float) -> None:
    blank = draw_all(small(modality, lesion_contrast=0.0))
    shown = draw_all(small(modality, lesion_contrast=contrast))
    for without, with_lesion in zip(blank, shown, strict=True):
        assert without.lesion_box is None
        assert "lesion" in without.caption or "no finding" in without.caption
        difference = changed(without, with_lesion)
        if with_lesion.label in ("normal", "no_finding"):
            assert with_lesion.lesion_box is None
            assert not difference.any()
        else:
            assert with_lesion.lesion_box is not None
            covered = inside((with_lesion.lesion_box,), 96)
            assert not (difference & ~covered).any()
            assert difference[covered].mean() > 0.2


def test_masses_are_dark_and_nodules_bright() -> None:
    for modality, sign in (("ultrasound", -1), ("radiograph", 1)):
        blank, shown = (draw_all(small(modality, lesion_contrast=contrast)) for contrast in (0.0, 1.0))  # type: ignore[arg-type]
        for before, after in zip(blank, shown, strict=True):
            if after.lesion_box is not None:
                change = after.pixels.astype(float) - before.pixels
                extreme = change.min() if sign < 0 else change.max()
                assert sign * extreme > 20
                assert after.label in after.caption or "opacity" in after.caption


def test_captions_name_the_class() -> None:
    for modality in MODALITIES:
        for phantom in draw_all(small(modality)):
            assert phantom.label.replace("_", " ") in phantom.caption


def test_the_manifest_says_what_was_drawn(tmp_path: Path) -> None:
    spec = small("ultrasound", n_images=12, strength=1.0)
    path = write_phantoms(tmp_path / "set", spec)
    assert sorted(p.name for p in path.parent.iterdir()) == ["images", "manifest.csv"]
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == MANIFEST_COLUMNS
        rows = list(reader)
    assert [row["path"] for row in rows] == [f"images/{index:06d}.png" for index in range(12)]
    for index, row in enumerate(rows):
        phantom = draw_phantom(spec, index)
        np.testing.assert_array_equal(np.asarray(Image.open(path.parent / row["path"])), phantom.pixels)
        for field in ("label", "patient", "modality", "view", "caption"):
            assert row[field] == getattr(phantom, field)
        assert row["slide"] == row["stain"] == ""
        assert row["text_overlay"] == ("true" if phantom.text_overlay else "false")
        assert row["annotation"] == ("true" if phantom.annotation else "false")
        assert row["annotation_kinds"] == ("calliper" if phantom.annotation else "")
        assert row["overlay_text"] == (phantom.overlay_text or "")
        boxes = tuple(tuple(box) for box in json.loads(row["overlay_boxes"] or "[]"))
        assert boxes == phantom.overlay_boxes
        assert json.loads(row["lesion_box"] or "null") == (list(phantom.lesion_box) if phantom.lesion_box else None)


def test_equal_specs_give_equal_bytes(tmp_path: Path) -> None:
    spec = small("tissue", n_images=4, strength=0.5)
    files = []
    for name in ("first", "second"):
        folder = write_phantoms(tmp_path / name, spec).parent
        files.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert len(files[0]) == 5
    assert files[0] == files[1]


def test_an_interrupted_set_has_no_manifest_until_it_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small("radiograph", n_images=4)
    whole = write_phantoms(tmp_path, spec).read_bytes()

    def fail_at_the_third(spec: PhantomSpec, index: int) -> Phantom:
        if index == 2:
            raise KeyboardInterrupt
        return draw_phantom(spec, index)

    monkeypatch.setattr(manifest_module, "draw_phantom", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path, spec)
    assert not (tmp_path / "manifest.csv").exists()
    monkeypatch.undo()
    assert write_phantoms(tmp_path, spec).read_bytes() == whole
    assert not (tmp_path / "manifest.csv.part").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modality", "ct"),
        ("n_images", 0),
        ("n_images", 2.5),
        ("side_px", 63),
        ("images_per_group", 0),
        ("seed", -1),
        ("strength", -0.1),
        ("strength", float("nan")),
        ("association", 1.1),
        ("lesion_contrast", "high"),
    ],
)
def test_an_impossible_spec_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be"):
        PhantomSpec(**{"modality": "ultrasound", field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 48])
def test_an_index_outside_the_set_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 47"):
        draw_phantom(small("tissue"), index)
