"""Every encoder's checkpoint, tiny: laid out, and its weights named, as in the real repository.

Names and prefixes are those of the authors' own code and of public code that reads the real files, as each encoder's
docstring says. Where transformers has since renamed weights, they are saved here under the names of the hub's files.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import timm
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import save_file

from pipelines.encoder import EncoderSpec
from pipelines.families.llava_family import CLIP_336

Vectors = Callable[[torch.Tensor], torch.Tensor]
CLIP_TRANSFORM = torchvision.transforms.Normalize(
    (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)


@dataclass(frozen=True)
class Tiny:
    """A tiny checkpoint, and what its makers' own code gives.

    Attributes
    ----------
    spec
        The encoder's record, with the tiny model's sizes.
    weights
        The file that holds the image tower.
    tower_weight
        Name there of one of its weights.
    official
        The makers' preprocessing.
    vectors
        What their code returns, under each name the encoder is registered by.
    """

    spec: EncoderSpec
    weights: Path
    tower_weight: str
    official: Callable[[Image.Image], torch.Tensor]
    vectors: dict[str, Vectors]


def tiny_checkpoint(spec: EncoderSpec, root: Path, monkeypatch: Any) -> Tiny:
    """Write ``root/<name>/`` for an encoder that is not to be had offline."""
    folder = root / spec.name
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(map(ord, spec.name)))
        return BUILDERS[spec.name](replace(spec, sha256={}), folder, monkeypatch)


def _sized(spec: EncoderSpec, dimension: int, pooled: int | None = None, **arguments: Any) -> EncoderSpec:
    return replace(spec, dimension=dimension, pooled_dimension=pooled, arguments={**spec.arguments, **arguments})


def _randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Move every weight away from zero and one, which would hide that it is not used."""
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and "running_var" not in name and "logit" not in name:
            weight.add_(0.02 * torch.randn(weight.shape))
    return model.eval()


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    content = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    torch.save(content, path) if path.suffix == ".bin" else save_file(content, path)


# --- open_clip


def _open_clip(spec: EncoderSpec, folder: Path, _: Any, vision: dict[str, Any], text: dict[str, Any]) -> Tiny:
    offline_text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text or offline_text}
    custom = bool(vision.get("timm_model_name"))
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    quick = spec.architecture.endswith("quickgelu")
    model = _randomised(kind(**config | {"text_cfg": offline_text, "quick_gelu": quick}))
    tensors = dict(model.state_dict())
    if text:  # a text tower of another hub repository, which nobody may ask for
        tensors = {name: t for name, t in tensors.items() if not name.startswith("text.")}
        tensors["text.transformer.embeddings.word_embeddings.weight"] = torch.zeros(3, 4)
        tensors["text.transformer.embeddings.position_ids"] = torch.arange(5)[None]
        tensors["text.proj.0.weight"] = torch.zeros(4, 4)
    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    written = config | ({"custom_text": True} if custom else {}) | ({"quick_gelu": True} if quick else {})
    _write_json(folder / "open_clip_config.json", {"model_cfg": written, "preprocess_cfg": preprocess})
    weights = folder / ("open_clip_pytorch_model.bin" if text else "open_clip_model.safetensors")
    _save(tensors, weights)
    visual = model.visual
    if not custom:
        pooled = [lambda x: _before(visual, "proj", None, x), 32]
        one = "visual.conv1.weight"
    elif len(visual.head):
        pooled = [visual.trunk, visual.trunk.num_features]
        one = "visual.head.proj.weight"
    else:
        pooled = [lambda x: visual.trunk.forward_head(visual.trunk.forward_features(x), pre_logits=True), 192]
        one = "visual.trunk.head.weight"
    official = open_clip.image_transform(visual.image_size, is_train=False, mean=(0.48145466, 0.4578275, 0.40821073),
                                         std=(0.26862954, 0.26130258, 0.27577711))  # fmt: skip
    return Tiny(
        _sized(spec, 16, pooled[1]), weights, one, official,
        {spec.name: model.encode_image, f"{spec.name}_pooled": pooled[0]},
    )  # fmt: skip


