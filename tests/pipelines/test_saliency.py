"""Saliency maps: read from the right layer, as pytorch-grad-cam makes them, laid over the image where they belong."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torchvision
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from pipelines.encoder import Encoder, LoadOptions
from pipelines.encoders import encoder_specs
from pipelines.families.flair import Canvas
from pipelines.families.llava_family import Fitted
from pipelines.saliency.grad_cam import Target, grad_cam
from pipelines.saliency.layers import SalientLayer, find_layer
from pipelines.saliency.maps import GRAD_CAM, ROLLOUT, Asked, mapper
from pipelines.saliency.randomised import randomised
from pipelines.saliency.rollout import attention_rollout
from pipelines.saliency.view import measure_view
from pipelines.sources import Source
from pipelines.wanted import Wanted
from store.schema import CounterstainError
from tests.pipelines.tiny_checkpoints import tiny_checkpoint

CLIP = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}
LLAVA = {"image_mean": CLIP["mean"], "image_std": CLIP["std"], "size": 336, "crop_size": 336}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Encoder]:
    """Load an encoder of the registry out of a tiny checkpoint."""

    def load(name: str) -> Encoder:
        spec = encoder_specs()[name]
        tiny = tiny_checkpoint(encoder_specs()[spec.variant_of or name], tmp_path, monkeypatch)
        (variant,) = (each for each in tiny.spec.variants() if each.name == name)
        return variant.load(variant, LoadOptions(tmp_path))

    return load


def shown(encoder: Encoder, n: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (80, 60, 3), dtype=np.uint8)) for _ in range(n)]
    return torch.stack([encoder.preprocess(image) for image in images])


def layer_of(encoder: Encoder) -> SalientLayer:
    height, width = shown(encoder, 1).shape[-2:]
    return find_layer(encoder.forward, (height, width))


def head(encoder: Encoder, classes: int = 4) -> torch.nn.Linear:
    linear = torch.nn.Linear(encoder.spec.dimension, classes)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(3)))
    return linear


# --- the layer


@pytest.mark.parametrize(
    ("name", "expected", "prefix", "read"),
    [
        ("clip_vit_b16", "transformer.resblocks.0.ln_1", 1, "class"),
        ("clip_vit_b16_pooled", "transformer.resblocks.0.ln_1", 1, "class"),
        ("pubmedclip", "model.vision_model.encoder.layers.2.layer_norm1", 1, "class"),
        ("siglip2_so400m_384", "model.encoder.layers.2.layer_norm1", 0, "patches"),
        ("dinov3_l16", "model.model.layer.1.norm1", 5, "class"),
        ("virchow2", "trunk.blocks.0.norm1", 5, "both"),
        ("uni2_h", "blocks.0.norm1", 9, "class"),
        ("vit_l16", "encoder.layers.encoder_layer_0.ln_1", 1, "class"),
        ("conch", "trunk.blocks.0.norm1", 1, "both"),
        # Its vector is the mean patch of the layer before the last.
        ("llava_mistral", "model.encoder.layers.1.layer_norm1", 1, "patches"),
        ("cxr_clip", "trunk.model.encoder.layers.1.blocks.0.layernorm_before", 0, "class"),
        ("flair", "trunk.layer4", None, None),
        ("resnet50", "layer4", None, None),
        ("vgg16", "features", None, None),
    ],
)
def test_the_layer_is_the_last_one_with_places_that_the_vector_depends_on(
    tiny: Callable[[str], Encoder], name: str, expected: str, prefix: int | None, read: str | None
) -> None:
    layer = layer_of(tiny(name))
    assert (layer.name, layer.prefix) == (expected, prefix)
    if read is None:
        assert layer.read is None
        return
    assert layer.read is not None
    assert prefix is not None
    tokens = np.arange(len(layer.read))
    patches = tokens >= prefix
    # Register tokens, between the two, are not read.
    expected_tokens = {"class": tokens == 0, "patches": patches, "both": (tokens == 0) | patches}
    np.testing.assert_array_equal(layer.read, expected_tokens[read])
    assert len(tokens) == prefix + layer.grid[0] * layer.grid[1]


def test_a_model_without_places_says_so() -> None:
    tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5))
    with pytest.raises(CounterstainError, match="no saliency maps"):
        find_layer(tower, (4, 4))


# --- agreement with the library as its documentation uses it


def vit_reshape(side: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The library's own, for a class token before a square of patches."""

    def reshape(tensor: torch.Tensor) -> torch.Tensor:
        result = tensor[:, 1:, :].reshape(tensor.size(0), side, side, tensor.size(2))
        return result.transpose(2, 3).transpose(1, 2)

    return reshape


