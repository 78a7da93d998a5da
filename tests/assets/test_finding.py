"""Vector search as the command line asks for it: what is looked for, what is left out, and how it is answered."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from assets import finding
from assets.finding import Asked, find, group_mates
from assets.project import Project
from pipelines.decoding import content_hash
from store.embeddings import EmbeddingPartition
from store.images import write_images
from store.schema import DATASETS, DUPLICATES, CounterstainError
from tests.assets.test_cli import run
from tests.store.rows import DIMENSION, embed, image_ids, images, vectors

COUNT = 40


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is only read.

    Data set d has four images of each of ten patients, i000 and i039 look the same, and i001 is also the first image of
    data set e, whose images are grouped by an attribute.
    """
    project = Project(warehouse=str(tmp_path_factory.mktemp("finding")))
    warehouse = project.open()
    known = {
        "patient": lambda i: f"p{i // 4}",
        "content_hash": lambda i: content_hash(png(i)),
        "thumbnail": png,
        "overlay_text": lambda i: "AXILLA" if i % 3 == 0 else None,
        "annotation": lambda i: i % 2 == 0,
        "annotation_kinds": lambda i: ["calliper"] if i % 2 == 0 else None,
    }
    embed(warehouse, "d", COUNT, **known)
    of_e = {**known, "patient": lambda i: None, "content_hash": lambda i: content_hash(png(1 if i == 0 else 100 + i))}
    table = images("e", 6, **of_e, image_id=lambda i: f"e{i}", attributes=lambda i: json.dumps({"day": str(i % 2)}))
    write_images(warehouse, "e", table.to_batches())
    partition = EmbeddingPartition(warehouse, "enc", "e", DIMENSION, "f")
    partition.stage([f"e{i}" for i in range(6)], vectors(6, seed=5))
    partition.commit()
    for name, groups in (("d", []), ("e", ["day"])):
        row = {"dataset": name, "reader": "manifest", "root": "/", "label": None, "groups": groups}
        warehouse.upsert(DATASETS, [row | {"registered_at": datetime.now(UTC)}])
    pair = {"dataset": "d", "image_id": "i000", "other_id": "i039", "duplicate_group": "i000", "kind": "near"}
    warehouse.upsert(DUPLICATES, [pair | {"distance": 0.01, "same_label": False}])
    return project


def mates(project: Project, *keys: tuple[str, str]) -> set[str]:
    frame = pl.DataFrame(keys, schema=["dataset", "image_id"], orient="row")
    return set(group_mates(project, frame)["image_id"])


def test_a_group_is_what_analyses_keep_together(project: Project) -> None:
    assert mates(project, ("d", "i009")) == {"i008", "i009", "i010", "i011"}
    # Copies in the other data set come with what hangs together through duplicates.
    family = {"i000", "i001", "i002", "i003", *image_ids(COUNT)[36:]}
    assert mates(project, ("d", "i003")) == {*family, "e0"}
    assert mates(project, ("e", "e3")) == {"e1", "e3", "e5"}
    assert mates(project, ("d", "i009"), ("e", "e1")) == {"i008", "i009", "i010", "i011", "e1", "e3", "e5"}


def test_a_stored_image_without_its_group(project: Project) -> None:
    everyone = find(project, "enc", Asked(image="i009"), k=99).rows
    assert everyone.height == COUNT + 6 - 1
    others = find(project, "enc", Asked(image="i009"), k=99, exclude_same_group=True)
    expected = everyone.filter(~pl.col("image_id").is_in(["i008", "i010", "i011"]))
    assert others.rows.equals(expected)
    assert find(project, "enc", Asked(image="i009"), k=5, exclude_same_group=True).rows.equals(expected.head(5))
    assert others.query.words == "Nearest to d / d/i009.png\n42 images by enc, other groups only"
    assert (others.query.image, others.query.label, others.query.flags) == (png(9), "b", ("words: AXILLA",))


def test_the_centroid_of_a_filter(project: Project) -> None:
    asked = Asked(centroid_of="patient = 'p2' AND dataset = 'd'")
    found = find(project, "enc", asked, datasets=["e"], k=3)
    units = vectors(COUNT)[8:12] / np.linalg.norm(vectors(COUNT)[8:12], axis=1, keepdims=True)
    centre, others = units.mean(axis=0), vectors(6, seed=5)
    distances = 1 - others @ centre / np.linalg.norm(others, axis=1) / np.linalg.norm(centre)
    assert found.rows["image_id"].to_list() == [f"e{i}" for i in np.argsort(distances)[:3]]
    concentration = np.linalg.norm(centre)
    assert found.query.words.startswith(
        f"Nearest to the centroid of 4 images of d where {asked.centroid_of} (concentration {concentration:.2f})"
    )
    alone = find(project, "enc", asked, datasets=["d"], k=99, exclude_same_group=True)
    assert set(alone.rows["image_id"]) == set(image_ids(COUNT)) - {"i008", "i009", "i010", "i011"}


