"""What a small CLIP that believes words looks at, what a written class name does to it, and runs that die midway."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from assets import materializing
from assets import saliency as saliency_asset
from assets.features import read_features
from assets.project import Project
from assets.registry import add_dataset
from assets.sampling import sampled
from assets.step import Cell, Made
from assets.steps import STEPS
from pipelines.phantoms import PhantomSpec, write_phantoms
from pipelines.sources import DataSet
from store.embeddings import import_embeddings
from store.schema import OVERLAYS, CounterstainError
from tests.trained_clip import CLASS_NAMES, NAME, SIDE_PX

IMAGES = 60


@dataclass(frozen=True)
class Looked:
    """A data set of phantoms under the small CLIP, and what the two steps made of it."""

    cell: Cell
    saliency: Made
    attack: Made

    def rows(self, table: str) -> pl.DataFrame:
        return self.cell.warehouse.frame(table).filter(encoder=self.cell.encoder).sort("row").collect()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def looked(trained_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    """Half of the phantoms have words that have nothing to do with the class."""
    from pipelines.encoders import encoder_specs
    from tests.trained_clip import lay_down_entry_point

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        site = tmp_path_factory.mktemp("site")
        lay_down_entry_point(site)
        patch.syspath_prepend(site)
        encoder_specs.cache_clear()
        folder = tmp_path_factory.mktemp("phantoms")
        spec = PhantomSpec(
            "ultrasound", IMAGES, SIDE_PX, strength=1.0, lesion_contrast=1.0, images_per_group=2, seed=21
        )
        write_phantoms(folder, spec)
        warehouse = str(tmp_path_factory.mktemp("looked") / "warehouse")
        project = Project(warehouse=warehouse, checkpoint_dir=str(trained_clip), saliency_images=0, attacked_images=0)
        add_dataset(project.open(), DataSet("phantoms", "manifest", folder))
        with materializing.dagster_instance(project) as instance:
            materializing.materialize(project, instance, ["phantoms"], [NAME], "embeddings")
        cell = Cell(project, project.open(), "phantoms", NAME)
        yield Looked(cell, STEPS["saliency"].make(cell), STEPS["typographic_attack"].make(cell))
        encoder_specs.cache_clear()


def score(looked: Looked, region: str, metric: str, **kind: str) -> dict[str, Any]:
    chosen = {"method": "grad-cam", "weights": "trained", "asked": "answer"} | kind
    return looked.rows("saliency_scores").filter(region=region, metric=metric, **chosen).row(0, named=True)


def test_the_evidence_of_a_model_that_believes_words_lies_on_them(looked: Looked) -> None:
    on_words = score(looked, "text", "energy / area")
    assert on_words["ci_low"] > 2
    assert on_words["n"] <= IMAGES / 2
    # With random weights it is about what the area gives.
    random = score(looked, "text", "energy / area", weights="random")
    assert 0.5 < random["value"] < 2
    assert random["ci_high"] < on_words["ci_low"]
    assert score(looked, "text", "energy less that of random weights")["ci_low"] > 0.03
    for region in ("lesion", "background"):
        assert 0.6 < score(looked, region, "energy / area", weights="random")["value"] < 1.6
    assert score(looked, "text", "energy", method="attention rollout", asked="vector")["value"] > 0.04
    assert looked.saliency.summary["grad-cam text energy / area"] == on_words["value"]
    assert all(check.passed for check in looked.saliency.checks.values())


def test_rows_say_of_each_image_what_lies_where(looked: Looked) -> None:
    rows = looked.rows("saliency")
    images = looked.cell.warehouse.frame("images").filter(dataset="phantoms").collect()
    assert set(rows["image_id"]) == set(images["image_id"])
    inside = rows.filter(pl.col("region").is_not_null()).drop_nulls("energy")
    by_region = {str(name): set(of["image_id"]) for (name,), of in inside.group_by("region")}
    assert by_region["text"] <= set(images.filter(pl.col("overlay_boxes").list.len() > 0)["image_id"])
    assert by_region["lesion"] == by_region["background"]
    keys = ["image_id", "method", "weights", "asked"]
    both = inside.filter(region="lesion").join(inside.filter(region="background"), on=keys)
    np.testing.assert_allclose(both["energy"] + both["energy_right"], 1)
    np.testing.assert_allclose(both["area"] + both["area_right"], 1)
    # The area of a word is that of its box: these images are shown whole.
    areas = dict(inside.filter(region="text").select("image_id", "area").iter_rows())
    for image_id, boxes in images.select("image_id", "overlay_boxes").iter_rows():
        if boxes and image_id in areas:
            (x0, y0, x1, y1), *others = boxes
            assert not others
            assert areas[image_id] == pytest.approx((x1 - x0) * (y1 - y0) / SIDE_PX**2, rel=0.05)
    labels = dict(images.select("image_id", "label").iter_rows())
    asked = rows.filter(asked="label").select("image_id", "class").unique()
    assert dict(asked.iter_rows()) == labels
    assert set(rows.filter(asked="vector")["class"]) == {""}


def test_a_bounded_number_of_maps_is_kept_as_pictures(looked: Looked) -> None:
    import io

    maps = looked.rows("saliency_maps")
    assert maps["image_id"].n_unique() == saliency_asset.MAPS_KEPT
    row = maps.row(0, named=True)
    assert Image.open(io.BytesIO(row["map"])).size == (64, 64)
    assert Image.open(io.BytesIO(row["picture"])).size == (SIDE_PX, SIDE_PX)
    assert all(0 <= place <= 1 for boxes in json.loads(row["boxes"]).values() for box in boxes for place in box)
    assert "data:image/png;base64" in looked.saliency.metadata["contact sheet"].value


def test_a_written_class_name_flips_answers_far_more_than_a_neutral_word(looked: Looked) -> None:
    scores = {(row["planted"], row["metric"]): row for row in looked.rows("typographic_attack").iter_rows(named=True)}
    assert set(looked.rows("typographic_attack")["answered_by"]) == {"texts"}
    flipped, neutral = scores[None, "flip rate"], scores[None, "flip rate, neutral word"]
    difference = scores[None, "flip rate less that of the neutral word"]
    assert flipped["value"] > 0.35
    assert flipped["value"] > 2 * neutral["value"]
    assert difference["ci_low"] > 0.15
    assert scores[None, "accuracy under attack"]["value"] < scores[None, "accuracy before"]["value"] - 0.1
    answers = looked.rows("typographic_answers")
    assert answers.height == IMAGES * len(CLASS_NAMES)
    seen = answers.filter(pl.col("before") != pl.col("planted"))
    assert flipped["value"] == pytest.approx((seen["after"] == seen["planted"]).mean())
    assert (flipped["n"], set(answers["planted"])) == (seen.height, set(CLASS_NAMES))
    assert dict(answers.select("planted", "neutral_word").unique().iter_rows())["malignant"] == "PORTABLE"


def test_a_run_that_dies_goes_on_from_what_it_found(looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    before = looked.rows("saliency")
    version = looked.cell.warehouse.open_table("saliency").version
    scored, done = saliency_asset._scored, []

    def dies(seen: Any, *arguments: Any, **options: Any) -> Any:
        if len(done) == 20:
            raise KeyboardInterrupt
        done.append(seen.image_id)
        return scored(seen, *arguments, **options)

    small = Cell(looked.cell.project.model_copy(update={"stage_size": 8}), looked.cell.warehouse, "phantoms", NAME)
    monkeypatch.setattr(saliency_asset, "_scored", dies)
    with pytest.raises(KeyboardInterrupt):
        STEPS["saliency"].make(small)
    assert looked.cell.warehouse.open_table("saliency").version == version
    again: list[str] = []
    monkeypatch.setattr(
        saliency_asset, "_scored", lambda seen, *a, **o: again.append(seen.image_id) or scored(seen, *a, **o)
    )
    STEPS["saliency"].make(small)
    assert len(again) == IMAGES - 16
    assert not set(again) & set(done[:16])
    after = looked.rows("saliency")
    numbers = ["energy", "area", "hit", "iou"]
    assert after.drop(*numbers, "correlation").equals(before.drop(*numbers, "correlation"))
    # Images are mapped in other batches the second time.
    np.testing.assert_allclose(after.select(numbers).drop_nulls(), before.select(numbers).drop_nulls(), atol=0.02)


def test_marks_are_a_region_and_a_flag_set_to_no_is_believed(looked: Looked) -> None:
    warehouse = looked.cell.warehouse
    images = warehouse.frame("images").filter(dataset="phantoms").sort("image_id").collect()
    worded = images.filter(pl.col("overlay_boxes").list.len() > 0)["image_id"].to_list()
    item = {"item": 0, "kind": "calliper", "text": None, "term": None, "box": [1, 2, 30, 40], "confidence": 1.0}
    row = {"dataset": "phantoms", "image_id": worded[0], "possible_identifying": False, **item}
    warehouse.upsert(OVERLAYS, [row])
    regions = saliency_asset.known_regions(looked.cell)
    assert regions[worded[0]]["marks"] == [(1, 2, 30, 40)]
    assert "marks" not in regions[worded[1]]
    assert "text" in regions[worded[1]]
    warehouse.correct("phantoms", pl.DataFrame({"image_id": [worded[1]], "text_overlay": [False]}))
    assert "text" not in saliency_asset.known_regions(looked.cell)[worded[1]]


def test_imported_vectors_have_no_encoder_to_look_into(looked: Looked, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(IMAGES, 6)))
    names = pl.DataFrame({"uri": [f"images/{i:06d}.png" for i in range(IMAGES)]})
    import_embeddings(looked.cell.warehouse, "mine", "phantoms", tmp_path / "v.npy", names)
    cell = Cell(looked.cell.project, looked.cell.warehouse, "phantoms", "mine")
    for asset, table in (("saliency", "saliency_scores"), ("typographic_attack", "typographic_attack")):
        made = STEPS[asset].make(cell)
        (row,) = cell.warehouse.frame(table).filter(encoder="mine").collect().iter_rows(named=True)
        assert row["value"] is None
        assert row["note"].startswith("undefined: the vectors were imported")
        assert made.summary == {}


def test_a_sample_is_the_same_for_every_encoder_and_moves_little(looked: Looked) -> None:
    features = read_features(looked.cell)
    some = sampled(looked.cell, features, 20)
    assert some.height == 20
    assert some.equals(sampled(looked.cell, features, 20))
    # Images that have no vector yet are none that can be asked about.
    fewer = sampled(looked.cell, replace(features, images=features.images.head(54)), 20)
    assert set(fewer["image_id"]) <= set(features.images["image_id"].head(54))
    assert len(set(some["image_id"]) & set(fewer["image_id"])) >= 14
    assert sampled(looked.cell, features, 0).height == sampled(looked.cell, features, IMAGES).height == IMAGES
    other = Cell(looked.cell.project.model_copy(update={"seed": 1}), looked.cell.warehouse, "phantoms", NAME)
    assert not sampled(other, features, 20).equals(some)


def test_images_that_are_away_are_an_error_and_leave_what_is_stored(
    looked: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = looked.rows("saliency")

    def nothing(*_: object) -> Any:
        return SimpleNamespace(read=lambda dataset: ())

    monkeypatch.setattr(saliency_asset, "reader_of", nothing)
    with pytest.raises(CounterstainError, match="no longer where they were read from"):
        STEPS["saliency"].make(looked.cell)
    assert looked.rows("saliency").equals(before)


def test_empty_maps_are_counted_by_image_wherever_things_are_known(looked: Looked) -> None:
    rows = looked.rows("saliency")
    whole = rows.filter(pl.col("region").is_null(), asked="answer")
    assert whole.height == IMAGES
    assert whole["energy"].drop_nulls().unique().to_list() == pytest.approx([1])
    some = pl.int_range(pl.len()).over("asked") < 20
    emptied = pl.when(some).then(None).otherwise("energy").alias("energy")
    check = saliency_asset._checks(rows.filter(pl.col("region").is_null()).with_columns(emptied))["maps_say_something"]
    assert not check.passed
