"""Encoders of open_clip: the image tower of a CLIP-like model, with or without its projection.

Only the image tower is built and only its weights are read, so that a text tower made of another hub repository (as
BiomedCLIP's is) need not be at hand.

Source: https://github.com/mlfoundations/open_clip, ``open_clip.factory.create_model`` and ``open_clip.model``.
"""

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.hub import open_checkpoint
from pipelines.weights import fit, read_weights, refusing, without_prefix

if TYPE_CHECKING:
    import torch

# The files of a hub repository that open_clip reads.
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
IMAGE_TOWER = "visual."
# How the names of a model's other weights begin: text towers of `CLIP` and of `CustomTextCLIP`, and the loss.
OTHER_PARTS = (
    "text.", "transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection",
    "logit_scale", "logit_bias",
)  # fmt: skip


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load a pretrained image tower from a local folder or the hub, strictly and without executing pickles.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit the architecture.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    checkpoint = open_checkpoint(spec, options)
    config_file = checkpoint.need(CONFIG_FILE)
    weights = read_weights(checkpoint, WEIGHT_FILES, parts=(IMAGE_TOWER,), others=OTHER_PARTS)
    with refusing(checkpoint):
        config = json.loads(config_file.read_text())
        _check_activation(spec.architecture, config["model_cfg"])
        tower = _image_tower(config["model_cfg"])
        settings = merge_preprocess_dict(asdict(PreprocessCfg()), config.get("preprocess_cfg", {}))
        preprocess = image_transform_v2(PreprocessCfg(**settings | {"size": tower.image_size}), is_train=False)
    fit(checkpoint, tower, without_prefix(weights.tensors, IMAGE_TOWER))
    if spec.kind == "pooled":
        _leave_out_projection(tower)
    return assemble(spec, tower, preprocess, options, weights.files)


def load_untrained(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Make an image tower with random weights from seed 0: the control, which has seen nothing."""
    import open_clip
    import torch
    from open_clip import get_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2

    # open_clip warns that nothing was loaded, which is the purpose here.
    logging.getLogger().addFilter(_is_not_random_weights_warning)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(spec.architecture, pretrained=None)
    finally:
        logging.getLogger().removeFilter(_is_not_random_weights_warning)
    preprocess = image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False)
    return assemble(spec, model.visual, preprocess, options)


def _image_tower(model: dict[str, Any]) -> "torch.nn.Module":
    """Build the image tower that ``create_model`` would build of a configuration, without weights of its own."""
    import open_clip.model

    vision = open_clip.model.CLIPVisionCfg(**model["vision_cfg"] | {"timm_model_pretrained": False})
    tower: torch.nn.Module = open_clip.model._build_vision_tower(
        model["embed_dim"], vision, quick_gelu=model.get("quick_gelu", False)
    )
    return tower


def _check_activation(architecture: str, model: dict[str, Any]) -> None:
    """Raise ValueError where a configuration has another activation than its architecture: the weights would fit."""
    import open_clip

    known = open_clip.get_model_config(architecture)
    if known is not None and known.get("quick_gelu", False) != model.get("quick_gelu", False):
        raise ValueError(f"its {CONFIG_FILE} says quick_gelu={model.get('quick_gelu', False)}, unlike {architecture}")


def _leave_out_projection(tower: Any) -> None:
    """Let a tower end in its pooled token: the projection is a matrix, a timm trunk's own head, or a head behind it."""
    import torch
    from open_clip.timm_model import TimmModel

    if not isinstance(tower, TimmModel):
        tower.proj = None
    elif len(tower.head):
        tower.head = torch.nn.Sequential()
    else:
        tower.trunk.reset_classifier(0)


def _is_not_random_weights_warning(record: logging.LogRecord) -> bool:
    return "Model initialized randomly" not in record.getMessage()
