"""Ingest: rows and rejects of a data set, the same whatever the number of threads."""

import hashlib
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines import ingest
from pipelines.ingest import Ingest
from pipelines.sources import DataSet, Reader, Source
from store.schema import IMAGES, CounterstainError


def rows_of(dataset: DataSet, workers: int = 2) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    run = Ingest(dataset, workers)
    batches = list(run.batches())
    assert all(batch.schema.equals(IMAGES.schema) for batch in batches)
    return pa.Table.from_batches(batches, IMAGES.schema).to_pylist(), run.rejects


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], DataSet]:
    """Return a data set whose reader yields given sources."""

    def make(sources: Any) -> DataSet:
        reader = Reader("given", lambda _: iter(sources() if callable(sources) else sources), lambda _: "")
        monkeypatch.setattr(ingest, "reader_of", lambda _: reader)
        return DataSet("d", "given", Path())

    return make


def test_a_row_says_what_is_known_of_an_image(image_folder: Callable[..., Path]) -> None:
    root = image_folder(per_class=1)
    rows, rejects = rows_of(DataSet("d", "folder", root))
    assert rejects == []
    row = rows[1]
    digest = hashlib.sha256((root / "malignant" / "0.png").read_bytes()).hexdigest()
    assert row["image_id"] == digest[:32]
    known = {
        "dataset": "d", "content_hash": digest, "uri": "malignant/0.png", "label": "malignant", "width_px": 40,
        "height_px": 30, "format": "PNG", "mode": "RGB",
    }  # fmt: skip
    assert {column: row[column] for column in known} == known
    assert Image.open(io.BytesIO(row["thumbnail"])).size == (40, 30)
    assert {column for column, value in row.items() if value is None} == set(row) - {*known, "image_id", "thumbnail"}


def test_rejects_are_recorded_and_the_rest_goes_on(image_folder: Callable[..., Path]) -> None:
    root = image_folder()
    (root / "benign" / "1.png").write_bytes(b"no image")
    (root / "benign" / "2.png").write_bytes((root / "benign" / "2.png").read_bytes()[:200])
    (root / "malignant" / "0.png").unlink()
    (root / "malignant" / "0.png").symlink_to("gone")
    rows, rejects = rows_of(DataSet("d", "folder", root))
    assert len(rows) == 5
    assert [(reject["dataset"], reject["uri"]) for reject in rejects] == [
        ("d", "benign/1.png"),
        ("d", "benign/2.png"),
        ("d", "malignant/0.png"),
    ]
    assert [reject["reason"].split()[0] for reject in rejects] == ["not", "image", "cannot"]


def test_copies_of_one_content_are_told_apart_in_reading_order(image_folder: Callable[..., Path]) -> None:
    root = image_folder(per_class=2)
    content = (root / "benign" / "0.png").read_bytes()
    for name in ("benign/1.png", "malignant/0.png"):
        (root / name).write_bytes(content)
    rows, _ = rows_of(DataSet("d", "folder", root))
    short = hashlib.sha256(content).hexdigest()[:32]
    assert [row["image_id"] for row in rows[:3]] == [short, f"{short}-2", f"{short}-3"]
    assert len({row["content_hash"] for row in rows}) == 2


@pytest.mark.parametrize("workers", [1, 5])
def test_rows_are_the_same_whatever_the_number_of_threads(image_folder: Callable[..., Path], workers: int) -> None:
    root = image_folder(("a", "b", "c"), 30)
    (root / "b" / "7.png").write_bytes(b"no image")
    (root / "c" / "copy.png").write_bytes((root / "a" / "0.png").read_bytes())
    dataset = DataSet("d", "folder", root)
    assert rows_of(dataset, workers) == rows_of(dataset, 2)


def test_what_the_data_set_says_goes_into_columns_and_attributes(tmp_path: Path, encoded: Callable[..., bytes]) -> None:
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(encoded(i))
    (tmp_path / "manifest.csv").write_text(
        "path,label,text_overlay,overlay_text,annotation_kinds,lesion_box,scanner,"
        'note\n0.png,x,true,LEFT;5 cm,arrow;box,"[1,2,3,4]",A,"é <b> \' """\n1.png,y,,,,,,\n'
    )
    rows, _ = rows_of(DataSet("d", "manifest", tmp_path))
    given, plain = rows
    assert (given["text_overlay"], given["text_overlay_source"], given["overlay_text"]) == (True, "given", "LEFT;5 cm")
    # Marks that are named are there.
    assert (given["annotation"], given["annotation_source"]) == (True, "given")
    assert given["annotation_kinds"] == ["arrow", "box"]
    assert given["lesion_box"] == [1, 2, 3, 4]
    assert json.loads(given["attributes"]) == {"scanner": "A", "note": "é <b> ' \""}
    assert (plain["text_overlay"], plain["text_overlay_source"], plain["attributes"]) == (None, None, None)


def test_a_false_flag_is_given_too(tmp_path: Path, encoded: Callable[..., bytes]) -> None:
    (tmp_path / "0.png").write_bytes(encoded())
    (tmp_path / "manifest.csv").write_text("path,text_overlay,annotation\n0.png,no,0\n")
    ((row,), _) = rows_of(DataSet("d", "manifest", tmp_path))
    assert (row["text_overlay"], row["text_overlay_source"]) == (False, "given")
    assert (row["annotation"], row["annotation_source"]) == (False, "given")


def test_size_is_that_of_the_upright_image_and_mode_that_of_the_file(reading: Any, encoded: Any) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    turned = encoded(Image.new("L", (40, 30)), "JPEG", exif=exif)
    sources = [Source("turned", lambda: turned), Source("array", lambda: np.zeros((28, 20), np.uint8))]
    (first, second), _ = rows_of(reading(sources))
    assert (first["width_px"], first["height_px"], first["format"], first["mode"]) == (30, 40, "JPEG", "L")
    assert (second["width_px"], second["height_px"], second["format"], second["mode"]) == (20, 28, "array", "L")


def test_batches_are_bounded(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "ROWS_PER_BATCH", 10)
    tiny = [Source(str(i), lambda i=i: np.full((2, 2), i, np.uint8)) for i in range(25)]
    assert [batch.num_rows for batch in Ingest(reading(tiny)).batches()] == [10, 10, 5]
    assert list(Ingest(reading([])).batches()) == []


def test_an_error_of_the_reader_is_not_a_reject(reading: Any) -> None:
    def broken() -> Iterator[Source]:
        yield Source("0", lambda: np.zeros((2, 2), np.uint8))
        raise CounterstainError("the table is damaged")

    with pytest.raises(CounterstainError, match="the table is damaged"):
        rows_of(reading(broken))


def test_memory_does_not_grow_with_the_number_of_images(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "ROWS_PER_BATCH", 16)

    def many(n: int) -> Iterator[Source]:
        for i in range(n):
            # Held by the source alone, 0.2 MB each.
            pixels = np.full((256, 256, 3), i % 256, np.uint8)
            yield Source(str(i), lambda pixels=pixels: pixels)

    def peak(n: int) -> int:
        tracemalloc.start()
        try:
            for _ in Ingest(reading(lambda: many(n))).batches():
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(600) < 1.3 * peak(150)
