"""A folder per class: ``root/<class>/…/<image>``; the label is the first folder's name."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipelines.sources import DataSet, Reader, Source, file_state, read_file
from pipelines.trees import IMAGE_SUFFIXES, as_text, image_files
from store.schema import CounterstainError


def read(dataset: DataSet) -> Iterator[Source]:
    """Yield the images class by class, files in the order of their paths.

    Raises
    ------
    CounterstainError
        If the root is not a folder, holds no class folder, or a class folder holds no image.
    """
    for label, paths in _classes(dataset):
        for path in paths:
            yield Source(_uri(dataset, path), partial(read_file, path), {"label": label})


def fingerprint(dataset: DataSet) -> str:
    """Return a digest of every image's place, size and time of modification."""
    digest = hashlib.sha256()
    for _, paths in _classes(dataset):
        for path in paths:
            digest.update(f"{_uri(dataset, path)}\0".encode() + file_state(path))
    return digest.hexdigest()[:32]


def _classes(dataset: DataSet) -> list[tuple[str, list[Path]]]:
    if not dataset.root.is_dir():
        raise CounterstainError(f"data set {dataset.name!r}: {dataset.root} is not a folder.")
    folders = sorted(path for path in dataset.root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise CounterstainError(
            f"data set {dataset.name!r}: {dataset.root} has no class folders. The folder reader expects one folder per "
            "class, with the images inside; for a table of images use --reader manifest."
        )
    classes = [(as_text(folder.name), image_files(folder)) for folder in folders]
    if empty := [label for label, paths in classes if not paths]:
        raise CounterstainError(
            f"data set {dataset.name!r}: no image in class folder {empty[0]!r} of {dataset.root}: add its images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}) or remove the folder."
        )
    return classes


def _uri(dataset: DataSet, path: Path) -> str:
    return as_text(path.relative_to(dataset.root).as_posix())


READER = Reader("folder", read, fingerprint)
