"""Overlays and duplicates as assets: flags filled, groups kept together, nothing that may identify shown."""

import io
import json
import logging
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont

from assets import bias_report, duplicates, images, materializing
from assets.features import read_features
from assets.project import Project
from assets.registry import add_dataset
from assets.step import Cell
from pipelines.overlays.redaction import COVER
from pipelines.phantoms import PhantomSpec, draw_phantom
from pipelines.sources import DataSet
from store.embeddings import import_embeddings
from store.runs import latest_runs

from .conftest import ENCODER

NAME = "GARCIA, MARIA"
IMAGES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tissue of two classes, most with AXILLA or BREAST, two with a name; one picture once more as JPEG."""
    root = tmp_path_factory.mktemp("burned")
    spec = PhantomSpec(modality="ultrasound", n_images=IMAGES, strength=0.0, images_per_group=1, seed=3)
    for index in range(IMAGES):
        image = Image.fromarray(draw_phantom(spec, index).pixels)
        text = NAME if index < 2 else ("LT AXILLA", "RT BREAST", None)[index % 3]
        if text:
            ImageDraw.Draw(image).text((90, 225), text, fill=(240, 240, 240), font=ImageFont.load_default(15))
        place = root / "ab"[index % 2]
        place.mkdir(exist_ok=True)
        image.save(place / f"{index:02}.png")
        if index == 5:
            image.save(root / "a" / "again.jpg", quality=90)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Project, dict[str, str], str]:
    """The project, what the UI shows of each asset, and what was logged."""
    project = Project(warehouse=str(tmp_path_factory.mktemp("made") / "warehouse"))
    add_dataset(project.open(), DataSet("burned", "folder", folder))
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("counterstain").addHandler(handler)
    shown = {}
    with materializing.dagster_instance(project) as instance:
        for asset in ("images", "overlays", "duplicates"):
            materializing.materialize(project, instance, ["burned"], asset=asset)
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
            assert event is not None
            assert event.asset_materialization is not None
            shown[asset] = str({k: v.value for k, v in event.asset_materialization.metadata.items()})
    logging.getLogger("counterstain").removeHandler(handler)
    return project, shown, "\n".join(lines)


def summary(project: Project, asset: str) -> dict[str, float]:
    numbers: dict[str, float] = json.loads(latest_runs(project.open()).filter(asset=asset)["summary"][0])
    return numbers


def test_flags_are_filled_from_what_was_found(made: tuple[Project, dict[str, str], str]) -> None:
    project, _, _ = made
    images = project.open().frame("images").sort("uri").collect()
    assert set(images["text_overlay_source"]) == {"detected"}
    texts = dict(images.select("uri", "overlay_text").iter_rows())
    for index in range(2, IMAGES):
        assert texts[f"{'ab'[index % 2]}/{index:02}.png"] == ("LT AXILLA", "RT BREAST", None)[index % 3]
    assert images.filter(~pl.col("annotation")).height == images.height
    found = project.open().search_text("axilla")
    assert set(found["overlay_text"]) == {"LT AXILLA"}


def test_what_may_identify_is_stored_with_a_flag_and_shown_nowhere(made: tuple[Project, dict[str, str], str]) -> None:
    project, shown, logged = made
    warehouse = project.open()
    flagged = warehouse.frame("overlays").filter(pl.col("possible_identifying")).collect()
    assert flagged["text"].to_list() == [NAME, NAME]
    assert summary(project, "overlays")["images with possibly identifying text"] == 2
    assert "withheld" in shown["overlays"]
    assert "contact sheet" not in shown["images"]
    everywhere = [
        *shown.values(),
        logged,
        str(latest_runs(warehouse).rows()),
        str(warehouse.frame("images").collect().rows()),
    ]
    assert not any("GARCIA" in text for text in everywhere)


def test_what_may_identify_is_covered_on_the_thumbnails_that_every_picture_is_made_of(
    made: tuple[Project, dict[str, str], str], folder: Path
) -> None:
    project, _, _ = made
    warehouse = project.open()

    def covered() -> dict[str, float]:
        """The share of the name's place that is of the cover's grey, by uri."""
        shares = {}
        for uri, thumbnail in warehouse.frame("images").select("uri", "thumbnail").collect().iter_rows():
            with Image.open(io.BytesIO(thumbnail)) as image:
                scale = image.width / 256
                place = np.asarray(image.convert("RGB"))[round(228 * scale) : round(236 * scale), 50:75].astype(int)
            shares[uri] = float((np.abs(place - COVER).max(axis=2) <= 12).mean())
        return shares

    named = {"a/00.png", "b/01.png"}
    assert {uri for uri, share in covered().items() if share > 0.9} == named
    # Reading the images anew brings no name back.
    images.STEP.run(Cell(project, warehouse, "burned", ""), "again")
    assert {uri for uri, share in covered().items() if share > 0.9} == named


def test_the_picture_saved_twice_is_one_group(made: tuple[Project, dict[str, str], str]) -> None:
    project, _, _ = made
    pairs = project.open().sql(
        "SELECT i.uri AS one, o.uri AS other, d.kind, d.same_label FROM duplicates d "
        "JOIN images i USING (image_id) JOIN images o ON o.image_id = d.other_id"
    )
    (row,) = pairs.iter_rows()
    assert ({row[0], row[1]}, row[2], row[3]) == ({"b/05.png", "a/again.jpg"}, "near", False)
    assert summary(project, "duplicates")["groups across labels"] == 1


def test_a_group_of_duplicates_is_corrected(made: tuple[Project, dict[str, str], str]) -> None:
    project, _, _ = made
    warehouse = project.open()
    cell = Cell(project, warehouse, "burned", "")
    ids = dict(warehouse.frame("images").select("uri", "image_id").collect().iter_rows())
    images_before = warehouse.frame("images").collect()

    def say(**said: str) -> pl.DataFrame:
        rows = pl.DataFrame({"image_id": list(said), "duplicate_group": list(said.values())})
        assert warehouse.correct("burned", rows) == len(said)
        assert duplicates.STEP.state(cell) == "stale"
        duplicates.STEP.run(cell, "corrected")
        return warehouse.frame("duplicates").select("image_id", "other_id", "duplicate_group", "kind").collect()

    one, other, third = ids["b/05.png"], ids["a/again.jpg"], ids["a/10.png"]
    assert say(**{other: "none"}).is_empty()
    assert say(**{one: "visit 7", third: "visit 7"}).rows() == [(*sorted((one, third)), min(one, third), "corrected")]
    # As it was found.
    assert set(say(**{other: "visit 8", one: "visit 8", third: "none"})["kind"]) == {"near"}
    assert warehouse.frame("images").collect().equals(images_before)


def test_strata_and_groups_of_an_analysis(made: tuple[Project, dict[str, str], str], tmp_path: Path) -> None:
    project, _, _ = made
    warehouse = project.open()
    uris = warehouse.frame("images").select("uri").collect()
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(uris.height, 6)))
    import_embeddings(warehouse, "mine", "burned", tmp_path / "v.npy", uris)
    cell = Cell(project, warehouse, "burned", "mine")
    # A name that someone wrote in, on as many images as it takes to be a stratum.
    named = warehouse.frame("images").select("image_id").collect().head(15)
    given = named.with_columns(pl.lit(NAME).alias("overlay_text"))
    warehouse.correct("burned", given)
    features = read_features(cell)
    assert NAME not in {value for values in features.backgrounds.values() for value in values}
    told = bias_report._without_names(cell, warehouse.frame("images").drop("thumbnail").collect())
    assert NAME not in str(told.to_dicts())
    uri_of = dict(warehouse.frame("images").select("image_id", "uri").collect().iter_rows())
    group_of = {uri_of[i]: int(g) for i, g in zip(features.images["image_id"], features.groups, strict=True)}
    assert group_of["b/05.png"] == group_of["a/again.jpg"]
    assert len(set(group_of.values())) == len(group_of) - 1
    everyone = warehouse.frame("images").select("image_id").collect()
    said = pl.Series("overlay_text", ["LT AXILLA"] * 15 + ["RT BREAST"] * (everyone.height - 15))
    warehouse.correct("burned", everyone.with_columns(said))
    sites = read_features(cell).backgrounds.get("overlay_site")
    assert sites is not None
    assert (sites.count("AXILLA"), sites.count("BREAST")) == (15, everyone.height - 15)


def test_a_correction_makes_analyses_stale_and_neither_vectors_nor_overlays(
    project: Project, instance: dg.DagsterInstance, folder: Path
) -> None:
    add_dataset(project.open(), DataSet("burned", "folder", folder))
    materializing.materialize(project, instance, ["burned"], [ENCODER], "overlay_shift")
    warehouse = project.open()
    state = materializing.states(project)[0]
    assert {state[name] for name in ("images", "overlays", "duplicates", "embeddings", "overlay_shift")} == {"current"}
    rows = warehouse.frame("overlay_shift").collect()
    shift = {r["intervention"]: r for r in rows.filter(metric="shift").iter_rows(named=True)}
    assert shift["unchanged"]["value"] < 1e-5
    assert all(0.001 < shift[name]["value"] < 1 for name in ("text removed", "BREAST planted", "calliper planted"))
    assert shift["placebo: painted over elsewhere"]["n"] == shift["text removed"]["n"]
    assert shift["placebo: patch planted"]["n"] == shift["BREAST planted"]["n"]
    assert shift["text removed"]["n"] + shift["BREAST planted"]["n"] == shift["unchanged"]["n"]
    assert rows.filter(metric="shift / distance between classes")["value"].null_count() == 0
    image_id = warehouse.frame("images").select("image_id").collect()["image_id"][0]
    warehouse.correct("burned", pl.DataFrame({"image_id": [image_id], "text_overlay": ["no"]}))
    state = materializing.states(project)[0]
    assert state["overlay_shift"] == "stale"
    assert {state[name] for name in ("overlays", "duplicates", "embeddings")} == {"current"}
