"""Walking a folder of images whose names nobody vouches for."""

import os
from pathlib import Path

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
