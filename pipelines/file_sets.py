"""Data sets of image files: what a declaration says of each file, made into a reader."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipelines.decoding import mask_box
from pipelines.sources import About, DataSet, Reader, Source, file_state, read_file
from pipelines.trees import as_text, image_files
from store.schema import LABEL_PREFIX, CounterstainError


@dataclass(frozen=True)
class ImageFile:
    """One image file of a data set, and what the set says of it.

    Attributes
    ----------
    uri
        Place within the data set, unique and stable.
    path
        The file.
    labels
        Its classes under each labelling by name, the usual one first; ``--label`` takes another.
    given
        Columns of ``images``, already of their type.
    attributes
        Whatever else is known; those that are None are left out.
    masks
        Mask files of the same size; the box around all that is marked becomes ``lesion_box``.
    """

    uri: str
    path: Path
    labels: Mapping[str, str | None]
    given: Mapping[str, object] = field(default_factory=dict)
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    masks: tuple[Path, ...] = ()


def file_set_reader(name: str, files: Callable[[Path], Iterable[ImageFile]], about: About | None = None) -> Reader:
    """Return the reader of a data set of image files.

    Parameters
    ----------
    name
        What ``--reader`` is given.
    files
        Yields the images of a root in a stable order; raises `CounterstainError` where the layout is another.
    about
        What its publisher says of it, where the reader is for one published data set.
    """
    return Reader(name, partial(_read, files, about), partial(_fingerprint, files, about), about)


def inside(root: Path, name: str) -> Path:
    """Return the folder of that name in the root, or the root: people name either when an archive was unpacked."""
    return root / name if (root / name).is_dir() else root


def in_class_folders(root: Path, classes: Iterable[str]) -> Iterator[tuple[str, str, Path]]:
    """Yield class, place and path of every image in the folders named as the classes; absent folders hold none."""
    for name in classes:
        for path in image_files(root / name):
            yield name, as_text(path.relative_to(root).as_posix()), path


def _files(files: Callable[[Path], Iterable[ImageFile]], about: About | None, dataset: DataSet) -> Iterator[ImageFile]:
    if not dataset.root.is_dir():
        raise CounterstainError(f"data set {dataset.name!r}: {dataset.root} is not a folder.{_expected(about)}")
    seen: set[str] = set()
    try:
        for file in files(dataset.root):
            if file.uri in seen:
                raise CounterstainError(f"{dataset.root} holds {file.uri!r} more than once.")
            seen.add(file.uri)
            yield file
    except CounterstainError as error:
        raise CounterstainError(f"data set {dataset.name!r}: {error}{_expected(about)}") from error
    if not seen:
        raise CounterstainError(
            f"data set {dataset.name!r}: {dataset.root} holds none of its images.{_expected(about)}"
        )


def _expected(about: About | None) -> str:
    return f" Expected: {about.root}." if about is not None else ""


def _read(files: Callable[[Path], Iterable[ImageFile]], about: About | None, dataset: DataSet) -> Iterator[Source]:
    for file in _files(files, about, dataset):
        chosen = dataset.label or next(iter(file.labels))
        known = {**file.attributes, **{k: v for k, v in file.given.items() if isinstance(v, str)}, **file.labels}
        if chosen not in known:
            raise CounterstainError(
                f"data set {dataset.name!r}: no label {chosen!r}; there are {', '.join(sorted(known))}."
            )
        others = {LABEL_PREFIX + name: value for name, value in file.labels.items() if name != chosen}
        attributes = {name: value for name, value in {**file.attributes, **others}.items() if value is not None}
        attributes.pop(chosen, None)
        yield Source(
            file.uri,
            partial(read_file, file.path),
            {**file.given, "label": known[chosen]},
            attributes,
            partial(_look, file.masks),
        )


def _look(masks: tuple[Path, ...]) -> Mapping[str, object]:
    return {"lesion_box": mask_box([read_file(path) for path in masks])} if masks else {}


def _fingerprint(files: Callable[[Path], Iterable[ImageFile]], about: About | None, dataset: DataSet) -> str:
    """Return a digest of what is said of every image, and of its files' sizes and times of modification."""
    digest = hashlib.sha256()
    for file in _files(files, about, dataset):
        said = (file.uri, dict(file.labels), dict(file.given), dict(file.attributes))
        digest.update(repr(said).encode("utf-8", "backslashreplace"))
        for path in (file.path, *file.masks):
            digest.update(file_state(path))
    return digest.hexdigest()[:32]