@pytest.mark.parametrize("name", ["clip_vit_b16", "vit_l16", "resnet50"])
def test_maps_of_class_logits_are_those_of_the_library_called_directly(
    tiny: Callable[[str], Encoder], name: str
) -> None:
    encoder = tiny(name)
    linear, batch = head(encoder), shown(encoder)
    classes = [2, 0, 3]
    weights = linear.weight.detach().numpy()
    ours = grad_cam(encoder, layer_of(encoder), batch, [Target(weights[c]) for c in classes])

    tower: Any = encoder.forward
    whole = torch.nn.Sequential(tower, linear).requires_grad_(True)
    if name == "clip_vit_b16":
        layer, reshape = tower.transformer.resblocks[-1].ln_1, vit_reshape(2)
    elif name == "vit_l16":
        layer, reshape = tower.encoder.layers[-1].ln_1, vit_reshape(4)
    else:
        layer, reshape = tower.layer4[-1], None
    with GradCAM(whole, [layer], reshape) as cam:
        theirs = cam(batch, [ClassifierOutputTarget(c) for c in classes])
    assert theirs.max() > 0.9
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    # Another class, another map.
    other = grad_cam(encoder, layer_of(encoder), batch, [Target(weights[1])] * 3)
    assert np.abs(ours - other).max() > 0.1


def test_maps_of_a_text_are_those_of_the_cosine(tiny: Callable[[str], Encoder]) -> None:
    encoder = tiny("clip_vit_b16")
    batch = shown(encoder)
    text = torch.randn(encoder.spec.dimension, generator=torch.Generator().manual_seed(5))
    ours = grad_cam(encoder, layer_of(encoder), batch, [Target(text.numpy(), cosine=True)] * 3)

    def similarity(vector: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cosine_similarity(vector, text, dim=0)

    tower: Any = encoder.forward
    tower.requires_grad_(True)
    with GradCAM(tower, [tower.transformer.resblocks[-1].ln_1], vit_reshape(2)) as cam:
        theirs = cam(batch, [similarity] * 3)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours - grad_cam(encoder, layer_of(encoder), batch, [Target(text.numpy())] * 3)).max() > 1e-3


def test_maps_are_the_same_again_and_leave_no_trace(tiny: Callable[[str], Encoder]) -> None:
    encoder = tiny("resnet50")
    batch, layer = shown(encoder), layer_of(encoder)
    before = encoder.encode(batch)
    target = Target(head(encoder).weight.detach().numpy()[0])
    first = grad_cam(encoder, layer, batch, [target] * 3)
    np.testing.assert_array_equal(first, grad_cam(encoder, layer, batch, [target] * 3))
    np.testing.assert_allclose(first[1:2], grad_cam(encoder, layer, batch[1:2], [target]), atol=1e-3)
    np.testing.assert_array_equal(before, encoder.encode(batch))
    assert not any(module._forward_hooks for module in encoder.forward.modules())


# --- attention rollout


def rolled_out(attentions: list[torch.Tensor]) -> torch.Tensor:
    """Abnar & Zuidema's recursion, as written in their paper."""
    rolled = torch.eye(attentions[0].shape[-1])
    for attention in attentions:
        layer = 0.5 * attention.mean(dim=1) + 0.5 * torch.eye(attention.shape[-1])
        rolled = torch.matmul(layer, rolled)
    return rolled