def _before(module: Any, attribute: str, value: Any, images: torch.Tensor) -> torch.Tensor:
    """Return what a module gives with one attribute set to another value for the moment."""
    kept = getattr(module, attribute)
    setattr(module, attribute, value)
    try:
        return module(images)
    finally:
        setattr(module, attribute, kept)


def _clip(spec: EncoderSpec, folder: Path, monkeypatch: Any) -> Tiny:
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
    return _open_clip(spec, folder, monkeypatch, vision, {})


def _biomedclip(spec: EncoderSpec, folder: Path, monkeypatch: Any) -> Tiny:
    vision = {
        "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
        "image_size": 160,
    }  # fmt: skip
    name = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    text = {
        "hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256,
    }  # fmt: skip
    return _open_clip(spec, folder, monkeypatch, vision, text)


def _eva(spec: EncoderSpec, folder: Path, monkeypatch: Any) -> Tiny:
    vision = {
        "timm_model_name": "eva02_tiny_patch14_224", "timm_model_pretrained": False, "timm_pool": "token",
        "timm_proj": None, "image_size": 224,
    }  # fmt: skip
    return _open_clip(spec, folder, monkeypatch, vision, {})


# --- transformers


CLIP_VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14, "projection_dim": 8,
}  # fmt: skip
CLIP_TEXT = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64,
    "max_position_embeddings": 8, "projection_dim": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


def _first_28(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}


def _of(processor: Any) -> Callable[[Image.Image], torch.Tensor]:
    return lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0]


