"""Tiles of whole slides: pixels out of a small tiled pyramid, and tables and slides that are not as they should be."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.ingest import Ingest
from pipelines.readers import reader_of
from pipelines.sources import DataSet, Source, UnreadableImageError
from store.schema import CounterstainError

TILE_PX = 64
SLIDE = np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8)


def tiled_tiff(levels: list[Any]) -> bytes:
    """Return an uncompressed tiled TIFF with a directory for each level: the plainest file that OpenSlide reads."""
    data, directories = bytearray(b"II*\0\0\0\0\0"), []
    for pixels in levels:
        offsets, counts = [], []
        for y in range(0, pixels.shape[0], TILE_PX):
            for x in range(0, pixels.shape[1], TILE_PX):
                tile = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
                part = pixels[y : y + TILE_PX, x : x + TILE_PX]
                tile[: part.shape[0], : part.shape[1]] = part
                offsets.append(len(data))
                counts.append(tile.nbytes)
                data += tile.tobytes()
        places = {}
        for name, values, kind in (("offsets", offsets, "I"), ("counts", counts, "I"), ("bits", [8, 8, 8], "H")):
            places[name] = len(data)
            data += struct.pack(f"<{len(values)}{kind}", *values)
        height, width = pixels.shape[:2]
        directories.append(
            [(254, 4, 1, int(bool(directories))), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, places["bits"]),
             (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, TILE_PX), (323, 4, 1, TILE_PX),
             (324, 4, len(offsets), places["offsets"]), (325, 4, len(counts), places["counts"])]
        )  # fmt: skip
    link = 4
    for entries in directories:
        data[link : link + 4] = struct.pack("<I", len(data))
        data += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        link = len(data)
        data += bytes(4)
    return bytes(data)


@pytest.fixture
def slides(tmp_path: Path) -> Callable[..., DataSet]:
    """Write a slide of two levels and a table beside it."""
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "s1.tif").write_bytes(tiled_tiff([SLIDE, SLIDE[::2, ::2]]))

    def make(text: str, **options: Any) -> DataSet:
        (tmp_path / "tiles.csv").write_text(text)
        return DataSet("d", "tiles", tmp_path / "tiles.csv", **options)

    return make


def sources(dataset: DataSet) -> list[Source]:
    return list(reader_of(dataset).read(dataset))


def test_tiles_are_the_slides_pixels(slides: Callable[..., DataSet]) -> None:
    dataset = slides(
        "slide,x,y,width,height,level,label,stain,patient\nslides/s1.tif,10,20,100,80,,tumour,H&E,p1\n"
        "slides/s1.tif,64,32,50,40,1,normal,,p1\n"
    )
    first, second = sources(dataset)
    np.testing.assert_array_equal(first.load(), SLIDE[20:100, 10:110])
    # Places are of the full resolution, sizes of the level.
    np.testing.assert_array_equal(second.load(), SLIDE[::2, ::2][16:56, 32:82])
    assert first.uri == "slides/s1.tif#0:10,20,100x80"
    assert first.given == {"slide": "slides/s1.tif", "label": "tumour", "patient": "p1"}
    assert first.attributes == {"stain": "H&E"}
    rows = [row for batch in Ingest(dataset).batches() for row in batch.to_pylist()]
    assert [(row["width_px"], row["height_px"], row["slide"]) for row in rows] == [
        (100, 80, "slides/s1.tif"), (50, 40, "slides/s1.tif"),
    ]  # fmt: skip


def test_beyond_the_edge_a_tile_is_white(slides: Callable[..., DataSet]) -> None:
    (source,) = sources(slides("slide,x,y\nslides/s1.tif,200,150\n"))
    tile = np.asarray(source.load())
    assert tile.shape == (224, 224, 3)
    np.testing.assert_array_equal(tile[:42, :56], SLIDE[150:, 200:])
    assert (tile[42:] == 255).all()
    assert (tile[:, 56:] == 255).all()


def test_another_label_may_be_chosen(slides: Callable[..., DataSet]) -> None:
    (source,) = sources(slides("slide,x,y,label,grade\nslides/s1.tif,0,0,tumour,3\n", label="grade"))
    assert source.given["label"] == "3"
    assert source.attributes == {"label:label": "tumour"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,x\ns,1\n", "has no column 'y'"),
        ("slide,x,y\n,1,2\n", "1 rows without 'slide'"),
        ("slide,x,y\ns,1,\n", r"slide 's': 'y': '' is not a whole number"),
        ("slide,x,y\ns,-1,2\n", "'-1' is not a whole number"),
        ("slide,x,y\ns,1e9,2\n", "'1e9' is not a whole number"),
        ("slide,x,y\ns,9999999999,2\n", "is not a whole number"),
        ("slide,x,y\ns,1,2\ns,1,2\n", r"names the tile 's#0:1,2,224x224' in more than one row"),
        ("slide,x,y,text_overlay\ns,1,2,maybe\n", "column 'text_overlay': 'maybe'"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(slides: Callable[..., DataSet], text: str, message: str) -> None:
    with pytest.raises(CounterstainError, match=message):
        sources(slides(text))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("slides/absent.tif,0,0,,,", "No such file"),
        ("tiles.csv,0,0,,,", "OpenSlide cannot read it"),
        ("slides,0,0,,,", "not a regular file"),
        ("slides/s1.tif,256,0,,,", "outside the slide"),
        ("slides/s1.tif,0,192,,,", "outside the slide"),
        ("slides/s1.tif,0,0,,,2", "has 2 levels, no level 2"),
        ("slides/s1.tif,0,0,0,9,", "pixels, which is none"),
        ("slides/s1.tif,0,0,99999,99999,", "above the limit"),
    ],
)
def test_a_tile_that_cannot_be_read_is_a_reject(slides: Callable[..., DataSet], row: str, message: str) -> None:
    (source,) = sources(slides(f"slide,x,y,width,height,level\n{row}\n"))
    with pytest.raises(UnreadableImageError, match=message):
        source.load()


def test_a_damaged_slide_gives_rejects_and_nothing_else(slides: Callable[..., DataSet]) -> None:
    dataset = slides("slide,x,y,width,height\nslides/s1.tif,0,0,256,192\n")
    path = dataset.root.parent / "slides" / "s1.tif"
    whole = path.read_bytes()
    for cut in (100, len(whole) // 2, len(whole) - 150):
        path.write_bytes(whole[:cut])
        (source,) = sources(dataset)
        with pytest.raises(UnreadableImageError):
            source.load()
    path.write_bytes(whole)
    (source,) = sources(dataset)
    np.testing.assert_array_equal(source.load(), SLIDE)


def test_fingerprint_notices_table_and_slides(slides: Callable[..., DataSet]) -> None:
    dataset = slides("slide,x,y\nslides/s1.tif,0,0\n")

    def fingerprint() -> str:
        return reader_of(dataset).fingerprint(dataset)

    states = [fingerprint()]
    assert fingerprint() == states[0]
    slides("slide,x,y\nslides/s1.tif,0,8\n")
    states.append(fingerprint())
    (dataset.root.parent / "slides" / "s1.tif").write_bytes(b"another")
    states.append(fingerprint())
    assert len(set(states)) == 3


def test_without_openslide_the_extra_is_named(slides: Callable[..., DataSet]) -> None:
    root = slides("slide,x,y\nslides/s1.tif,0,0\n").root
    code = (
        "import sys; sys.modules['openslide'] = None\n"
        "from pathlib import Path\nfrom pipelines.readers import reader_of\nfrom pipelines.sources import DataSet\n"
        f"dataset = DataSet('d', 'tiles', Path({str(root)!r}))\n"
        "list(reader_of(dataset).read(dataset))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'counterstain[slides]'" in done.stderr.splitlines()[-1]
