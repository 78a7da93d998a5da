"""Counterfactual pairs: an image as it is, and with one thing about its overlay changed."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.overlays.item import Box, Pixels
from pipelines.phantoms.fields import Site
from pipelines.phantoms.marks import burn_callipers, burn_words
from pipelines.sources import Source
from pipelines.threads import map_ordered
from pipelines.wanted import Wanted, open_wanted

if TYPE_CHECKING:
    from pipelines.encoder import Encoder

# Around a word's box, which may cut its letters' edges.
_MARGIN_PX = 2
_INPAINT_RADIUS_PX = 3
# Tries at a place for a placebo that lies on no word.
_PLACES = 50
PICTURE_SIDE_PX = 160


@dataclass(frozen=True)
class Intervention:
    """A change of an image's overlay.

    Attributes
    ----------
    name
        As in the results.
    on_text
        Whether it is for images that have words (True) or for those without any overlay (False); None: for both.
    change
        Returns other pixels, given those of the image, the boxes of its words and a random generator.
    """

    name: str
    on_text: bool | None
    change: Callable[[Pixels, Sequence[Box], np.random.Generator], Pixels]


def remove_text(pixels: Pixels, boxes: Sequence[Box], rng: np.random.Generator) -> Pixels:
    """Paint words over with what surrounds them (Telea 2004, as OpenCV does it)."""
    import cv2

    mask = np.zeros(pixels.shape[:2], np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[max(0, y0 - _MARGIN_PX) : y1 + _MARGIN_PX, max(0, x0 - _MARGIN_PX) : x1 + _MARGIN_PX] = 1
    return cv2.inpaint(pixels, mask, _INPAINT_RADIUS_PX, cv2.INPAINT_TELEA).astype(np.uint8)


def remove_elsewhere(pixels: Pixels, boxes: Sequence[Box], rng: np.random.Generator) -> Pixels:
    """Paint over as much as the words take up, where there are none: what painting over does by itself."""
    height, width = pixels.shape[:2]
    elsewhere: list[Box] = []
    for x0, y0, x1, y1 in boxes:
        across, down = x1 - x0, y1 - y0
        for _ in range(_PLACES):
            left, top = int(rng.integers(max(1, width - across))), int(rng.integers(max(1, height - down)))
            place = (left, top, left + across, top + down)
            if not any(_overlap(place, box) for box in boxes):
                elsewhere.append(place)
                break
    return remove_text(pixels, elsewhere, rng)


def plant_patch(line: str) -> Callable[[Pixels, Sequence[Box], np.random.Generator], Pixels]:
    """Return a change that fills the box where `line` would be planted with as much light, and no letters."""
    plant = plant_words(line)

    def change(pixels: Pixels, boxes: Sequence[Box], rng: np.random.Generator) -> Pixels:
        written = plant(pixels, boxes, rng)
        touched = (written != pixels).any(axis=2)
        patched = pixels.copy()
        if touched.any():
            rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
            inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            lighter = written[inside].mean(axis=(0, 1)) - pixels[inside].mean(axis=(0, 1))
            patched[inside] = np.clip(np.rint(pixels[inside] + lighter), 0, 255).astype(np.uint8)
        return patched

    return change


def plant_words(*lines: str) -> Callable[[Pixels, Sequence[Box], np.random.Generator], Pixels]:
    """Return a change that burns `lines` into a lower corner, as scanners write them."""

    def change(pixels: Pixels, boxes: Sequence[Box], rng: np.random.Generator) -> Pixels:
        right = bool(rng.integers(2))
        side = min(pixels.shape[:2])
        columns = slice(pixels.shape[1] - side, None) if right else slice(0, side)
        planted = pixels.copy()
        planted[-side:, columns], _ = burn_words(pixels[-side:, columns], lines, 1.0, rng, right=right, top=False)
        return planted

    return change


def plant_callipers(pixels: Pixels, boxes: Sequence[Box], rng: np.random.Generator) -> Pixels:
    """Measure the middle of the image, where lesions mostly are."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    x, y, half_width, half_height = rng.uniform((0.4, 0.35, 0.1, 0.07), (0.6, 0.6, 0.2, 0.14))
    square = pixels[top : top + side, left : left + side]
    planted = pixels.copy()
    planted[top : top + side, left : left + side], _ = burn_callipers(
        square, Site(float(x), float(y), float(half_width), float(half_height)), 1.0, rng
    )
    return planted


def leave_alone(pixels: Pixels, boxes: Sequence[Box], rng: np.random.Generator) -> Pixels:
    """Change nothing: what is left is the noise of encoding twice."""
    return pixels


INTERVENTIONS = (
    Intervention("unchanged", None, leave_alone),
    Intervention("text removed", True, remove_text),
    Intervention("placebo: painted over elsewhere", True, remove_elsewhere),
    Intervention("BREAST planted", False, plant_words("BREAST")),
    Intervention("AXILLA planted", False, plant_words("AXILLA")),
    Intervention("side planted", False, plant_words("LT")),
    Intervention("calliper planted", False, plant_callipers),
    Intervention("placebo: patch planted", False, plant_patch("BREAST")),
)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@dataclass(frozen=True)
class Subject:
    """An image to change: what it is, and where its words stand."""

    wanted: Wanted
    boxes: tuple[Box, ...]

    def suits(self, intervention: Intervention) -> bool:
        """Whether an intervention is for an image like this."""
        return intervention.on_text is None or intervention.on_text == bool(self.boxes)


@dataclass(frozen=True)
class Changed:
    """An image's vectors ``(d,)`` float32 after each intervention that suits it, and small PNGs of what was encoded."""

    image_id: str
    vectors: Mapping[str, NDArray[np.float32]]
    pictures: Mapping[str, bytes]


def encode_changed(
    encoder: "Encoder", sources: Iterable[Source], subjects: Mapping[str, Subject], *, seed: int, workers: int = 2
) -> Iterator[Changed]:
    """Yield each subject's vectors after each intervention, in the sources' order.

    Parameters
    ----------
    encoder
        A loaded encoder.
    sources
        What a reader yields.
    subjects
        Images to change, by uri.
    seed
        With an image's content it decides where things are planted: the same place for every encoder.
    workers
        Threads, each of which takes an image from file to vectors.
    """
    import torch

    def encode_one(source: Source) -> Changed:
        subject = subjects[source.uri]
        _, upright = open_wanted(source, subject.wanted)
        pixels = np.asarray(upright)
        changed = {
            intervention.name: Image.fromarray(
                intervention.change(pixels, subject.boxes, _generator(seed, subject, intervention))
            )
            for intervention in INTERVENTIONS
            if subject.suits(intervention)
        }
        vectors = encoder.encode(torch.stack([encoder.preprocess(image) for image in changed.values()]))
        pictures = {name: _picture(image) for name, image in changed.items()}
        return Changed(subject.wanted.image_id, dict(zip(changed, vectors, strict=True)), pictures)

    chosen = (source for source in sources if source.uri in subjects)
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // workers))
    try:
        for _, changed in map_ordered(encode_one, chosen, workers, look_ahead=2 * workers):
            yield changed
    finally:
        torch.set_num_threads(cores)


def _picture(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()


def _generator(seed: int, subject: Subject, intervention: Intervention) -> np.random.Generator:
    named = f"{seed} {subject.wanted.content_hash} {intervention.name}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(named).digest()[:8]))