def scaled(patches: torch.Tensor, side: int, size: int) -> np.ndarray:
    maps = torch.nn.functional.interpolate(patches.reshape(-1, 1, side, side), size=size, mode="bilinear")[:, 0]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low)).numpy()


def test_rollout_is_made_of_the_attention_that_transformers_reports(tiny: Callable[[str], Encoder]) -> None:
    encoder = tiny("pubmedclip")
    batch, layer = shown(encoder), layer_of(encoder)
    ours = attention_rollout(encoder, layer, batch)
    model: Any = encoder.forward.model
    model.config._attn_implementation = "eager"
    model.vision_model.config._attn_implementation = "eager"
    with torch.no_grad():
        attentions = model.vision_model(batch, output_attentions=True).attentions
    assert len(attentions) == 3
    np.testing.assert_allclose(ours, scaled(rolled_out(list(attentions))[:, 0, 1:], 2, 28), atol=1e-3)


def test_rollout_is_made_of_the_attention_of_torch(tiny: Callable[[str], Encoder]) -> None:
    encoder = tiny("clip_vit_b16")
    batch, layer = shown(encoder), layer_of(encoder)
    attentions: list[torch.Tensor] = []
    tower: Any = encoder.forward
    for block in tower.transformer.resblocks:

        def attend(module: Any, arguments: Any, keywords: Any, attention: Any = block.attn) -> None:
            asked = keywords | {"need_weights": True, "average_attn_weights": False}
            attentions.append(torch.nn.MultiheadAttention.forward(attention, *arguments, **asked)[1])

        block.attn.register_forward_pre_hook(attend, with_kwargs=True)
    encoder.encode(batch)
    expected = scaled(rolled_out([a.clone() for a in attentions])[:, 0, 1:], 2, 32)
    attentions.clear()
    np.testing.assert_allclose(attention_rollout(encoder, layer, batch), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet50", "cxr_clip"])
def test_what_has_no_attention_over_the_whole_image_has_no_rollout(tiny: Callable[[str], Encoder], name: str) -> None:
    encoder = tiny(name)
    with pytest.raises(CounterstainError, match=r"no attention to roll out|has no rollout"):
        attention_rollout(encoder, layer_of(encoder), shown(encoder))


# --- the view


PREPROCESSINGS: dict[str, Callable[[Image.Image], torch.Tensor]] = {
    "open_clip, cropped": open_clip.image_transform(224, is_train=False, **CLIP),
    "open_clip, squashed": open_clip.image_transform(224, is_train=False, resize_mode="squash", **CLIP),
    "open_clip, padded": open_clip.image_transform(224, is_train=False, resize_mode="longest", **CLIP),
    "torchvision": torchvision.models.ResNet50_Weights.DEFAULT.transforms(),
    "flair": Canvas(512),
    "llava": Fitted(LLAVA, "pad", 336),
}


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (1000, 750)])
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_box_comes_to_lie_where_the_preprocessing_puts_what_is_in_it(name: str, size: tuple[int, int]) -> None:
    preprocess = PREPROCESSINGS[name]
    view = measure_view(preprocess, size)
    width, height = size
    x0, y0, x1, y1 = width // 2 - 40, height // 2 - 30, width // 2 + 30, height // 2 + 50
    pixels = np.full((height, width, 3), 100, np.uint8)
    plain = preprocess(Image.fromarray(pixels))
    pixels[y0:y1, x0:x1] = 200
    change = (preprocess(Image.fromarray(pixels)) - plain).abs().mean(0).numpy()
    inside = change > change.max() / 2
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    found = view.box((x0, y0, x1, y1))
    assert found is not None
    np.testing.assert_allclose(found, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), atol=1.0)
    assert view.shape == change.shape


def test_what_is_cropped_away_has_no_box_and_what_is_cut_has_a_smaller_one() -> None:
    view = measure_view(PREPROCESSINGS["open_clip, cropped"], (400, 200))
    assert view.box((0, 0, 90, 200)) is None
    cut = view.box((50, 0, 200, 200))
    assert cut is not None
    np.testing.assert_allclose(cut, (0, 0, 112, 224), atol=0.6)
    assert view.seen((400, 200)) == (100, 0, 300, 200)
    assert measure_view(PREPROCESSINGS["flair"], (400, 200)).seen((400, 200)) == (0, 0, 400, 200)


