"""Names of classes written into images, as scanners write words, and neutral words in the same boxes."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.overlays.item import Box, Pixels
from pipelines.phantoms.marks import burn_word_into, burn_words, line_width
from pipelines.saliency.view import measure_view, png
from pipelines.sources import Source
from pipelines.threads import map_ordered
from pipelines.wanted import Wanted, open_wanted
from store.schema import CounterstainError

if TYPE_CHECKING:
    from pipelines.encoder import Encoder

# What scanners and readers write whatever the image shows; that of the class name's length is taken.
NEUTRAL_WORDS = ("SIDE", "IMAGE", "SERIES", "PROGRAM", "PORTABLE", "EXAMINATION", "RECONSTRUCTION")
PICTURE_SIDE_PX = 192
# What a name must leave on both sides, as a share of the square it is written into: the widest margin that it is given.
_MARGIN = 0.06
# Images per forward pass.
_BATCH_SIZE = 16


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an encoder makes of one image with the name of each class on it.

    Attributes
    ----------
    image_id
        The image.
    before
        ``(d,)`` its vector as it is.
    planted, neutral
        ``(k, d)`` its vectors with each class's name, and with a neutral word in the same box.
    pictures
        Small PNGs: as it is, and by class with the name and with the neutral word; None where none were asked for.
    """

    image_id: str
    before: NDArray[np.float32]
    planted: NDArray[np.float32]
    neutral: NDArray[np.float32]
    pictures: tuple[bytes, Mapping[str, tuple[bytes, bytes]]] | None


def written(name: str) -> str:
    """Return a class's name as it is written into an image."""
    return " ".join(name.replace("_", " ").split()).upper()


def neutral_word(name: str, classes: Sequence[str]) -> str:
    """Return the neutral word whose length is nearest to that of a class's name, and in which no class is named.

    Raises
    ------
    CounterstainError
        If every neutral word names a class.
    """
    named = {word for each in classes for word in written(each).split()}
    free = [word for word in NEUTRAL_WORDS if word not in named]
    if not free:
        raise CounterstainError(
            "every neutral word is the name of a class: there is nothing to compare an attack with."
        )
    return min(free, key=lambda word: (abs(len(word) - len(written(name))), word))


def plant_name(
    pixels: Pixels, seen: Box, name: str, neutral: str, words: Sequence[Box], rng: np.random.Generator
) -> tuple[Pixels, Pixels, Box]:
    """Write a class's name into a corner; return the pixels with it, those with the neutral word, and their box.

    A lower corner is taken where no words stand, else an upper one; where words stand everywhere, the first. A name
    longer than the corner is wide is pressed together.

    Parameters
    ----------
    pixels
        ``(h, w, 3)`` uint8.
    seen
        What of the image the model is shown, whose corners are meant: what is cropped away nobody reads.
    name, neutral
        The class, and the neutral word.
    words
        Boxes of the words that the image has.
    rng
        Chooses the side, and the margins.

    Raises
    ------
    CounterstainError
        If nothing of the name can be written.
    """
    left, upper, width, height = seen[0], seen[1], seen[2] - seen[0], seen[3] - seen[1]
    side = min(height, width)
    first, seed = bool(rng.integers(2)), int(rng.integers(2**32))
    margin = max(1, round(_MARGIN * side))
    too_long = line_width(written(name), side, 1.0) > side - 2 * margin
    planted = []
    for top, right in ((False, first), (False, not first), (True, first), (True, not first)):
        x, y = left + (width - side if right else 0), upper + (0 if top else height - side)
        square = (slice(y, y + side), slice(x, x + side))
        margins = np.random.default_rng(seed)
        written_on, boxes = burn_words(pixels[square], (written(name),), 1.0, margins, right=right, top=top)
        if not boxes:
            raise CounterstainError(f"the class name {name!r} has no letter that could be written into an image.")
        x0, y0, x1, y1 = boxes[0]
        if too_long:
            x0, x1 = margin, side - margin
            written_on = burn_word_into(pixels[square], written(name), (x0, y0, x1, y1), 1.0)
        planted.append((square, written_on, (x0, y0, x1, y1), (x0 + x, y0 + y, x1 + x, y1 + y)))
    free = (each for each in planted if not any(_overlap(each[3], word) for word in words))
    square, written_on, within, box = next(free, planted[0])
    with_name, with_neutral = pixels.copy(), pixels.copy()
    with_name[square] = written_on
    with_neutral[square] = burn_word_into(pixels[square], neutral, within, 1.0)
    return with_name, with_neutral, box


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def attack(
    encoder: "Encoder",
    sources: Iterable[Source],
    wanted: Mapping[str, Wanted],
    classes: Sequence[str],
    words: Mapping[str, Sequence[Box]],
    *,
    seed: int,
    pictured: Collection[str] = (),
    workers: int = 2,
) -> Iterator[Attacked]:
    """Yield each image's vectors with the names of all classes on it, in the sources' order.

    Parameters
    ----------
    encoder
        A loaded encoder.
    sources
        What a reader yields.
    wanted
        Images to attack, by uri.
    classes
        Names to plant.
    words
        Boxes of the words that images have, by image id; those of an image without any may be missing.
    seed
        With an image's content it decides the corner of what is shown: the same for every encoder.
    pictured
        Ids of the images that pictures are made of.
    workers
        Threads, each of which takes an image from file to vectors.
    """
    import torch

    neutral = {name: neutral_word(name, classes) for name in classes}
    view_of = lru_cache(maxsize=64)(lambda size: measure_view(encoder.preprocess, size))

    def attack_one(source: Source) -> Attacked:
        one = wanted[source.uri]
        _, upright = open_wanted(source, one)
        pixels = np.asarray(upright)
        digest = hashlib.sha256(f"{seed} {one.content_hash}".encode()).digest()
        seen = view_of(upright.size).seen(upright.size)
        inputs, pictures = [encoder.preprocess(upright)], {}
        # A class at a time: of a large image with many classes not all changed copies can be held.
        for name in classes:
            rng = np.random.default_rng(int.from_bytes(digest[:8]))
            planted = plant_name(pixels, seen, name, neutral[name], words.get(one.image_id, ()), rng)[:2]
            with_name, with_neutral = (Image.fromarray(changed) for changed in planted)
            inputs += [encoder.preprocess(with_name), encoder.preprocess(with_neutral)]
            if one.image_id in pictured:
                pictures[name] = (png(with_name, PICTURE_SIDE_PX), png(with_neutral, PICTURE_SIDE_PX))
        parts = (inputs[start : start + _BATCH_SIZE] for start in range(0, len(inputs), _BATCH_SIZE))
        vectors = np.concatenate([encoder.encode(torch.stack(part)) for part in parts])
        shown = (png(upright, PICTURE_SIDE_PX), pictures) if one.image_id in pictured else None
        return Attacked(one.image_id, vectors[0], vectors[1::2], vectors[2::2], shown)

    chosen = (source for source in sources if source.uri in wanted)
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // workers))
    try:
        for _, attacked in map_ordered(attack_one, chosen, workers, look_ahead=2 * workers):
            yield attacked
    finally:
        torch.set_num_threads(cores)
