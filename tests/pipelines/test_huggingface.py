"""Hugging Face data sets: what the library saves is what is read, without it; and damaged or hostile folders."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.ingest import Ingest
from pipelines.readers import reader_of
from pipelines.sources import DataSet, Source, UnreadableImageError
from store.schema import CounterstainError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save data sets with the library itself, once."""
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("hf")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["benign", "malignant"]),
            "findings": datasets.Sequence(datasets.ClassLabel(names=["mass", "cyst", "clip"])),
            "grade": datasets.ClassLabel(names=["low", "high"]),
            "patient": datasets.Value("string"),
            "text_overlay": datasets.Value("bool"),
            "age": datasets.Value("int32"),
            "embedding": datasets.Sequence(datasets.Value("float32")),
        }
    )

    def rows(n: int, first: int = 0) -> dict[str, list[Any]]:
        return {
            "image": [Image.new("RGB", (9, 7), (first + i, 2, 3)) for i in range(n)],
            "label": [i % 2 for i in range(n)],
            "findings": [[0, 2] if i % 2 else [] for i in range(n)],
            "grade": [1 if i else -1 for i in range(n)],
            "patient": [f"p{first + i}" for i in range(n)],
            "text_overlay": [i == 0 for i in range(n)],
            "age": [40 + i if i else None for i in range(n)],
            "embedding": [[0.5, 1.0]] * n,
        }

    datasets.disable_progress_bars()
    one = datasets.Dataset.from_dict(rows(150), features=features)
    one.save_to_disk(root / "one", num_shards=2)
    two = datasets.Dataset.from_dict(rows(3, 200), features=features)
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(root / "both")
    two.select([2, 0]).save_to_disk(root / "selected")
    path = root / "only.png"
    Image.new("RGB", (9, 7)).save(path)
    external = datasets.Dataset.from_dict({"image": [str(path)]}).cast_column("image", datasets.Image())
    external.save_to_disk(root / "external")
    return root


def sources(root: Path, label: str | None = None) -> list[Source]:
    dataset = DataSet("d", "huggingface", root, label)
    return list(reader_of(dataset).read(dataset))


def test_rows_are_those_that_were_saved(saved: Path) -> None:
    found = sources(saved / "one")
    assert [source.uri for source in found] == [str(i) for i in range(150)]
    assert found[0].given == {"label": "benign", "patient": "p0", "text_overlay": True}
    assert found[0].attributes == {}
    assert found[149].given == {"label": "malignant", "patient": "p149", "text_overlay": False}
    assert found[149].attributes == {"label:findings": "mass;clip", "grade": "high", "age": "189"}
    run = Ingest(DataSet("d", "huggingface", saved / "one"))
    rows = [row for batch in run.batches() for row in batch.to_pylist()]
    assert (len(rows), run.rejects) == (150, [])
    assert {(row["width_px"], row["height_px"], row["format"]) for row in rows} == {(9, 7, "PNG")}


def test_pixels_are_those_that_were_saved(saved: Path) -> None:
    import io

    for i in (0, 74, 75, 149):
        data = sources(saved / "one")[i].load()
        assert isinstance(data, bytes)
        assert Image.open(io.BytesIO(data)).getpixel((0, 0)) == (i, 2, 3)


def test_splits_are_kept(saved: Path) -> None:
    found = sources(saved / "both")
    assert len(found) == 153
    assert {source.given["split"] for source in found} == {"train", "test"}
    last = found[-1]
    assert (last.uri, last.given["patient"], last.given["split"]) == ("test/2", "p202", "test")


def test_rows_that_were_chosen_are_read_in_their_order(saved: Path) -> None:
    assert [source.given["patient"] for source in sources(saved / "selected")] == ["p202", "p200"]


def test_images_that_only_have_a_path_come_with_their_bytes(saved: Path) -> None:
    (source,) = sources(saved / "external")
    assert isinstance(source.load(), bytes)
    assert "label" not in source.given


def test_another_label_may_be_chosen(saved: Path) -> None:
    first, second, *_ = sources(saved / "one", "grade")
    assert (first.given["label"], second.given["label"]) == (None, "high")
    assert second.attributes["label:label"] == "malignant"
    with pytest.raises(CounterstainError, match=r"no column 'stage'; there are \['age'"):
        sources(saved / "one", "stage")


def test_fingerprint_notices_another_saving(saved: Path) -> None:
    def fingerprint(name: str) -> str:
        dataset = DataSet("d", "huggingface", saved / name)
        return reader_of(dataset).fingerprint(dataset)

    assert fingerprint("one") == fingerprint("one")
    assert len({fingerprint(name) for name in ("one", "both", "selected")}) == 3


def test_the_library_is_not_needed(saved: Path) -> None:
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from pathlib import Path\nfrom pipelines.readers import reader_of\n"
        f"from pipelines.sources import DataSet\ndataset = DataSet('d', 'huggingface', Path({str(saved / 'one')!r}))\n"
        "print(len(list(reader_of(dataset).read(dataset))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "150"


# --- folders that are not as they should be