def test_padding_is_known_and_the_picture_is_what_the_model_is_shown() -> None:
    preprocess = PREPROCESSINGS["open_clip, padded"]
    view = measure_view(preprocess, (300, 200))
    assert view.shown == (0, 37, 224, 186)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    picture = np.asarray(view.picture(preprocess(image)))
    resized = np.asarray(image.resize((224, 149), Image.Resampling.BICUBIC), np.int64)
    assert not picture[:37].any()
    assert np.abs(picture[37:186] - resized).max() <= 1


def test_an_input_that_does_not_depend_on_the_image_is_refused() -> None:
    with pytest.raises(CounterstainError, match="same input"):
        measure_view(lambda image: torch.zeros(3, 8, 8), (20, 20))


# --- random weights


def test_random_weights_are_others_at_the_same_scale_and_the_model_stays(tiny: Callable[[str], Encoder]) -> None:
    encoder = tiny("resnet50")
    batch = shown(encoder)
    before = encoder.encode(batch)
    control, same, other = (randomised(encoder, batch, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(encoder.encode(batch), before)
    np.testing.assert_array_equal(control.encode(batch), same.encode(batch))
    assert np.abs(control.encode(batch) - other.encode(batch)).max() > 1e-3
    vectors = control.encode(batch)
    assert np.isfinite(vectors).all()
    assert vectors.std(axis=0).max() > 0
    for trained, random in zip(encoder.forward.parameters(), control.forward.parameters(), strict=True):
        if trained.numel() > 500:
            assert random.std().item() == pytest.approx(trained.std().item(), rel=0.2)
            assert abs(float(np.corrcoef(trained.flatten(), random.flatten())[0, 1])) < 0.2


# --- many images


def test_maps_of_many_images_are_those_of_single_ones(tiny: Callable[[str], Encoder]) -> None:
    encoder = tiny("clip_vit_b16")
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (50, 40, 3), dtype=np.uint8) for _ in range(5)]
    from pipelines.decoding import content_hash

    sources = [Source(f"{i}.png", lambda i=i: images[i]) for i in range(5)]  # type: ignore[misc]
    one, two = Target(rng.normal(size=16)), Target(rng.normal(size=16), cosine=True)
    asked = {
        f"{i}.png": Asked(Wanted(f"id{i}", content_hash(images[i])), {"a": one} if i % 2 else {"a": one, "b": two})
        for i in range(4)
    }
    looking = mapper(encoder, [Image.fromarray(image) for image in images[:2]], seed=0)
    seen = list(looking.maps(sources, asked, batch_size=3, workers=2))
    assert [each.image_id for each in seen] == ["id0", "id1", "id2", "id3"]
    for i, each in enumerate(seen):
        batch = encoder.preprocess(Image.fromarray(images[i]))[None]
        names = {(GRAD_CAM, "a"), (ROLLOUT, "")} | (set() if i % 2 else {(GRAD_CAM, "b")})
        assert set(each.maps) == names
        np.testing.assert_allclose(
            each.maps[GRAD_CAM, "a"], grad_cam(encoder, looking.layer, batch, [one])[0], atol=1e-3
        )
        np.testing.assert_allclose(
            each.maps[ROLLOUT, ""], attention_rollout(encoder, looking.layer, batch)[0], atol=1e-3
        )
        assert set(each.control) == {name for method, name in names if method == GRAD_CAM}
    assert np.abs(seen[0].maps[GRAD_CAM, "a"] - seen[0].maps[GRAD_CAM, "b"]).max() > 0.01
    changed = {"0.png": replace(asked["0.png"], wanted=Wanted("id0", "other"))}
    with pytest.raises(CounterstainError, match=r"'0.png' has changed"):
        list(looking.maps(sources, changed))
