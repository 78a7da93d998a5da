"""Encoders of timm whose repositories carry timm's own configuration: architecture, weights, preprocessing.

``spec.arguments`` are those of ``timm.create_model``, as the model cards give them; a layer is named as in
``timm.layers`` (``mlp_layer``) or by timm's name of the activation (``act_layer``). ``pooling`` may be
``"class and patches"``.

Source: https://github.com/huggingface/pytorch-image-models, ``timm.models`` and ``timm.data``.
"""

import json
from typing import TYPE_CHECKING, Any

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.hub import open_checkpoint
from pipelines.weights import fit, read_weights, refusing

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "config.json"


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load a trunk from a local folder or the hub, strictly; preprocessing is of its ``pretrained_cfg``.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit the architecture.
    """
    import timm
    from timm.data import create_transform, resolve_data_config

    from pipelines.families.towers import ClassAndPatches

    checkpoint = open_checkpoint(spec, options)
    config_file = checkpoint.need(CONFIG_FILE)
    weights = read_weights(checkpoint)
    arguments = {**spec.arguments}
    pooling = arguments.pop("pooling", None)
    with refusing(checkpoint):
        config = json.loads(config_file.read_text())
        # Older repositories have the preprocessing at the top of the file.
        settings: dict[str, Any] = config.get("pretrained_cfg", config)
        if "mlp_layer" in arguments:
            arguments["mlp_layer"] = getattr(timm.layers, arguments["mlp_layer"])
        model: torch.nn.Module = timm.create_model(spec.architecture, pretrained=False, num_classes=0, **arguments)
        preprocess = create_transform(**resolve_data_config(pretrained_cfg=settings), is_training=False)
    fit(checkpoint, model, weights.tensors)
    tower = ClassAndPatches(model) if pooling == "class and patches" else model
    return assemble(spec, tower, preprocess, options, weights.files)
