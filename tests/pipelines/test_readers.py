"""Readers: what a layout yields, what it refuses, and what its fingerprint notices."""

import io
import os
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipelines.readers import reader_of, readers
from pipelines.sources import DataSet, UnreadableImageError
from store.schema import CounterstainError

CLASSES = ("benign", "malignant")


def sources(dataset: DataSet) -> list[Any]:
    return list(reader_of(dataset).read(dataset))


def uris(dataset: DataSet) -> list[str]:
    return [source.uri for source in sources(dataset)]


def fingerprint(dataset: DataSet) -> str:
    return reader_of(dataset).fingerprint(dataset)


def test_the_readers_of_layouts_are_found() -> None:
    layouts = {name for name, reader in readers().items() if reader.about is None}
    assert layouts >= {"dicom", "folder", "huggingface", "manifest", "medmnist", "medmnist_train", "tiles"}
    with pytest.raises(CounterstainError, match=r"no reader 'scroll'; readers: .*folder"):
        reader_of(DataSet("d", "scroll", Path()))


OWN_READER = """
from pipelines.file_sets import ImageFile, file_set_reader
from pipelines.trees import image_files


def files(root):
    for path in image_files(root):  # named <patient>_<grade>.png
        patient, grade = path.stem.split("_")
        yield ImageFile(path.name, path, {"grade": grade}, {"patient": patient})


READER = file_set_reader("knees", files)
"""


