"""Preprocessed images in one file that is mapped into memory: decoded once, whatever the number of epochs."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pipelines.sources import Source
from pipelines.threads import map_ordered
from pipelines.wanted import Wanted, open_wanted
from store.schema import CounterstainError

if TYPE_CHECKING:
    from pipelines.encoder import Encoder

# Left free on the disk.
SPARE_BYTES = 2**30


def preprocessed(
    encoder: "Encoder",
    sources: Iterable[Source],
    wanted: Mapping[str, Wanted],
    path: Path,
    *,
    workers: int,
    advance: Callable[[int], None],
) -> NDArray[np.float32]:
    """Return the wanted images as the encoder's official preprocessing leaves them, in the order of `wanted`.

    Parameters
    ----------
    encoder
        A loaded encoder.
    sources
        What a reader yields; those not in `wanted` are passed over unread.
    wanted
        Images by uri.
    path
        File that keeps them; where it is already, nothing is decoded. Its name must stand for images and encoder.
    workers
        Threads that decode; no more than a few images wait in memory.
    advance
        Told of each image.

    Returns
    -------
    ndarray
        ``(n, 3, h, w)`` float32, read-only, in memory only as far as it is used.

    Raises
    ------
    CounterstainError
        If an image is no longer what it was when ``images`` was made, the images do not come out in one size, or the
        disk is too small.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another training of the same encoder and images, with another recipe, may write or delete the same file.
    with FileLock(path.with_name(path.name + ".lock")):
        if not path.exists():
            partial = path.with_name(path.name + ".partial")
            _write(encoder, sources, wanted, partial, workers, advance)
            partial.replace(path)
        pixels: NDArray[np.float32] = np.lib.format.open_memmap(path, mode="r")
    return pixels


def _write(
    encoder: "Encoder",
    sources: Iterable[Source],
    wanted: Mapping[str, Wanted],
    path: Path,
    workers: int,
    advance: Callable[[int], None],
) -> None:
    place = {uri: number for number, uri in enumerate(wanted)}
    chosen = (source for source in sources if source.uri in place)
    out: np.memmap[Any, np.dtype[np.float32]] | None = None
    done = 0

    def prepare(source: Source) -> NDArray[np.float32]:
        _, image = open_wanted(source, wanted[source.uri])
        pixels: NDArray[np.float32] = encoder.preprocess(image).numpy()
        return pixels

    for source, pixels in map_ordered(prepare, chosen, workers, look_ahead=4 * workers):
        if out is None:
            _check_room(path, len(place) * pixels.nbytes)
            out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(place), *pixels.shape))
        if pixels.shape != out.shape[1:]:
            raise CounterstainError(
                f"{encoder.spec.name}: its preprocessing gives {source.uri!r} the shape {pixels.shape}, and the images "
                f"before it {out.shape[1:]}: it can be trained only where all images come out in one size."
            )
        out[place[source.uri]] = pixels
        done += 1
        advance(1)
    if done < len(place) or out is None:
        raise CounterstainError(
            f"{len(place) - done} images are no longer where they were read from: materialize `images` again."
        )
    out.flush()


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed + SPARE_BYTES:
        raise CounterstainError(
            f"training keeps the preprocessed images in {path.parent}, {needed / 2**30:.1f} GB, and {free / 2**30:.1f} "
            "GB are free there: make room, or take a linear head, which needs none."
        )
