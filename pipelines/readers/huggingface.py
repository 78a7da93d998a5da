"""A Hugging Face data set saved to disk: ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk``.

Its files are read as what they are, Arrow streams and JSON; the library is not needed, and no code of a data set runs.
A column of images becomes the image, a class label its name, ``label`` the label if it has one value an image; other
columns of one value become columns of ``images`` where they are named so, else attributes. A list of class labels, be
it named ``label``, becomes the attribute ``label:<column>``, joined by ``;``: no one of several is the class.

Source: https://github.com/huggingface/datasets, ``arrow_dataset.Dataset.save_to_disk`` (version 5).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.sources import MAX_FILE_BYTES, DataSet, Payload, Reader, Source, UnreadableImageError, file_state
from store.schema import GIVEN_COLUMNS, LABEL_PREFIX, CounterstainError, parse_cell

_ARROW_ERRORS = (pa.ArrowException, OSError, KeyError, ValueError, TypeError)
_GIVEN = frozenset({*GIVEN_COLUMNS, "caption"})
_Asked = TypeVar("_Asked")
_Told = TypeVar("_Told")
# Rows taken out of a memory map at once.
_ROWS = 64


@dataclass(frozen=True)
class _Part:
    """One split: its name, empty where it is the only one, its Arrow files, and its columns' declared types."""

    name: str
    files: tuple[Path, ...]
    features: Mapping[str, Any]


def read(dataset: DataSet) -> Iterator[Source]:
    """Yield the rows split by split.

    Raises
    ------
    CounterstainError
        If the root is no data set saved to disk, has no column of images or not the label's, or is damaged.
    """
    for part in _parts(dataset):
        image_column, label_column = _columns(dataset, part)
        told = [name for name in part.features if name != image_column]
        tell = {name: _of_column(dataset, name, _teller, part.features[name]) for name in told}
        for row, values in enumerate(_rows(dataset, part)):
            said = {name: _of_column(dataset, name, tell[name], values[name]) for name in told if name in values}
            yield _source(dataset, part, row, values.get(image_column), said, label_column)


def fingerprint(dataset: DataSet) -> str:
    """Return a digest of every Arrow file's name, size and time of modification, and of the declared types."""
    digest = hashlib.sha256()
    for part in _parts(dataset):
        digest.update(json.dumps([part.name, dict(part.features)], sort_keys=True).encode())
        for path in part.files:
            digest.update(f"{path.name}\0".encode() + file_state(path))
    return digest.hexdigest()[:32]


def _parts(dataset: DataSet) -> list[_Part]:
    listing = dataset.root / "dataset_dict.json"
    if not listing.is_file():
        return [_part(dataset, dataset.root, "")]
    splits = _json(dataset, listing).get("splits")
    if not isinstance(splits, list) or not splits or not all(isinstance(name, str) and name for name in splits):
        raise CounterstainError(f"data set {dataset.name!r}: {listing} names no splits.")
    if outside := [name for name in splits if not _is_name(name)]:
        raise CounterstainError(f"data set {dataset.name!r}: {listing} names {outside[0]!r}, which is no folder in it.")
    return [_part(dataset, dataset.root / name, name) for name in splits]


def _part(dataset: DataSet, folder: Path, name: str) -> _Part:
    state, info = _json(dataset, folder / "state.json"), _json(dataset, folder / "dataset_info.json")
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
        features = info["features"]
    except (KeyError, TypeError) as error:
        raise CounterstainError(f"data set {dataset.name!r}: {folder} is damaged: no {error}.") from error
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise CounterstainError(f"data set {dataset.name!r}: {folder / 'dataset_info.json'} declares no features.")
    if outside := [file for file in names if not isinstance(file, str) or not _is_name(file)]:
        raise CounterstainError(f"data set {dataset.name!r}: {folder} names {outside[0]!r}, which is no file in it.")
    if state.get("_indices_data_files"):
        raise CounterstainError(
            f"data set {dataset.name!r}: {folder} keeps its rows' order in a file of indices: load it, call "
            "`flatten_indices()` and save it again."
        )
    return _Part(name, tuple(folder / file for file in names), features)


def _is_name(name: str) -> bool:
    return Path(name).name == name and name != ".." and "\0" not in name