def own_distribution(folder: Path, module: str = OWN_READER, point: str = "acme_knees:READER") -> Path:
    """Write what an installed distribution with one reader leaves on the path."""
    (folder / "acme-1.0.dist-info").mkdir(parents=True)
    (folder / "acme-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (folder / "acme-1.0.dist-info" / "entry_points.txt").write_text(f"[counterstain.readers]\nknees = {point}\n")
    (folder / "acme_knees.py").write_text(module)
    return folder


def run_with(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_a_reader_of_ones_own_is_found_in_another_distribution(tmp_path: Path, encoded: Callable[..., bytes]) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for i, name in enumerate(("p1_mild.png", "p1_severe.png", "p2_mild.png")):
        (root / name).write_bytes(encoded(i))
    code = (
        "from pathlib import Path\nfrom pipelines.ingest import Ingest\nfrom pipelines.sources import DataSet\n"
        f"run = Ingest(DataSet('mine', 'knees', Path({str(root)!r})))\n"
        "print([(row['uri'], row['label'], row['patient']) for batch in run.batches() for row in batch.to_pylist()])"
    )
    done = run_with(own_distribution(tmp_path / "site"), code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(
        [("p1_mild.png", "mild", "p1"), ("p1_severe.png", "severe", "p1"), ("p2_mild.png", "mild", "p2")]
    )


def test_the_readme_shows_that_reader() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (shown,) = (block for block in readme.split("```python\n") if "file_set_reader(" in block)
    shown = shown.split("```")[0]
    assert len(shown.strip().splitlines()) < 15
    assert shown.strip() == OWN_READER.strip()


@pytest.mark.parametrize(
    ("module", "point", "message"),
    [
        ("READER = 3", "acme_knees:READER", "is a int, not a Reader"),
        ("", "acme_knees:READER", "cannot be loaded"),
        ("", "acme_absent:READER", "cannot be loaded"),
        (OWN_READER.replace('"knees"', '"folder"'), "acme_knees:READER", "registers 'folder', which is already taken"),
    ],
)
def test_a_distribution_that_does_not_fit_is_named(tmp_path: Path, module: str, point: str, message: str) -> None:
    done = run_with(own_distribution(tmp_path, module, point), "from pipelines.readers import readers; readers()")
    assert message in done.stderr.splitlines()[-1]


# --- folder


def folder(root: Path) -> DataSet:
    return DataSet("d", "folder", root)


def test_folder_yields_nested_images_in_order_with_their_class(image_folder: Callable[..., Path]) -> None:
    root = image_folder(per_class=2)
    deep = root / "benign" / "patient 7" / "left"
    deep.mkdir(parents=True)
    (deep / "SCAN.JPEG").write_bytes(b"x")
    found = sources(folder(root))
    assert [source.uri for source in found] == [
        "benign/0.png", "benign/1.png", "benign/patient 7/left/SCAN.JPEG", "malignant/0.png", "malignant/1.png",
    ]  # fmt: skip
    assert [source.given["label"] for source in found] == ["benign"] * 3 + ["malignant"] * 2
    assert found[2].load() == b"x"


def test_folder_leaves_out_what_is_hidden_or_no_image(image_folder: Callable[..., Path]) -> None:
    root = image_folder(per_class=1)
    for name in (".hidden.png", "._0.png", "notes.txt", "0.png.bak", "Thumbs.db", "png", ".cache/0.png", "a/.b/0.png"):
        path = root / "benign" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (root / ".git").mkdir()
    (root / "beside-the-classes.png").write_bytes(b"x")
    (root / "benign" / "folder.png").mkdir()
    assert uris(folder(root)) == ["benign/0.png", "malignant/0.png"]


@pytest.mark.parametrize(
    "name",
    ["it's.png", 'say "a".png', "two  spaces.png", "naïve-学.png", "<b>&amp;.png", "50%.png", "a\nb.png", "'; --.png"],
)
def test_folder_keeps_awkward_names_as_they_are(image_folder: Callable[..., Path], name: str) -> None:
    root = image_folder(("a",), 1)
    (root / "a" / name).write_bytes(b"mine")
    found = {source.uri: source.load() for source in sources(folder(root))}
    assert found[f"a/{name}"] == b"mine"
    assert len(fingerprint(folder(root))) == 32


def test_folder_writes_names_that_are_no_utf8_so_that_they_can_be_stored(image_folder: Callable[..., Path]) -> None:
    root = image_folder(("a",), 1)
    latin = os.fsencode(root / "a") + b"/caf\xe9.png"
    with open(latin, "wb") as file:  # noqa: PTH123  # a name of bytes is what is tested
        file.write(b"mine")
    found = {source.uri: source for source in sources(folder(root))}
    assert found[r"a/caf\xe9.png"].load() == b"mine"
    fingerprint(folder(root))


@pytest.mark.parametrize("listing", [uris, fingerprint])
def test_folder_refuses_a_wrong_layout(image_folder: Callable[..., Path], listing: Any, tmp_path: Path) -> None:
    with pytest.raises(CounterstainError, match="absent is not a folder"):
        listing(folder(tmp_path / "absent"))
    root = image_folder(("benign",))
    with pytest.raises(CounterstainError, match=r"no class folders.*--reader manifest"):
        listing(folder(root / "benign"))
    (root / "empty-class").mkdir()
    (root / "empty-class" / "readme.txt").touch()
    with pytest.raises(CounterstainError, match="no image in class folder 'empty-class'"):
        listing(folder(root))


def test_folder_yields_a_broken_link_as_an_image_that_cannot_be_read(image_folder: Callable[..., Path]) -> None:
    root = image_folder(("a",), 1)
    (root / "a" / "link.png").symlink_to(root / "gone.png")
    broken = sources(folder(root))[1]
    with pytest.raises(UnreadableImageError, match="No such file"):
        broken.load()
    before = fingerprint(folder(root))
    (root / "gone.png").write_bytes(b"x")
    assert fingerprint(folder(root)) != before


def test_a_pipe_or_an_oversized_file_is_refused_unread(
    image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(("a",), 1)
    os.mkfifo(root / "a" / "pipe.png")
    small, pipe = sources(folder(root))
    with pytest.raises(UnreadableImageError, match="not a regular file"):
        pipe.load()
    monkeypatch.setattr("pipelines.sources.MAX_FILE_BYTES", len(small.load()) - 1)
    with pytest.raises(UnreadableImageError, match="above the limit"):
        small.load()


def test_folder_fingerprint_notices_every_change_and_nothing_else(image_folder: Callable[..., Path]) -> None:
    root = image_folder()
    states = [fingerprint(folder(root))]

    def changed() -> bool:
        states.append(fingerprint(folder(root)))
        return states[-1] not in states[:-1]

    assert fingerprint(folder(root)) == states[0]
    (root / "benign" / "notes.txt").write_text("no image")
    (root / "benign" / ".hidden.png").write_bytes(b"x")
    assert fingerprint(folder(root)) == states[0]
    (root / "benign" / "new.png").write_bytes(b"x")
    assert changed()
    (root / "benign" / "new.png").write_bytes(b"xy")
    assert changed()
    status = (root / "benign" / "new.png").stat()
    os.utime(root / "benign" / "new.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert changed()
    (root / "benign" / "new.png").rename(root / "benign" / "newer.png")
    assert changed()
    (root / "benign").rename(root / "normal")
    assert changed()
    (root / "normal" / "newer.png").unlink()
    assert changed()


# --- manifest


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., DataSet]:
    """Write a table beside an image ``a.png`` and return its data set."""
    (tmp_path / "a.png").write_bytes(b"image a")

    def make(text: str | bytes, name: str = "images.csv", **options: Any) -> DataSet:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return DataSet("d", "manifest", path, **options)

    return make


FULL = pl.DataFrame(
    {
        "path": ["a.png", "b.png"],
        "label": ["benign", None],
        "text_overlay": [True, None],
        "slide": ["7", "8"],
        "scanner": ["A", None],
        "age": [41, 52],
    }
)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "CSV"])
def test_manifest_reads_each_format_alike(tmp_path: Path, table: Callable[..., DataSet], suffix: str) -> None:
    buffer = io.BytesIO()
    if suffix == "parquet":
        FULL.write_parquet(buffer)
    else:
        FULL.write_csv(buffer, separator="\t" if suffix == "tsv" else ",")
    first, second = sources(table(buffer.getvalue(), f"t.{suffix}"))
    assert first.uri == "a.png"
    assert first.load() == b"image a"
    assert first.given == {"label": "benign", "text_overlay": True, "slide": "7"}
    assert first.attributes == {"scanner": "A", "age": "41"}
    assert second.given == {"label": None, "text_overlay": None, "slide": "8"}
    assert second.attributes == {"age": "52"}


def test_manifest_paths_are_relative_to_the_table_or_absolute(tmp_path: Path, table: Callable[..., DataSet]) -> None:
    (tmp_path / "in side").mkdir()
    (tmp_path / "in side" / "é's <1>.png").write_bytes(b"inside")
    found = sources(table(f"path\nin side/é's <1>.png\n{tmp_path / 'a.png'}\n"))
    assert [source.load() for source in found] == [b"inside", b"image a"]


def test_manifest_in_a_folder_is_found(tmp_path: Path, table: Callable[..., DataSet]) -> None:
    table("path\na.png\n", "manifest.csv")
    assert uris(DataSet("d", "manifest", tmp_path)) == ["a.png"]


def test_manifest_takes_the_chosen_label_whatever_else_the_table_has(table: Callable[..., DataSet]) -> None:
    text = "filename,label,diagnosis,modality\na.png,scanned,  nevus ,derm\n"
    (chosen,) = sources(table(text, label="diagnosis"))
    assert chosen.given == {"label": "nevus", "modality": "derm"}
    assert chosen.attributes == {"label:label": "scanned"}
    (default,) = sources(table(text))
    assert default.given == {"label": "scanned", "modality": "derm"}
    assert default.attributes == {"diagnosis": "  nevus "}
    (given,) = sources(table(text, label="modality"))
    assert given.given == {"label": "derm", "modality": "derm"}
    (path,) = sources(table(text, label="filename"))
    assert path.given["label"] == path.uri == "a.png"


def test_manifest_parses_flags_words_and_boxes(table: Callable[..., DataSet]) -> None:
    (source,) = sources(
        table(
            "path,annotation,annotation_kinds,lesion_box,overlay_boxes,caption\n"
            'a.png,No,calliper; arrow,"[1, 2, 3, 4]","[[0, 0, 5, 5]]","a ""word"", two"\n'
        )
    )
    assert source.given == {
        "annotation": False,
        "annotation_kinds": ["calliper", "arrow"],
        "lesion_box": [1, 2, 3, 4],
        "overlay_boxes": [[0, 0, 5, 5]],
        "caption": 'a "word", two',
    }


def test_manifest_passes_over_empty_rows_a_byte_order_mark_and_blank_cells(table: Callable[..., DataSet]) -> None:
    first, second = sources(table(b"\xef\xbb\xbfpath,label,site\r\na.png,x, \r\n,,\r\nb.png,,\r\n\r\n"))
    assert (first.uri, first.given, first.attributes) == ("a.png", {"label": "x"}, {})
    assert (second.uri, second.given) == ("b.png", {"label": None})


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("path\na.png\n", {"label": "grade"}, r"no column 'grade'; it has \['path'\]"),
        ("path\na.png\n", {"groups": ("patient", "visit")}, "no column 'patient'"),
        ("picture,label\na.png,x\n", {}, r"column of image paths named one of .*'path'"),
        ("path;label\na.png;x\n", {}, r"it has \['path;label'\]"),
        ("path\na.png\nb.png\na.png\n", {}, r"names 'a\.png' in more than one row"),
        ("path,label\na.png,x\n,y\n \t,z\n", {}, "2 rows of the table have no 'path'"),
        ("path,text_overlay\na.png,yes\nb.png,maybe\n", {}, r"image 'b\.png': column 'text_overlay': 'maybe'"),
        ('path,lesion_box\na.png,"[1,2]"\n', {}, r"image 'a\.png': column 'lesion_box'"),
        ("path,label\na.png,x,y,z\n", {}, "cannot read the table"),
        ('path,label\n"a.png,x\n', {}, "cannot read the table"),
        ("path\né.png\n".encode("latin-1"), {}, "cannot read the table"),
        ("", {}, "cannot read the table"),
    ],
)
def test_manifest_refuses_what_it_cannot_mean(
    table: Callable[..., DataSet], text: str | bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CounterstainError, match=message):
        sources(table(text, **options))


