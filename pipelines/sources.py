"""What a reader yields: one image as its data set gives it, not yet decoded."""

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.schema import check_dataset_name

# An image file beyond this is refused unread.
MAX_FILE_BYTES = 512 * 2**20

Payload = bytes | NDArray[np.uint8]


class UnreadableImageError(Exception):
    """An image that cannot be used; recorded as a reject, and the run goes on."""


@dataclass(frozen=True)
class Source:
    """One image of a data set.

    Attributes
    ----------
    uri
        Place within the data set, unique there and stable between reads, such as ``benign/01.png``.
    load
        Returns the image file's bytes, or decoded pixels ``(h, w)`` or ``(h, w, 3)`` uint8; raises
        `UnreadableImageError`.
    given
        What the data set itself says of the image: columns of ``images`` by name, already of their type.
    attributes
        Whatever else it says.
    look
        Returns further columns that take decoding to know, such as the box around a mask; raises
        `UnreadableImageError`. Asked once, when the image is described.
    """

    uri: str
    load: Callable[[], Payload]
    given: Mapping[str, object] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    look: Callable[[], Mapping[str, object]] = dict


@dataclass(frozen=True)
class DataSet:
    """A registered data set: which reader reads it, from where, and which columns mean what.

    Attributes
    ----------
    name
        Its partition key.
    reader
        Name of a registered `Reader`.
    root
        Folder or file.
    label
        Column, attribute or further label that holds the class; by default the reader's own.
    groups
        Columns whose images must not straddle a split (patient, slide, …).
    """

    name: str
    reader: str
    root: Path
    label: str | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_dataset_name(self.name)


@dataclass(frozen=True)
class About:
    """A data set as its publisher distributes it: what to expect of it, and where it comes from.

    Attributes
    ----------
    title
        What it is, in a line.
    root
        What ``--root`` names, in words.
    images
        How many the reader finds.
    classes
        Images of each class, or the number of classes where only that is known.
    modality
        How the images were made.
    groups
        Columns and attributes whose images must not straddle a split; registered with the data set.
    confounders
        What of the background is known to vary, or to go with the label.
    licence, citation, obtain
        Its terms, its paper, and where to get it.
    label
        Name of its usual labelling: asking for it is asking for none.
    published
        Its column in the published scores that `analysis.published` holds, if any.
    published_note
        What stands between that column and these images.
    """

    title: str
    root: str
    images: int
    classes: Mapping[str, int] | int
    modality: str
    confounders: tuple[str, ...]
    licence: str
    citation: str
    obtain: str
    groups: tuple[str, ...] = ()
    label: str = "label"
    published: str | None = None
    published_note: str = ""

    def is_usual(self, label: str | None) -> bool:
        """Return whether a data set's label is the one that its publisher's classes are of."""
        return label in (None, self.label)


@dataclass(frozen=True)
class Reader:
    """A way data sets are laid out, or one data set that has a layout of its own.

    Attributes
    ----------
    name
        What ``--reader`` is given.
    read
        Yields the sources in a stable order without holding more than one image; raises `CounterstainError` where the
        layout is not as expected.
    fingerprint
        Digest that changes when an image or the table is added, removed or modified, without reading pixels.
    about
        What is known of the one data set it reads; None for a layout that many share.
    """

    name: str
    read: Callable[[DataSet], Iterator[Source]]
    fingerprint: Callable[[DataSet], str]
    about: About | None = None


def read_file(path: Path) -> bytes:
    """Return an image file's bytes.

    Raises
    ------
    UnreadableImageError
        If the file is missing, no regular file, cannot be opened, or is larger than `MAX_FILE_BYTES`.
    """
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened: {error.strerror}") from error


def check_file(path: Path) -> None:
    """Raise `UnreadableImageError` unless there is a regular file of at most `MAX_FILE_BYTES`."""
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise UnreadableImageError(f"cannot be opened: {error}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device never end
        raise UnreadableImageError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UnreadableImageError(f"the file has {status.st_size:,} bytes, above the limit of {MAX_FILE_BYTES:,}")


def file_state(path: Path) -> bytes:
    """Return a file's size and time of modification, or that there is none: what a reader's fingerprint is made of."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return b"missing\0"
    return f"{status.st_size}\0{status.st_mtime_ns}\0".encode()