def _json(dataset: DataSet, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CounterstainError(
            f"data set {dataset.name!r}: {dataset.root} is no data set saved to disk: {path} is missing. Save it with "
            "`dataset.save_to_disk(FOLDER)`."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CounterstainError(f"data set {dataset.name!r}: cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise CounterstainError(f"data set {dataset.name!r}: {path} is not a JSON object.")
    return found


def _columns(dataset: DataSet, part: _Part) -> tuple[str, str | None]:
    """Return the columns of image and label."""
    images = [name for name, feature in part.features.items() if feature.get("_type") == "Image"]
    if not images:
        raise CounterstainError(
            f"data set {dataset.name!r}: {part.files[0].parent if part.files else dataset.root} has no column of "
            f"images; it has {sorted(part.features)}."
        )
    if dataset.label is not None and dataset.label not in part.features:
        raise CounterstainError(
            f"data set {dataset.name!r}: no column {dataset.label!r}; there are {sorted(part.features)}."
        )
    if dataset.label is not None and not _is_single(part.features[dataset.label]):
        raise CounterstainError(
            f"data set {dataset.name!r}: the column {dataset.label!r} has no one value for each image, which a label "
            "must have; choose another with --label."
        )
    usual = "label" if "label" in part.features and _is_single(part.features["label"]) else None
    return "image" if "image" in images else images[0], dataset.label or usual


def _of_column(dataset: DataSet, column: str, ask: Callable[[_Asked], _Told], asked: _Asked) -> _Told:
    """Return what is asked of a column; what is wrong with it names the column."""
    try:
        return ask(asked)
    except CounterstainError as error:
        raise CounterstainError(
            f"data set {dataset.name!r}, column {column!r}: {error}; save the data set again with its columns cast."
        ) from error


def _is_single(feature: Mapping[str, Any]) -> bool:
    return feature.get("_type") in ("Value", "ClassLabel")


def _teller(feature: Mapping[str, Any]) -> Callable[[Any], str | None]:
    """Return what turns a value of a declared type into text; None for what has no text."""
    kind = feature.get("_type")
    if kind == "ClassLabel":
        return partial(_class_name, _names(feature))
    if kind == "Value":
        return _plain
    inner = feature.get("feature")
    if kind in ("Sequence", "List", "LargeList") and isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
        return partial(_class_names, _names(inner))
    return lambda _: None


def _names(feature: Mapping[str, Any]) -> list[Any]:
    names = feature.get("names") or []
    if not isinstance(names, list):
        raise CounterstainError("a class label declares names that are no list")
    return names


def _class_names(names: list[Any], codes: Any) -> str | None:
    if codes is None:
        return None
    if not isinstance(codes, list):
        raise CounterstainError(f"a list of class labels holds {codes!r}")
    return ";".join(filter(None, (_class_name(names, code) for code in codes)))


def _class_name(names: list[Any], code: Any) -> str | None:
    if code is None or code == -1:  # how an unknown class is written
        return None
    if not isinstance(code, int):
        raise CounterstainError(f"a class label holds {code!r}, which is no number of a class")
    return str(names[code]) if 0 <= code < len(names) else str(code)


def _plain(value: Any) -> str | None:
    return None if value is None or isinstance(value, bytes) else str(value)


def _rows(dataset: DataSet, part: _Part) -> Iterator[dict[str, Any]]:
    for path in part.files:
        try:
            with pa.memory_map(str(path)) as mapped, pa.ipc.open_stream(mapped) as stream:
                for batch in stream:
                    batch.validate(full=True)  # offsets of a hostile file could point anywhere
                    for start in range(0, batch.num_rows, _ROWS):
                        yield from batch.slice(start, _ROWS).to_pylist()
        except _ARROW_ERRORS as error:
            raise CounterstainError(f"data set {dataset.name!r}: cannot read {path}: {error}") from error


def _source(
    dataset: DataSet, part: _Part, row: int, image: Any, said: dict[str, str | None], label_column: str | None
) -> Source:
    uri = f"{part.name}/{row}" if part.name else str(row)
    given: dict[str, object] = {"split": part.name} if part.name else {}
    attributes: dict[str, str] = {}
    for name, text in said.items():
        many = not _is_single(part.features[name])
        if name == label_column:
            given["label"] = text
        elif name in _GIVEN and name != "label":
            try:
                given[name] = parse_cell(name, text)
            except CounterstainError as error:
                raise CounterstainError(f"data set {dataset.name!r}, row {uri}: {error}") from error
        elif text:
            attributes[LABEL_PREFIX + name if many or name == "label" else name] = text
    return Source(uri, partial(_load, image), given, attributes)


def _load(image: Any) -> Payload:
    data = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(data, bytes):
        place = image.get("path") if isinstance(image, dict) else None
        raise UnreadableImageError(f"the image is not in it, only its path {place!r}" if place else "no image")
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableImageError(f"the image has {len(data):,} bytes, above the limit of {MAX_FILE_BYTES:,}")
    return data


READER = Reader("huggingface", read, fingerprint)