def _clip_of_transformers(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    config = transformers.CLIPConfig(vision_config=CLIP_VISION, text_config=CLIP_TEXT, projection_dim=8)
    model = _randomised(transformers.CLIPModel(config))
    tensors = dict(model.state_dict()) | {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    has_processor = "processor" not in spec.arguments
    if not has_processor:  # LLM2CLIP's text side is its own
        tensors = {n: t for n, t in tensors.items() if not n.startswith("text_")}
        tensors["text_adapter.0.weight"] = torch.zeros(2, 2)
    # As in the hub's files, the tower's own record of the projection is CLIP's default.
    written = config.to_dict() | {"vision_config": {**CLIP_VISION, "projection_dim": 512}}
    _write_json(folder / "config.json", written)
    weights = folder / ("pytorch_model.bin" if has_processor else "model.safetensors")
    _save(tensors, weights)
    settings = _first_28({})
    if has_processor:
        legacy = {
            "crop_size": 28, "do_center_crop": True, "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": list(CLIP_TRANSFORM.mean),
            "image_std": list(CLIP_TRANSFORM.std), "resample": 3, "size": 28,
        }  # fmt: skip
        _write_json(folder / "preprocessor_config.json", legacy)
        spec = _sized(spec, 8, 32, config={"projection_dim": 8})
    else:
        spec = _sized(spec, 8, 32, config={"projection_dim": 8}, processor=settings)
    return Tiny(
        spec, weights, "visual_projection.weight", _of(transformers.CLIPImageProcessorPil(**settings)),
        {
            spec.name: lambda x: model.get_image_features(pixel_values=x).pooler_output,
            f"{spec.name}_pooled": lambda x: model.vision_model(pixel_values=x).pooler_output,
        },
    )  # fmt: skip


def _siglip(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    vision = {k: v for k, v in CLIP_VISION.items() if k != "projection_dim"}
    text = {k: v for k, v in CLIP_TEXT.items() if k != "projection_dim"}
    config = transformers.SiglipConfig(vision_config=vision, text_config=text)
    model = _randomised(transformers.SiglipModel(config))
    _write_json(folder / "config.json", config.to_dict())
    settings = {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "image_processor_type": "SiglipImageProcessor", "resample": 2, "rescale_factor": 1 / 255,
        "size": {"height": 28, "width": 28},
    }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", settings)
    weights = folder / "model.safetensors"
    _save(dict(model.state_dict()), weights)
    size = {"size": {"height": 28, "width": 28}, "resample": 2}
    return Tiny(
        _sized(spec, 32), weights, "vision_model.head.probe", _of(transformers.SiglipImageProcessorPil(**size)),
        {spec.name: lambda x: model.get_image_features(pixel_values=x).pooler_output},
    )  # fmt: skip


def _dinov2(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    model = _randomised(transformers.Dinov2Model(config))
    _write_json(folder / "config.json", config.to_dict())
    settings = {
        "crop_size": {"height": 28, "width": 28}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "image_processor_type": "BitImageProcessor", "resample": 3, "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 32},
    }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", settings)
    weights = folder / "model.safetensors"
    _save({_as_of_dinov2(name): t for name, t in model.state_dict().items()}, weights)
    processor = transformers.BitImageProcessorPil(
        **{key: settings[key] for key in ("crop_size", "size", "resample", "image_mean", "image_std")}
    )
    return Tiny(
        _sized(spec, 32), weights, "encoder.layer.1.attention.attention.query.weight", _of(processor),
        {spec.name: lambda x: model(pixel_values=x).last_hidden_state[:, 0]},
    )  # fmt: skip


def _as_of_dinov2(name: str) -> str:
    """Return the name of a weight as DINOv2's files on the hub have it."""
    name = re.sub(r"attention\.([qkv])_proj", lambda m: f"attention.attention.{_WORDS[m[1]]}", name)
    return name.replace("attention.o_proj", "attention.output.dense")


_WORDS = {"q": "query", "k": "key", "v": "value"}


def _dinov3(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16,
        num_register_tokens=4,
    )  # fmt: skip
    model = _randomised(transformers.DINOv3ViTModel(config))
    _write_json(folder / "config.json", config.to_dict())
    settings = {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "image_processor_type": "DINOv3ViTImageProcessorFast", "resample": 2,
        "size": {"height": 32, "width": 32},
    }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", settings)
    weights = folder / "model.safetensors"
    _save({name.removeprefix("model."): t for name, t in model.state_dict().items()}, weights)
    processor = transformers.DINOv3ViTImageProcessor(size=settings["size"], resample=2)
    return Tiny(
        _sized(spec, 32), weights, "layer.1.attention.q_proj.weight", _of(processor),
        {spec.name: lambda x: model(pixel_values=x).last_hidden_state[:, 0]},
    )  # fmt: skip


# --- timm


def _pathology(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    patch = spec.arguments.get("patch_size", 14)
    size = {"img_size": 2 * patch, "embed_dim": 48, "depth": 1, "num_heads": 2}
    arguments = {k: v for k, v in (spec.arguments | size).items() if k != "pooling"}
    if "mlp_layer" in arguments:
        arguments |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    model = _randomised(timm.create_model(spec.architecture, pretrained=False, num_classes=0, **arguments))
    settings = {
        "input_size": [3, 2 * patch, 2 * patch], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": 0,
    }  # fmt: skip
    _write_json(
        folder / "config.json", {"architecture": spec.architecture, "num_classes": 0, "pretrained_cfg": settings}
    )
    weights = folder / ("model.safetensors" if spec.name == "virchow2" else "pytorch_model.bin")
    _save(dict(model.state_dict()), weights)
    official = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(2 * patch, torchvision.transforms.InterpolationMode.BICUBIC),
            torchvision.transforms.CenterCrop(2 * patch),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(settings["mean"], settings["std"]),
        ]
    )
    if spec.name == "virchow2":

        def vectors(images: torch.Tensor) -> torch.Tensor:  # the model card's lines
            output = model(images)
            return torch.cat([output[:, 0], output[:, 5:].mean(1)], dim=-1)

        return Tiny(_sized(spec, 96, **size), weights, "blocks.0.mlp.fc1.weight", official, {spec.name: vectors})
    return Tiny(_sized(spec, 48, **size), weights, "blocks.0.mlp.fc1.weight", official, {spec.name: model})


# --- torchvision


def _torchvision(spec: EncoderSpec, folder: Path, monkeypatch: Any) -> Tiny:
    def small() -> Any:
        if spec.name == "resnet50":
            return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)
        if spec.name == "vit_l16":
            return torchvision.models.VisionTransformer(224, 56, 1, 2, 16, 32, num_classes=5)
        model = torchvision.models.squeezenet1_0()
        model.features, model.classifier = torch.nn.Sequential(), torch.nn.Sequential()
        model.features.append(torch.nn.Conv2d(3, 4, 8, 8))
        for layer in (torch.nn.Linear(4 * 28 * 28, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5)):
            model.classifier.append(layer)
        model.forward = lambda x: model.classifier(torch.flatten(model.features(x), 1))
        return model

    model = _randomised(small())
    buffer = folder / "saved"
    torch.save(model.state_dict(), buffer)
    # The file's name ends in the beginning of its digest; an empty one lets a test change the other files' weights.
    digest = hashlib.sha256(buffer.read_bytes()).hexdigest()[:8] if spec.name == "vgg16" else ""
    weights = buffer.rename(folder / f"small-{digest}.pth")
    published = torchvision.models.get_weight(spec.checkpoint)
    declared = SimpleNamespace(url=f"https://there/{weights.name}", transforms=published.transforms)
    monkeypatch.setattr(torchvision.models, "get_weight", {spec.checkpoint: declared}.__getitem__)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: small())
    heads = {"resnet50": "fc", "vgg16": "classifier", "vit_l16": "heads"}
    dimension = {"resnet50": 512, "vgg16": 16, "vit_l16": 16}[spec.name]

    def vectors(images: torch.Tensor) -> torch.Tensor:
        """Catch what enters the last linear layer."""
        head = getattr(model, heads[spec.name])
        last = [layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)][-1]
        seen: list[torch.Tensor] = []
        hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model(images)
        hook.remove()
        return seen[0]

    one = {"resnet50": "conv1.weight", "vgg16": "classifier.0.weight", "vit_l16": "conv_proj.weight"}[spec.name]
    return Tiny(_sized(spec, dimension), weights, one, published.transforms(), {spec.name: vectors})


