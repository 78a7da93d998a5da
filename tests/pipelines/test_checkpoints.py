"""Every encoder out of a tiny checkpoint, through the code that loads the real one: its makers' own vectors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions
from pipelines.encoders import encoder_specs
from store.schema import CounterstainError
from tests.pipelines.tiny_checkpoints import BUILDERS, Tiny, tiny_checkpoint

# These need no checkpoint, and have tests of their own.
OFFLINE = {"efficientnet_lite0", "efficientnet_lite1", "untrained_vit_b16", "untrained_vit_s16"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep torch's threads from waiting for each other where other work has the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Tiny]:
    return lambda name: tiny_checkpoint(encoder_specs()[name], tmp_path / "with space", monkeypatch)


def load(spec: EncoderSpec, made: Tiny) -> Encoder:
    return spec.load(spec, LoadOptions(checkpoint_dir=made.weights.parents[1]))


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights of a file in place."""
    if path.suffix == ".safetensors":
        weights = load_file(path)
        change(weights)
        save_file(weights, path)
        return
    content: dict[str, Any] = torch.load(path, weights_only=False)
    change(content.get("model", content))
    torch.save(content, path)


def test_there_is_a_checkpoint_to_test_every_built_in_encoder_with() -> None:
    built_in = {name for name, spec in encoder_specs().items() if spec.load.__module__.startswith("pipelines.")}
    assert {name for name in built_in if encoder_specs()[name].variant_of is None} - OFFLINE == set(BUILDERS)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_an_encoder_gives_what_its_makers_code_gives(
    tiny: Callable[[str], Tiny], pixels: Callable[..., Any], name: str
) -> None:
    made = tiny(name)
    variants = made.spec.variants()
    assert {spec.name for spec in variants} == set(made.vectors)
    pictures = [Image.fromarray(pixels(i, *size)) for i, size in enumerate(((300, 260), (40, 90), (28, 28)))]
    fingerprints = set()
    for spec in variants:
        encoder = load(spec, made)
        images = torch.stack([encoder.preprocess(picture) for picture in pictures])
        assert images.dtype == torch.float32
        for picture, image in zip(pictures, images, strict=True):
            assert torch.equal(image, made.official(picture))
        vectors = encoder.encode(images)
        assert vectors.shape == (3, spec.dimension)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, encoder.encode(images))
        with torch.no_grad():
            expected = made.vectors[spec.name](images).numpy()
        np.testing.assert_allclose(vectors, expected, rtol=2e-4, atol=2e-5)
        assert np.linalg.norm(vectors[0] - vectors[1]) > 1e-3 * np.linalg.norm(vectors[0])
        alone = np.concatenate([encoder.encode(image[None]) for image in images])
        difference = np.linalg.norm(vectors - alone, axis=1) / np.linalg.norm(alone, axis=1)
        assert difference.max() < 1e-4
        assert not encoder.forward.training
        assert not any(weight.requires_grad for weight in encoder.forward.parameters())
        assert all(weight.dtype == torch.float32 for weight in encoder.forward.parameters())
        assert encoder.files
        fingerprints.add(encoder.fingerprint)
        assert load(spec, made).fingerprint == encoder.fingerprint
    assert len(fingerprints) == len(variants)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_weight_missing_unexpected_or_of_another_shape_is_refused(tiny: Callable[[str], Tiny], name: str) -> None:
    made = tiny(name)
    place = made.tower_weight
    kept: list[torch.Tensor] = []
    extra = place.rpartition(".")[0] + ".extra" if "." in place else "extra"

    def remove(weights: dict[str, torch.Tensor]) -> None:
        kept.append(weights.pop(place))

    def reshape(weights: dict[str, torch.Tensor]) -> None:
        weights[place] = torch.zeros(*kept[0].shape, 2)

    def add(weights: dict[str, torch.Tensor]) -> None:
        weights[place] = kept[0]
        weights[extra] = torch.zeros(3)

    load(made.spec, made)
    for change in (remove, reshape, add):
        rewrite(made.weights, change)
        # Torchvision's file names carry a digest, which is looked at first.
        fault = r".*\.pth is not the published file" if name == "vgg16" else "cannot load"
        with pytest.raises(CounterstainError, match=rf"^{name}: {fault}"):
            load(made.spec, made)