def test_an_image_file_and_its_stored_copies(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "encode_image", lambda *_: vectors(COUNT)[9])
    (tmp_path / "copy.png").write_bytes(png(9))
    found = find(project, "enc", Asked(image=str(tmp_path / "copy.png")), k=99)
    assert found.rows["image_id"][0] == "i009"
    assert (found.query.label, found.query.flags) == ("b", ("words: AXILLA",))
    alone = find(project, "enc", Asked(image=str(tmp_path / "copy.png")), k=99, exclude_same_group=True)
    assert set(found.rows["image_id"]) - set(alone.rows["image_id"]) == {"i008", "i009", "i010", "i011"}
    (tmp_path / "new.png").write_bytes(png(200))
    new = find(project, "enc", Asked(image=str(tmp_path / "new.png")), k=99, exclude_same_group=True)
    assert new.rows.height == COUNT + 6
    assert new.query.label is None


def test_answers_for_programs_and_people(project: Project, tmp_path: Path) -> None:
    words = ["search", "i009", "--encoder", "enc", "-k", "4", "--dataset", "d", "--dataset", "e"]
    rows = json.loads(run(project.warehouse, *words, "--json").stdout)
    assert rows == json.loads(json.dumps(project.open().search("enc", "i009", k=4).to_dicts()))
    assert run(project.warehouse, *words, "--csv").stdout.startswith("dataset,image_id,distance,uri,label")
    table = run(project.warehouse, *words).stdout
    assert table.startswith("Nearest to d / d/i009.png\n4 images by enc in d, e\n")
    assert f"{rows[0]['distance']:.4f}"[:5] in table
    for name in ("sheet.png", "sheet.HTML"):
        done = run(project.warehouse, *words, "--sheet", str(tmp_path / name))
        assert done.stdout.endswith(f"{name}\n")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500
    page = (tmp_path / "sheet.HTML").read_text()
    assert page.count("<img") == 5
    assert "words: AXILLA" in page
    assert "calliper" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name one thing to look for"),
        (["i009", "--centroid-of", "true"], "name one thing to look for"),
        (["no/such.png"], "'no/such.png' is neither a file nor the id of a stored image"),
        (["--centroid-of", "nope = 1"], "filter 'nope = 1'"),
        (["i009", "--dataset", "f"], "no enc vectors of data set 'f'"),
        (["i009", "--sheet", "sheet.gif"], "sheet.gif: a contact sheet ends in .png or .html"),
        (["i009", "--sheet", "no/such/folder.png"], "cannot write no/such/folder.png"),
        (["i009", "--where", "label = 'none such'", "--sheet", "s.png"], "no image was found"),
        (["i009", "--json", "--csv"], "one of --json, --csv and --parquet"),
    ],
)
def test_refused(
    project: Project, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with_encoder = ["search", "--encoder", "enc", *words]
    assert message in run(project.warehouse, *with_encoder, ok=False).message
    assert list(tmp_path.iterdir()) == []


def test_a_new_image_needs_an_encoder_that_runs(project: Project, tmp_path: Path) -> None:
    (tmp_path / "new.png").write_bytes(png(200))
    with pytest.raises(CounterstainError, match="no encoder 'enc'"):
        find(project, "enc", Asked(image=str(tmp_path / "new.png")))


def test_words_are_encoded_by_the_text_side(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Side:
        def encode_texts(self, texts: list[str]) -> object:
            assert texts == ["a malignant lesion"]
            return vectors(COUNT)[9:10]

    monkeypatch.setattr(finding, "load_text_encoder", lambda *_: Side())
    found = find(project, "enc", Asked(text="a malignant lesion"), k=5, exclude_same_group=True)
    assert found.rows.equals(project.open().search("enc", vectors(COUNT)[9], k=5))
    assert found.query.words.startswith("Nearest to the text 'a malignant lesion'\n5 images by enc")


def test_an_encoder_without_a_text_side(project: Project) -> None:
    assert (
        "it is no registered encoder"
        in run(project.warehouse, "search", "--encoder", "enc", "--text", "a lesion", ok=False).message
    )


def test_a_named_view_is_searched_and_looked_for(tmp_path: Path) -> None:
    from store.views import save_view

    mine = Project(warehouse=str(tmp_path))
    warehouse = mine.open()
    embed(warehouse, "d", COUNT)
    save_view(warehouse, "chosen", "d", ["i003", "i004", "i020"], "by hand")
    found = find(mine, "enc", Asked(centroid_of_view="chosen"), k=3)
    centre = warehouse.centroid("enc", "image_id IN ('i003', 'i004', 'i020')")
    assert found.rows.equals(warehouse.search("enc", centre.vector, k=3))
    assert found.query.words.startswith("Nearest to the centroid of 3 images of d in view chosen (concentration ")
    within = find(mine, "enc", Asked(image="i003"), view="chosen", where="image_id <> 'i020'")
    assert within.rows["image_id"].to_list() == ["i004"]
    assert within.query.words.endswith("1 images by enc of view chosen where image_id <> 'i020'")
    with pytest.raises(CounterstainError, match="no view 'nope'"):
        find(mine, "enc", Asked(centroid_of_view="nope"))