@pytest.fixture
def broken(saved: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy a saved data set and change one of its JSON files."""

    def change(name: str, edit: Callable[[Any], Any], of: str = "selected") -> Path:
        root = tmp_path / "copy"
        for path in (saved / of).rglob("*"):
            if path.is_file():
                place = root / path.relative_to(saved / of)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
        (root / name).write_text(json.dumps(edit(json.loads((root / name).read_text()))))
        return root

    return change


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("state.json", lambda _: [], "is not a JSON object"),
        ("state.json", lambda s: {**s, "_data_files": [{"filename": "../../x.arrow"}]}, "which is no file in it"),
        ("state.json", lambda s: {**s, "_data_files": [{"filename": "/etc/passwd"}]}, "which is no file in it"),
        ("state.json", lambda s: {**s, "_data_files": [{"filename": ".."}]}, "which is no file in it"),
        ("state.json", lambda s: {**s, "_data_files": [{"filename": "."}]}, "which is no file in it"),
        ("state.json", lambda s: {**s, "_data_files": [{"filename": 7}]}, "which is no file in it"),
        ("state.json", lambda s: {**s, "_data_files": [{}]}, "is damaged: no 'filename'"),
        ("state.json", lambda s: {**s, "_data_files": [{"filename": "gone.arrow"}]}, r"cannot read .*gone\.arrow"),
        ("state.json", lambda s: {**s, "_data_files": [{"filename": "state.json"}]}, r"cannot read .*state\.json"),
        ("state.json", lambda s: {**s, "_indices_data_files": [{"filename": "i.arrow"}]}, "flatten_indices"),
        ("dataset_info.json", lambda i: {**i, "features": None}, "declares no features"),
        ("dataset_info.json", lambda i: {**i, "features": {"image": "Image"}}, "declares no features"),
        ("dataset_info.json", lambda i: {**i, "features": {"age": i["features"]["age"]}}, "has no column of images"),
    ],
)
def test_a_damaged_folder_is_one_clear_error(broken: Callable[..., Path], name: str, edit: Any, message: str) -> None:
    with pytest.raises(CounterstainError, match=message):
        sources(broken(name, edit))


def declared(column: str, **feature: Any) -> Callable[[Any], Any]:
    return lambda info: {**info, "features": {**info["features"], column: feature}}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (declared("patient", _type="ClassLabel", names=["a"]), r"column 'patient': a class label holds 'p202'"),
        (declared("grade", _type="ClassLabel", names="ab"), "column 'grade': .* names that are no list"),
        (declared("patient", _type="List", feature={"_type": "ClassLabel"}), "column 'patient': a list .* 'p202'"),
        (
            declared("embedding", _type="List", feature={"_type": "ClassLabel"}),
            r"'embedding': a class .* holds 0\.5",
        ),
    ],
)
def test_a_class_label_that_is_none_is_one_clear_error(broken: Callable[..., Path], edit: Any, message: str) -> None:
    with pytest.raises(CounterstainError, match=message):
        sources(broken("dataset_info.json", edit))


def test_several_labels_of_an_image_are_no_class(tmp_path: Path, saved: Path) -> None:
    datasets = pytest.importorskip("datasets")
    many = datasets.Sequence(datasets.ClassLabel(names=["mass", "cyst"]))
    features = datasets.Features({"image": datasets.Image(), "label": many})
    made = datasets.Dataset.from_dict({"image": [Image.new("RGB", (9, 7))], "label": [[0, 1]]}, features=features)
    made.save_to_disk(tmp_path / "many")
    (source,) = sources(tmp_path / "many")
    assert "label" not in source.given
    assert source.attributes == {"label:label": "mass;cyst"}
    for root, column in ((tmp_path / "many", "label"), (saved / "one", "findings")):
        with pytest.raises(CounterstainError, match=f"the column '{column}' has no one value for each image"):
            sources(root, column)


@pytest.mark.parametrize("splits", [None, [], ["../one"], ["/etc"], [".."], ["."], ["a\0"], [3]])
def test_a_split_is_a_folder_in_it(broken: Callable[..., Path], splits: Any) -> None:
    root = broken("dataset_dict.json", lambda _: {"splits": splits}, of="both")
    with pytest.raises(CounterstainError, match="names"):
        sources(root)


def test_what_is_no_data_set_says_how_to_save_one(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(CounterstainError, match=r"state\.json is missing\. Save it with"):
        sources(tmp_path)
    (tmp_path / "state.json").write_text("{" * 10)
    with pytest.raises(CounterstainError, match="cannot read"):
        sources(tmp_path)


def test_damaged_arrow_is_one_clear_error(broken: Callable[..., Path]) -> None:
    root = broken("state.json", lambda state: state)
    (path,) = root.glob("*.arrow")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[100:], b"no arrow" * 50):
        path.write_bytes(content)
        with pytest.raises(CounterstainError, match="cannot read"):
            sources(root)


def test_an_image_column_that_only_the_declaration_has_gives_rejects(broken: Callable[..., Path]) -> None:
    root = broken("dataset_info.json", lambda info: {**info, "features": {"scan": info["features"]["image"]}})
    for source in sources(root):
        with pytest.raises(UnreadableImageError, match="no image"):
            source.load()


def test_a_row_without_an_image_is_a_reject(broken: Callable[..., Path]) -> None:
    import pyarrow as pa

    root = broken("state.json", lambda state: state)
    (path,) = root.glob("*.arrow")
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        table = stream.read_all()
    images = pa.array([None, {"bytes": None, "path": "/etc/hostname"}], table.schema.field("image").type)
    changed = table.set_column(table.schema.get_field_index("image"), table.schema.field("image"), images)
    with pa.ipc.new_stream(str(path), changed.schema) as stream:
        stream.write_table(changed)
    none, elsewhere = sources(root)
    with pytest.raises(UnreadableImageError, match="no image"):
        none.load()
    with pytest.raises(UnreadableImageError, match="only its path '/etc/hostname'"):
        elsewhere.load()