def test_manifest_refuses_a_missing_table_and_a_damaged_parquet(tmp_path: Path, table: Callable[..., DataSet]) -> None:
    with pytest.raises(CounterstainError, match="no table at"):
        sources(DataSet("d", "manifest", tmp_path / "absent.csv"))
    with pytest.raises(CounterstainError, match=r"no table at .*manifest\.csv"):
        sources(DataSet("d", "manifest", tmp_path))
    buffer = io.BytesIO()
    FULL.write_parquet(buffer)
    for damage in (buffer.getvalue()[:-9], b"PAR1" + bytes(40) + b"PAR1", b"no parquet"):
        with pytest.raises(CounterstainError, match="cannot read the table"):
            sources(table(damage, "t.parquet"))


@pytest.mark.parametrize("path", ["absent.png", "a\0.png", "a" * 300 + ".png", "..", "a.png/b.png"])
def test_manifest_yields_an_unreadable_path_as_a_reject(table: Callable[..., DataSet], path: str) -> None:
    dataset = table(f"path\n{path}\n")
    (source,) = sources(dataset)
    with pytest.raises(UnreadableImageError):
        source.load()
    fingerprint(dataset)


def test_manifest_fingerprint_notices_table_and_images(tmp_path: Path, table: Callable[..., DataSet]) -> None:
    dataset = table("path,label\na.png,x\nb.png,y\n")
    (tmp_path / "c.png").write_bytes(b"not in the table")
    states = [fingerprint(dataset)]
    (tmp_path / "c.png").unlink()
    assert fingerprint(dataset) == states[0]
    (tmp_path / "b.png").write_bytes(b"b")
    states.append(fingerprint(dataset))
    (tmp_path / "b.png").write_bytes(b"bb")
    states.append(fingerprint(dataset))
    (tmp_path / "b.png").unlink()
    assert fingerprint(dataset) == states[0]
    states.append(fingerprint(table("path,label\na.png,x\nb.png,z\n")))
    assert len(set(states)) == 4