# --- LLaVA


def _llava(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    converted = spec.name == "llava_mistral"
    several = spec.name == "llava_med_pp"
    model = _randomised(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CLIP_VISION)))
    prefix = "vision_tower.vision_model." if converted else "model.vision_tower.vision_tower.vision_model."
    tower = {prefix + name.removeprefix("vision_model."): t.to(torch.float16) for name, t in model.state_dict().items()}
    model.load_state_dict({n: tower[prefix + n.removeprefix("vision_model.")].float() for n in model.state_dict()})
    tower[prefix + "embeddings.position_ids"] = torch.arange(5)[None]
    # The tower is spread over the last two shards; the first, of the language model, is not there at all.
    names = sorted(tower)
    shards = {"model-00002-of-00003.safetensors": names[:9], "model-00003-of-00003.safetensors": names[9:]}
    for shard, held in shards.items():
        other = {"lm_head.weight": torch.zeros(2)} if shard.startswith("model-00003") else {}
        _save({name: tower[name] for name in held} | other, folder / shard)
    places = {name: shard for shard, held in shards.items() for name in held}
    places |= {"model.layers.0.mlp.weight": "model-00001-of-00003.safetensors", "lm_head.weight": sorted(shards)[-1]}
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    fitting = {"llava_med": "pad"}.get(spec.name, "anyres")
    if converted:
        grid = [[28, 56], [56, 28], [56, 56]]
        _write_json(folder / "config.json", {"vision_config": CLIP_VISION, "vision_feature_layer": -2})
        settings = {
            "aspect_ratio_setting": "anyres", "crop_size": {"height": 28, "width": 28}, "do_center_crop": True,
            "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
            "image_grid_pinpoints": grid, "image_mean": list(CLIP_TRANSFORM.mean),
            "image_processor_type": "LlavaNextImageProcessor", "image_std": list(CLIP_TRANSFORM.std), "resample": 3,
            "rescale_factor": 1 / 255, "size": {"shortest_edge": 28},
        }  # fmt: skip
        _write_json(folder / "preprocessor_config.json", settings)
        sized = _sized(spec, 32)
        whole = transformers.LlavaNextImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grid
        )
        official = lambda image: whole(images=image, return_tensors="pt")["pixel_values"][0, 0]  # noqa: E731
    else:
        scales = {"s2": True, "s2_scales": "28,56,84"} if several else {}
        described = {"mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "image_aspect_ratio": fitting}
        _write_json(folder / "config.json", described | scales)
        sized = _sized(spec, 96 if several else 32, tower=CLIP_VISION, processor=_first_28(dict(CLIP_336)))
        side = 84 if several else 28
        official = lambda image: _process_images(image, fitting, side)  # noqa: E731

    def vectors(images: torch.Tensor) -> torch.Tensor:
        if several:
            return _s2_wrapper(lambda x: _patches(model, x), images, (28, 56, 84)).mean(1)
        return _patches(model, images).mean(1)

    weights = folder / "model-00002-of-00003.safetensors"
    return Tiny(sized, weights, prefix + "embeddings.class_embedding", official, {spec.name: vectors})


def _patches(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Return the patch tokens after the last layer but one, layer by layer."""
    tower = getattr(model, "vision_model", model)
    tokens = tower.pre_layrnorm(tower.embeddings(images))
    for layer in tower.encoder.layers[:-1]:
        tokens = layer(tokens, attention_mask=None)
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    return tokens[:, 1:]


def _process_images(image: Image.Image, fitting: str, side: int) -> torch.Tensor:
    """Do what LLaVA's ``process_images`` does, in Pillow and NumPy."""
    mean, deviation = np.array(CLIP_TRANSFORM.mean), np.array(CLIP_TRANSFORM.std)
    if fitting == "pad":
        longer = max(image.size)
        square = Image.new("RGB", (longer, longer), tuple(int(x * 255) for x in mean))
        square.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
        image = square
    resized = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float64)
    rescaled = (resized * (1 / 255)).astype(np.float32)
    normalised = (rescaled - mean.astype(np.float32)) / deviation.astype(np.float32)
    return torch.from_numpy(normalised.transpose(2, 0, 1).astype(np.float32))


def _s2_wrapper(model: Vectors, images: torch.Tensor, sides: tuple[int, ...]) -> torch.Tensor:
    """Do what ``s2wrapper.forward`` does, tile by tile: maps are put together, pooled by area, and stacked."""
    first, maps = sides[0], []
    for side in sides:
        x = torch.nn.functional.interpolate(images, size=side, mode="bicubic")
        rows = []
        for i in range(side // first):
            tiles = [x[:, :, i * first : (i + 1) * first, j * first : (j + 1) * first] for j in range(side // first)]
            tokens = [model(tile) for tile in tiles]
            across = round(tokens[0].shape[1] ** 0.5)
            rows.append(torch.cat([t.transpose(1, 2).unflatten(2, (across, across)) for t in tokens], dim=3))
        maps.append(torch.cat(rows, dim=2))
    output = maps[0].shape[-2:]
    pooled = [torch.nn.functional.interpolate(each, size=output, mode="area") for each in maps]
    return torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)


# --- models with code of their own


def _cxr_clip(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    tower = {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    model = _randomised(transformers.SwinModel(transformers.SwinConfig(**tower)))
    linear = torch.nn.Linear(16, 6)
    tensors = {f"image_encoder.image_encoder.{_as_of_swin(name)}": t for name, t in model.state_dict().items()}
    tensors["image_encoder.image_encoder.encoder.layers.0.blocks.0.attention.self.relative_position_index"] = (
        torch.zeros(16, 16, dtype=torch.long)
    )
    tensors |= {f"image_projection.projection.{name}": t for name, t in linear.state_dict().items()}
    tensors |= {"text_encoder.text_encoder.x": torch.zeros(2), "text_projection.projection.weight": torch.zeros(2)}
    tensors["logit_scale"] = torch.zeros(())
    weights = folder / "swint_mcc.tar"
    optimizer = torch.optim.AdamW(linear.parameters())
    training = {"optimizer": optimizer.state_dict(), "config": {"model": {"name": "clip_custom"}}, "epoch": 15}
    torch.save({"model": tensors, "train_loss": np.float64(0.5), **training}, weights)

    def first(images: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=images)["last_hidden_state"][:, 0]

    return Tiny(
        _sized(spec, 6, 16, tower=tower, projection=6), weights, "image_projection.projection.bias",
        torchvision.transforms.Compose(
            [
                torchvision.transforms.Resize(size=32),
                torchvision.transforms.CenterCrop(size=32),
                torchvision.transforms.ToTensor(),
                torchvision.transforms.Normalize(mean=[0.5] * 3, std=[0.5] * 3),
            ]
        ),
        {spec.name: lambda x: linear(first(x)), f"{spec.name}_pooled": first},
    )  # fmt: skip


def _as_of_swin(name: str) -> str:
    """Return the name of a weight as transformers 4.26, which CXR-CLIP was trained with, has it."""
    name = re.sub(r"attention\.([qkv])_proj", lambda m: f"attention.self.{_WORDS[m[1]]}", name)
    name = name.replace("attention.relative_position_bias.", "attention.self.")
    name = name.replace("attention.o_proj", "attention.output.dense")
    return name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")


def _flair(spec: EncoderSpec, folder: Path, monkeypatch: Any) -> Tiny:
    def shallow(weights: None) -> torch.nn.Module:
        return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])

    monkeypatch.setattr(torchvision.models, "resnet50", shallow)
    network = shallow(None)
    network.fc = torch.nn.Identity()
    projection = torch.nn.Linear(2048, 512, bias=False)
    network.eval()
    tensors = {f"vision_model.model.{name}": t for name, t in network.state_dict().items()}
    tensors["vision_model.projection_head_vision.projection.weight"] = projection.weight.detach()
    tensors |= {"text_model.model.embeddings.x": torch.zeros(2), "logit_scale": torch.zeros(1)}
    weights = folder / "model.safetensors"
    _save(tensors, weights)

    def preprocess(picture: Image.Image) -> torch.Tensor:
        """Do what ``FLAIRModel.preprocess_image`` does, for a square of 64."""
        image = np.float32(np.array(picture))
        if image.max() > 0:
            image /= 255
        tensor = torch.tensor(np.expand_dims(np.transpose(image, (2, 0, 1)), 0))
        scale = max(tensor.shape[-2:]) / 64
        size = (int(tensor.shape[-2] / scale), int(tensor.shape[-1] / scale))
        tensor = torchvision.transforms.Resize(size, antialias=True)(tensor)
        return torch.nn.functional.pad(tensor, (0, 64 - tensor.shape[-1], 0, 64 - tensor.shape[-2], 0, 0))[0]

    def vectors(images: torch.Tensor) -> torch.Tensor:
        embed = network(images)
        return projection(embed / embed.norm(dim=-1, keepdim=True))

    return Tiny(
        _sized(spec, 512, 2048, side_px=64), weights, "vision_model.projection_head_vision.projection.weight",
        preprocess, {spec.name: vectors, f"{spec.name}_pooled": network},
    )  # fmt: skip


def _conch(spec: EncoderSpec, folder: Path, _: Any) -> Tiny:
    trunk = {"embed_dim": 48, "depth": 1, "num_heads": 2, "mlp_ratio": 4, "patch_size": 16, "img_size": 32}
    vit = _randomised(timm.models.vision_transformer.VisionTransformer(**trunk, num_classes=0, dynamic_img_size=True))
    attention = torch.nn.MultiheadAttention(16, 8, kdim=48, vdim=48)
    query, norm_q, norm_k, norm = (
        torch.randn(1, 16),
        torch.nn.LayerNorm(16),
        torch.nn.LayerNorm(48),
        torch.nn.LayerNorm(16),
    )
    projection = torch.randn(16, 16)
    for module in (attention, norm_q, norm_k, norm):
        _randomised(module)
    pooler = {"attn": attention, "ln_q": norm_q, "ln_k": norm_k}
    tensors = {f"visual.trunk.{name}": t for name, t in vit.state_dict().items()}
    tensors |= {
        f"visual.attn_pool_contrast.{part}.{name}": t
        for part, module in pooler.items()
        for name, t in module.state_dict().items()
    }
    tensors |= {f"visual.ln_contrast.{name}": t for name, t in norm.state_dict().items()}
    tensors |= {"visual.attn_pool_contrast.query": query, "visual.proj_contrast": projection}
    tensors |= {"visual.attn_pool_caption.query": torch.zeros(4, 48), "visual.ln_caption.weight": torch.zeros(48)}
    tensors |= {"text.transformer.resblocks.0.x": torch.zeros(2), "logit_scale": torch.zeros(())}
    weights = folder / "pytorch_model.bin"
    _save(tensors, weights)

    def pooled(images: torch.Tensor) -> torch.Tensor:
        """Do what ``VisualModel.forward_no_head`` does, for each image by itself."""
        rows = []
        for image in images:
            keys = norm_k(vit.forward_features(image[None])).permute(1, 0, 2)
            rows.append(norm(attention(norm_q(query)[:, None], keys, keys, need_weights=False)[0][0]))
        return torch.cat(rows)

    official = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(32, torchvision.transforms.InterpolationMode.BICUBIC),
            torchvision.transforms.CenterCrop(32),
            lambda image: image.convert("RGB"),
            torchvision.transforms.ToTensor(),
            CLIP_TRANSFORM,
        ]
    )
    return Tiny(
        _sized(spec, 16, 16, trunk=trunk, embed_dim=16), weights, "visual.proj_contrast", official,
        {spec.name: lambda x: pooled(x) @ projection, f"{spec.name}_pooled": pooled},
    )  # fmt: skip


BUILDERS: dict[str, Callable[[EncoderSpec, Path, Any], Tiny]] = {
    "biomedclip": _biomedclip,
    "clip_vit_b16": _clip,
    "clip_vit_bigg14": _clip,
    "clip_vit_h14": _clip,
    "clip_vit_l14": _clip,
    "conch": _conch,
    "cxr_clip": _cxr_clip,
    "dinov2_l14": _dinov2,
    "dinov3_l16": _dinov3,
    "eva02_l14_336": _eva,
    "flair": _flair,
    "llava_med": _llava,
    "llava_med_pp": _llava,
    "llava_mistral": _llava,
    "llava_vicuna": _llava,
    "llm2clip_l14_336": _clip_of_transformers,
    "medsiglip_448": _siglip,
    "pubmedclip": _clip_of_transformers,
    "rad_dino": _dinov2,
    "resnet50": _torchvision,
    "siglip2_so400m_384": _siglip,
    "uni": _pathology,
    "uni2_h": _pathology,
    "vgg16": _torchvision,
    "virchow2": _pathology,
    "vit_l16": _torchvision,
}
