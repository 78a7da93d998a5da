"""Reduced precision is measured before it is used; the batch size is found by trying."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import Compose, Resize, ToTensor

from pipelines import batch_size, precision
from pipelines.batch_size import find_batch_size
from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.encoders import encoder_specs
from store.schema import CounterstainError

SPEC = replace(encoder_specs()["untrained_vit_b16"], name="mine", dimension=8)
PREPROCESS = Compose([Resize((8, 8)), ToTensor()])
BF16 = LoadOptions(precision="bfloat16")


def linear() -> torch.nn.Module:
    tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(tower[1].weight)
        torch.nn.init.zeros_(tower[1].bias)
    return tower


class Cancelling(torch.nn.Module):
    """What is left of large numbers that nearly cancel, which bfloat16 cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = self.inner(x) * 1e-3 + 1000
        return large.to(torch.float32) - 1000


# --- precision


def test_bfloat16_is_near_float32_and_says_how_near() -> None:
    exact, reduced = assemble(SPEC, linear(), PREPROCESS, LoadOptions()), assemble(SPEC, linear(), PREPROCESS, BF16)
    images = torch.stack([PREPROCESS(image) for image in precision._test_images()])
    a, b = exact.encode(images).astype(float), reduced.encode(images).astype(float)
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert reduced.fidelity == pytest.approx(cosines.min(), abs=1e-9)
    assert 0.999 < reduced.fidelity < 1
    assert not np.array_equal(a, b)
    assert reduced.encode(images).dtype == np.float32
    assert (exact.precision, exact.fidelity, reduced.precision) == ("float32", 1.0, "bfloat16")


def test_vectors_of_two_precisions_are_never_taken_for_each_others() -> None:
    exact, reduced = assemble(SPEC, linear(), PREPROCESS, LoadOptions()), assemble(SPEC, linear(), PREPROCESS, BF16)
    assert exact.fingerprint != reduced.fingerprint


def test_a_model_that_bfloat16_would_move_is_not_run_in_it() -> None:
    assemble(SPEC, Cancelling(), PREPROCESS, LoadOptions())
    with pytest.raises(
        CounterstainError, match=r"^mine: in bfloat16 .* of only 0\.\d+ .*COUNTERSTAIN_PRECISION=float32"
    ):
        assemble(SPEC, Cancelling(), PREPROCESS, BF16)


def test_vectors_that_bfloat16_makes_useless_are_refused_too() -> None:
    class Overflowing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            reduced = torch.is_autocast_enabled("cpu")
            return torch.full((len(x), 8), float("nan") if reduced else 1.0)

    with pytest.raises(CounterstainError, match="cosine of only nan"):
        assemble(SPEC, Overflowing(), PREPROCESS, BF16)


def test_the_images_it_is_measured_on_are_the_same_each_time_and_differ() -> None:
    first, again = (np.stack([np.asarray(image) for image in precision._test_images()]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in first}) == 12


# --- batch size


class Room(torch.nn.Module):
    """A tower with room for so many images at once, whose time for each is as told."""

    def __init__(self, room: int = 10_000) -> None:
        super().__init__()
        self.room = room
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("no room")
        return x.flatten(1)[:, :8]


@pytest.fixture
def encoder_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Encoder]:
    """Make an encoder whose batches take `seconds_for_each` of their size times that size, on a clock of their own."""

    def make(room: Room, seconds_for_each: Callable[[int], float]) -> Encoder:
        encoder = assemble(SPEC, room, PREPROCESS, LoadOptions())
        room.sizes.clear()
        clock = [0.0]

        def encode(self: Encoder, batch: torch.Tensor) -> Any:
            clock[0] += seconds_for_each(len(batch)) * len(batch)
            return self.forward(batch)

        monkeypatch.setattr(Encoder, "encode", encode)
        for name in ("perf_counter", "process_time"):
            monkeypatch.setattr(batch_size.time, name, lambda: clock[0])
        return encoder

    return make


@pytest.mark.parametrize(
    ("seconds_for_each", "best"),
    [
        (lambda size: 1e-3 / size, 32),  # the larger the better, up to what is tried on a CPU
        (lambda size: 1e-3 * (abs(size - 4) + 1), 4),
        (lambda size: 1e-3 * size, 1),
        (lambda size: 1e-3, 1),  # no gain: the smallest
        (lambda size: 3.0 / size**0.5, 4),  # seconds for one size run out
    ],
)
def test_the_size_with_the_least_time_for_an_image_is_found(
    encoder_with: Callable[..., Encoder], seconds_for_each: Callable[[int], float], best: int
) -> None:
    threads = torch.get_num_threads()
    assert find_batch_size(encoder_with(Room(), seconds_for_each), workers=2) == best
    assert torch.get_num_threads() == threads


def test_larger_batches_are_tried_on_an_accelerator(encoder_with: Callable[..., Encoder]) -> None:
    room = Room()
    encoder = replace(encoder_with(room, lambda size: 1e-6 / size), device="cuda")
    assert find_batch_size(encoder) == batch_size.LARGEST == max(room.sizes)


@pytest.mark.parametrize(("room", "best"), [(1, 1), (5, 4), (8, 8)])
def test_what_does_not_fit_into_memory_is_not_chosen(
    encoder_with: Callable[..., Encoder], room: int, best: int
) -> None:
    assert find_batch_size(encoder_with(Room(room), lambda size: 1e-3 / size)) == best


def test_no_room_for_a_single_image_is_said(encoder_with: Callable[..., Encoder]) -> None:
    tower = Room()
    encoder = encoder_with(tower, lambda size: 1e-3)
    tower.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        find_batch_size(encoder)


def test_a_size_is_found_for_a_real_encoder() -> None:
    spec: EncoderSpec = replace(SPEC, dimension=8)
    found = find_batch_size(assemble(spec, linear(), PREPROCESS, LoadOptions()), workers=2)
    assert found in (1, 2, 4, 8, 16, 32)
