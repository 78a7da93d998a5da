"""Walking a folder of images whose names nobody vouches for."""

import os
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from store.schema import CounterstainError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"})


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder in order, leaving out what is hidden, be it a file or a folder on the way."""
    found: list[Path] = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def image_files(folder: Path) -> list[Path]:
    """Return the files below a folder that are named as images, in order, without what is hidden."""
    return [path for path in files_below(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def as_text(name: str) -> str:
    r"""Return a file name as text that can be stored; bytes that are no UTF-8 are written as ``\xNN``."""
    return os.fsencode(name).decode(errors="backslashreplace")


def place_in(folder: Path, name: str) -> Path:
    """Return the path of a file that a table names relative to a folder.

    Links within the folder may lead elsewhere: whoever keeps the data set made them, which is not so of its tables.

    Raises
    ------
    CounterstainError
        If the name leads out of the folder.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise CounterstainError(f"the table names {name!r}, which is not in {folder}: only files below it are read.")
    return folder / name


class NamedFiles:
    """The image files of a root by name, wherever in it they are: archives differ in the folder that holds them.

    Parameters
    ----------
    root
        Folder.
    name_of
        What a table calls a file.
    """

    def __init__(self, root: Path, name_of: Callable[[Path], str] = attrgetter("name")) -> None:
        self._root = root
        self._places: dict[str, list[Path]] = {}
        for path in image_files(root):
            self._places.setdefault(name_of(path), []).append(path)

    def find(self, name: str, expected: str) -> Path:
        """Return the file of that name, or where it should be if there is none.

        Raises
        ------
        CounterstainError
            If there are several, or `expected` leads out of the root.
        """
        otherwise = place_in(self._root, expected)
        places = self._places.get(name, [otherwise])
        if len(places) > 1:
            raise CounterstainError(f"{self._root} holds {name!r} more than once: {places[0]} and {places[1]}.")
        return places[0]
