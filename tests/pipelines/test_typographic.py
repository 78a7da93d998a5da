"""Class names in corners, and neutral words in the same boxes with as much ink."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.decoding import content_hash
from pipelines.phantoms import PhantomSpec, draw_phantom
from pipelines.sources import Source
from pipelines.typographic import attack, neutral_word, plant_name, written
from pipelines.wanted import Wanted
from store.schema import CounterstainError

CLASSES = ("normal", "benign", "no_finding")
WHOLE = (0, 0, 128, 128)


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    box = Image.fromarray((before != after).any(axis=2)).getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (200, 120)])
@pytest.mark.parametrize("name", CLASSES)
def test_name_and_neutral_word_change_the_same_box_as_much(name: str, size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.full((height, width, 3), 40, np.uint8)
    word = neutral_word(name, CLASSES)
    with_name, with_neutral, box = plant_name(pixels, (0, 0, width, height), name, word, (), generator())
    assert changed(pixels, with_name) == box
    inside = changed(pixels, with_neutral)
    np.testing.assert_allclose(inside, box, atol=1)
    assert (with_name != with_neutral).any()
    ink = [int((image.astype(int) - 40).sum()) for image in (with_name, with_neutral)]
    assert 0.7 < ink[1] / ink[0] < 1.4
    assert box[1] > height / 2  # a lower corner


def test_words_that_are_there_are_not_written_over() -> None:
    spec = PhantomSpec("ultrasound", 12, 128, strength=1.0, seed=2)
    moved = 0
    for index in range(12):
        phantom = draw_phantom(spec, index)
        for seed in range(2):
            rng = np.random.default_rng(seed)
            *_, (x0, y0, x1, y1) = plant_name(
                phantom.pixels, WHOLE, "malignant", "PORTABLE", phantom.overlay_boxes, rng
            )
            *_, free = plant_name(phantom.pixels, WHOLE, "malignant", "PORTABLE", (), np.random.default_rng(seed))
            moved += (x0, y0, x1, y1) != free
            for a0, b0, a1, b1 in phantom.overlay_boxes:
                assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0
    assert moved


def test_the_same_image_is_attacked_alike_and_a_full_one_too() -> None:
    pixels = np.zeros((128, 128, 3), np.uint8)
    everywhere = [WHOLE]
    one, two = (plant_name(pixels, WHOLE, "benign", "SERIES", everywhere, generator()) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    assert one[2] == plant_name(pixels, WHOLE, "benign", "SERIES", (), generator())[2]


def test_the_neutral_word_is_about_as_long_and_names_no_class() -> None:
    assert (neutral_word("benign", CLASSES), neutral_word("malignant", CLASSES)) == ("SERIES", "PORTABLE")
    assert neutral_word("benign", ("benign", "series")) != "SERIES"
    assert written("no_finding  here") == "NO FINDING HERE"
    every = ("side", "image", "series", "program", "portable", "examination", "reconstruction")
    with pytest.raises(CounterstainError, match="every neutral word"):
        neutral_word("x", every)


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(CounterstainError, match="no letter"):
        plant_name(np.zeros((128, 128, 3), np.uint8), WHOLE, " ", "IMAGE", (), generator())


def test_a_name_that_is_too_long_is_pressed_together() -> None:
    name = "invasive ductal carcinoma in situ"
    pixels = np.full((128, 128, 3), 40, np.uint8)
    for seed in range(4):
        with_name, with_neutral, box = plant_name(
            pixels, WHOLE, name, "RECONSTRUCTION", (), np.random.default_rng(seed)
        )
        for image in (with_name, with_neutral):
            np.testing.assert_allclose(changed(pixels, image), box, atol=1)
        assert (box[0], box[2]) == (8, 120)
        # All of it: its last letters differ from those of a name that ends otherwise.
        other, *_ = plant_name(pixels, WHOLE, name[:-3] + "xxx", "SIDE", (), np.random.default_rng(seed))
        start = plant_name(pixels, WHOLE, "xxx" + name[3:], "SIDE", (), np.random.default_rng(seed))[0]
        assert (with_name[:, 64:] != other[:, 64:]).any()
        assert (with_name[:, :64] != start[:, :64]).any()


@dataclass(frozen=True)
class Seer:
    """Stands for an encoder whose vector is what it is shown: a square in the middle, cut at the borders."""

    cut: int
    batches: list[int]

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        side = min(image.size) - 2 * self.cut
        left, top = (image.width - side) // 2, (image.height - side) // 2
        pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def encode(self, batch: torch.Tensor) -> np.ndarray:
        self.batches.append(len(batch))
        return batch.numpy().reshape(len(batch), -1)


@pytest.mark.parametrize("size", [(96, 200), (200, 96), (128, 128)])
def test_words_stand_where_the_model_sees_them(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 40, np.uint8)
    seer: Any = Seer(8, [])
    wanted = {f"{i}.png": Wanted(f"id{i}", content_hash(pixels)) for i in range(2)}
    sources = [Source(uri, lambda: pixels) for uri in [*wanted, "other.png"]]
    classes = [f"class {letter}" for letter in "abcdefghij"]
    first, second = attack(seer, sources, wanted, classes, {}, seed=1, pictured={"id1"}, workers=1)
    for found in (first, second):
        side = min(size) - 16
        shown = [v.reshape(3, side, side)[0] for v in (found.before, *found.planted, *found.neutral)]
        for each in shown[1:]:
            rows, columns = np.nonzero(each != shown[0])
            # All letters, none of them at the border of what is seen.
            assert 0 < rows.min() <= rows.max() < side - 1
            assert 0 < columns.min() <= columns.max() < side - 1
            assert np.ptp(columns) > 0.2 * side
        # Class by class in order, beside its own neutral word.
        for code, name in enumerate(classes):
            assert all((found.planted[code] != other).any() for i, other in enumerate(found.planted) if i != code), name
            assert (found.planted[code] != found.neutral[code]).any()
    assert max(seer.batches) <= 16
    assert sum(seer.batches) == 2 * 21
    assert first.pictures is None
    assert second.pictures is not None
    assert list(second.pictures[1]) == classes