# --- medmnist


def arrays(n: int = 3, shape: tuple[int, ...] = (28, 28), labels: int = 1) -> dict[str, Any]:
    """Return arrays in MedMNIST's own layout: images uint8, labels ``(n, 1)`` or ``(n, k)`` uint8."""
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        made[f"{split}_labels"] = rng.integers(0, 2, (n, labels), dtype=np.uint8)
    return made


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., DataSet]:
    def make(content: dict[str, Any], save: Any = np.savez) -> DataSet:
        save(tmp_path / "tiny.npz", **content)
        return DataSet("d", "medmnist", tmp_path / "tiny.npz")

    return make


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_medmnist_yields_every_row_of_every_split(
    archive: Callable[..., DataSet], save: Any, shape: tuple[int, ...]
) -> None:
    content = arrays(shape=shape)
    # All are kept, to be loaded only after the archive was read to its end.
    found = sources(archive(content, save))
    assert [source.uri for source in found] == [f"{s}/{i}" for s in ("train", "val", "test") for i in range(3)]
    for source in found:
        split, i = source.uri.split("/")
        np.testing.assert_array_equal(source.load(), content[f"{split}_images"][int(i)])
        assert source.given == {"label": str(content[f"{split}_labels"][int(i), 0]), "split": split}


def test_medmnist_of_several_labels_gives_them_as_an_attribute(archive: Callable[..., DataSet]) -> None:
    content = arrays(labels=4)
    first = sources(archive(content))[0]
    assert first.given == {"split": "train"}
    assert first.attributes == {"label:all": ";".join(str(code) for code in content["train_labels"][0])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": np.zeros((2, 1), np.uint8)}, "shorter than argument 1"),
        ({"train_labels": np.zeros((4, 1), np.uint8)}, "longer than argument 1"),
        ({"train_labels": np.array([["a"], ["b"], ["c"]])}, "train_labels.npy has shape"),
        ({"train_images": np.array([None, 1, 2])}, "train_images.npy has shape"),
        ({"train_images": np.asfortranarray(np.zeros((3, 28, 28), np.uint8))}, "train_images.npy has shape"),
        ({"train_images": np.uint8(3)}, "train_images.npy has shape"),
    ],
)
def test_medmnist_refuses_arrays_of_another_kind(
    archive: Callable[..., DataSet], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CounterstainError, match=message):
        sources(archive(arrays() | change))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_medmnist_refuses_a_damaged_archive(archive: Callable[..., DataSet], save: Any) -> None:
    dataset = archive(arrays(n=40), save)
    whole = dataset.root.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 20):
            damaged[place] ^= 0xFF
        dataset.root.write_bytes(damaged)
        try:
            sources(dataset)
        except CounterstainError as error:
            refused += 1
            assert str(dataset.root) in str(error)  # noqa: PT017  # any other error must come through
    assert refused == 60
    for damaged in (whole[:-100], whole[: len(whole) // 2], b"", b"no zip at all", whole[200:]):
        dataset.root.write_bytes(damaged)
        with pytest.raises(CounterstainError):
            sources(dataset)


def test_medmnist_refuses_what_is_no_medmnist(archive: Callable[..., DataSet], tmp_path: Path) -> None:
    with pytest.raises(CounterstainError, match="no file at"):
        sources(DataSet("d", "medmnist", tmp_path / "absent.npz"))
    with pytest.raises(CounterstainError, match="no file at"):
        fingerprint(DataSet("d", "medmnist", tmp_path))
    with pytest.raises(CounterstainError, match="has no train_images"):
        sources(archive({"x": np.zeros(3)}))
    content = arrays()
    del content["train_labels"]
    with pytest.raises(CounterstainError, match="train_labels"):
        sources(archive(content))


def test_medmnist_refuses_rows_too_large_to_be_images(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1, 2**20, 2**20, 3)}
    )
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as zipped:
        zipped.writestr("train_images.npy", header.getvalue())
    with pytest.raises(CounterstainError, match=r"bytes a row, above the limit"):
        sources(DataSet("d", "medmnist", tmp_path / "bomb.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_medmnist_streams_rows_without_loading_the_array(archive: Callable[..., DataSet], save: Any) -> None:
    images = np.broadcast_to(np.arange(1000, dtype=np.uint32).astype(np.uint8)[:, None, None], (1000, 224, 224)).copy()
    assert images.nbytes > 50_000_000
    dataset = archive({"train_images": images, "train_labels": np.zeros((1000, 1), np.uint8)}, save)
    del images
    tracemalloc.start()
    try:
        assert sum(int(source.load()[0, 0]) for source in reader_of(dataset).read(dataset)) == sum(
            i % 256 for i in range(1000)
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_medmnist_may_be_left_early(archive: Callable[..., DataSet]) -> None:
    dataset = archive(arrays())
    reading = reader_of(dataset).read(dataset)
    assert len(list(islice(reading, 2))) == 2
    reading.close()


def test_medmnist_fingerprint_notices_another_archive(archive: Callable[..., DataSet]) -> None:
    dataset = archive(arrays())
    before = fingerprint(dataset)
    assert fingerprint(dataset) == before
    archive(arrays(n=4))
    assert fingerprint(dataset) != before
