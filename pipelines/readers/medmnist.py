"""A MedMNIST ``.npz``: arrays ``{train,val,test}_images`` and ``…_labels``, streamed out of the archive.

Source: Yang et al., MedMNIST v2, Scientific Data 2023; https://medmnist.com. The official splits are kept as ``split``.
Several labels per image become the attribute ``label:all``, joined by ``;``, and no label.
"""

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipelines.sources import MAX_FILE_BYTES, About, DataSet, Reader, Source, file_state
from store.schema import LABEL_PREFIX, CounterstainError

SPLITS = ("train", "val", "test")

# What zipfile and NumPy raise for archives that are damaged, cut off, encrypted or lack an array.
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError)


def archive_reader(
    name: str, splits: Sequence[str] = SPLITS, classes: Mapping[str, str] | None = None, about: About | None = None
) -> Reader:
    """Return a reader of MedMNIST archives, or of one of them.

    Parameters
    ----------
    name
        What ``--reader`` is given.
    splits
        The official parts to read.
    classes
        Class name of each code, such as ``{"0": "normal"}``; codes without one stay as they are.
    about
        What is known of the one archive it reads.
    """
    return Reader(name, partial(_read, splits, classes or {}), _fingerprint, about)


def _read(wanted: Sequence[str], classes: Mapping[str, str], dataset: DataSet) -> Iterator[Source]:
    if not dataset.root.is_file():
        raise CounterstainError(f"data set {dataset.name!r}: no file at {dataset.root}.")
    try:
        with zipfile.ZipFile(dataset.root) as archive:
            names = set(archive.namelist())
            splits = [split for split in wanted if f"{split}_images.npy" in names]
            if not splits:
                raise CounterstainError(
                    f"data set {dataset.name!r}: {dataset.root} is no MedMNIST archive: it has no {wanted[0]}_images."
                )
            for split in splits:
                images, labels = _rows(archive, f"{split}_images.npy"), _rows(archive, f"{split}_labels.npy")
                for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
                    yield _source(split, i, pixels, [classes.get(code, code) for code in map(str, np.ravel(label))])
    except _ARCHIVE_ERRORS as error:
        raise CounterstainError(f"data set {dataset.name!r}: cannot read {dataset.root}: {error}") from error


def _fingerprint(dataset: DataSet) -> str:
    """Return a digest of the archive's size and time of modification."""
    if not dataset.root.is_file():
        raise CounterstainError(f"data set {dataset.name!r}: no file at {dataset.root}.")
    return hashlib.sha256(file_state(dataset.root)).hexdigest()[:32]


def _source(split: str, i: int, pixels: NDArray[np.uint8], labels: list[str]) -> Source:
    if len(labels) == 1:
        return Source(f"{split}/{i}", lambda: pixels, {"label": labels[0], "split": split})
    return Source(f"{split}/{i}", lambda: pixels, {"split": split}, {f"{LABEL_PREFIX}all": ";".join(labels)})


def _rows(archive: zipfile.ZipFile, name: str) -> Iterator[NDArray[np.uint8]]:
    """Yield an array's rows one by one, since a whole set at 224 px is larger than memory."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
        if fortran_order or dtype.kind not in "iu" or not shape:
            raise ValueError(f"{name} has shape {shape} and type {dtype}")
        size = math.prod(shape[1:]) * dtype.itemsize
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{name} has {size:,} bytes a row, above the limit of {MAX_FILE_BYTES:,}")
        for i in range(shape[0]):
            row = file.read(size)
            if len(row) < size:
                raise ValueError(f"{name} ends at row {i} of {shape[0]}")
            yield np.frombuffer(row, dtype).reshape(shape[1:])


READER = archive_reader("medmnist")
