"""The streaming loop: the vectors a plain loop gives, in order, in batches, within bounds."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Compose, Resize, ToTensor

from pipelines.decoding import content_hash, open_image, to_rgb
from pipelines.encode import encode
from pipelines.encoder import Encoder, LoadOptions, assemble
from pipelines.encoders import encoder_specs
from pipelines.sources import Source, UnreadableImageError
from pipelines.wanted import Wanted
from store.schema import CounterstainError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """Return an encoder that is quick: eight numbers of an image of 16 px."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )
    spec = replace(encoder_specs()["untrained_vit_b16"], dimension=8)
    return assemble(spec, tower, Compose([Resize((16, 16)), ToTensor()]), LoadOptions())


@pytest.fixture
def files(encoded: Callable[..., bytes]) -> dict[str, bytes]:
    return {f"{i}.png": encoded(i, "JPEG" if i % 2 else "PNG") for i in range(23)}


def sources_of(files: dict[str, bytes]) -> list[Source]:
    return [Source(uri, lambda content=content: content) for uri, content in files.items()]


def wanted_of(files: dict[str, bytes]) -> dict[str, Wanted]:
    return {uri: Wanted(f"id of {uri}", content_hash(content)) for uri, content in files.items()}


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 8, 23, 100])
def test_batches_are_those_of_a_plain_loop(
    encoder: Encoder, files: dict[str, bytes], batch_size: int, workers: int
) -> None:
    batches = list(encode(encoder, sources_of(files), wanted_of(files), batch_size=batch_size, workers=workers))
    assert [image_id for ids, _ in batches for image_id in ids] == [f"id of {uri}" for uri in files]
    assert [len(ids) for ids, _ in batches] == [len(vectors) for _, vectors in batches]
    assert all(len(ids) == batch_size for ids, _ in batches[:-1])
    with torch.no_grad():
        expected = torch.cat(
            [encoder.forward(encoder.preprocess(to_rgb(open_image(content)))[None]) for content in files.values()]
        )
    found = np.concatenate([vectors for _, vectors in batches])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_nothing_wanted_or_nothing_there_gives_nothing(encoder: Encoder, files: dict[str, bytes]) -> None:
    assert list(encode(encoder, sources_of(files), {})) == []
    assert list(encode(encoder, [], wanted_of(files))) == []


def test_images_that_are_not_wanted_are_not_read(encoder: Encoder, files: dict[str, bytes]) -> None:
    wanted = wanted_of({uri: content for i, (uri, content) in enumerate(files.items()) if i % 3 == 0})
    sources = [
        source if source.uri in wanted else Source(source.uri, lambda: pytest.fail("it was read"))
        for source in sources_of(files)
    ]
    ids = [image_id for ids, _ in encode(encoder, sources, wanted, batch_size=4) for image_id in ids]
    assert ids == [f"id of {uri}" for uri in wanted]


def _unreadable() -> bytes:
    raise UnreadableImageError("cannot be opened: No such file or directory")


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (lambda: b"another content", "its content is another"),
        (_unreadable, "No such file"),
    ],
)
def test_a_changed_image_is_named(encoder: Encoder, files: dict[str, bytes], load: Any, reason: str) -> None:
    sources = sources_of(files)
    sources[13] = replace(sources[13], load=load)
    loop = encode(encoder, sources, wanted_of(files), batch_size=4)
    # What came before is given out first, so that it can be kept.
    assert len([next(loop) for _ in range(3)]) == 3
    with pytest.raises(CounterstainError, match=rf"image '13\.png' has changed.*{reason}.*Materialize `images` again"):
        next(loop)


def test_an_error_stops_the_loop_and_its_threads(encoder: Encoder, files: dict[str, bytes]) -> None:
    def broken() -> Iterator[Source]:
        yield from sources_of(files)[:10]
        raise CounterstainError("the table is damaged")

    threads = torch.get_num_threads()
    with pytest.raises(CounterstainError, match="the table is damaged"):
        list(encode(encoder, broken(), wanted_of(files), batch_size=4))
    sources = sources_of(files)
    sources[5] = replace(sources[5], load=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(encode(encoder, sources, wanted_of(files), batch_size=4))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("counterstain")]
    assert torch.get_num_threads() == threads


def test_leaving_early_restores_torchs_threads(encoder: Encoder, files: dict[str, bytes]) -> None:
    threads = torch.get_num_threads()
    loop = encode(encoder, sources_of(files), wanted_of(files), batch_size=2, workers=2 * threads)
    next(loop)
    assert torch.get_num_threads() == 1
    loop.close()
    assert torch.get_num_threads() == threads


def test_no_more_than_two_batches_for_each_thread_are_read_ahead(encoder: Encoder, encoded: Any) -> None:
    content = encoded()
    read = 0
    lock = threading.Lock()

    def load() -> bytes:
        nonlocal read
        with lock:
            read += 1
        return content

    names = [f"{i}.png" for i in range(200)]
    wanted = {name: Wanted(name, content_hash(content)) for name in names}
    loop = encode(encoder, (Source(name, load) for name in names), wanted, batch_size=5, workers=2)
    for done, _ in enumerate(loop, start=1):
        if done in (1, 10):
            time.sleep(0.2)
        assert read <= 5 * (done + 2 * 2)
    assert read == 200


def test_pixels_from_an_array_are_encoded_as_their_file_is(encoder: Encoder, encoded: Any, pixels: Any) -> None:
    array = pixels(4)
    payloads = {"array": array, "file": encoded(Image.fromarray(array))}
    sources = [Source(uri, lambda payload=payload: payload) for uri, payload in payloads.items()]
    wanted = {uri: Wanted(uri, content_hash(payload)) for uri, payload in payloads.items()}
    ((_, vectors),) = encode(encoder, sources, wanted)
    np.testing.assert_array_equal(vectors[0], vectors[1])
