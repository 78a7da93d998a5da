"""An encoder of some hundred weights, with what makes training hard to repeat: dropout and batch statistics."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.encoders import encoder_specs

DIMENSION = 12
SIDE_PX = 32


def tiny_tower() -> torch.nn.Module:
    """Return the untrained tower, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, DIMENSION, 5, stride=2),
            torch.nn.BatchNorm2d(DIMENSION),
            torch.nn.GELU(),
            torch.nn.Dropout(0.2),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
        ).eval()


def small(image: Image.Image) -> torch.Tensor:
    """Return an image as ``(3, 32, 32)`` in [-1, 1]."""
    values = np.asarray(image.resize((SIDE_PX, SIDE_PX)), dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    return assemble(spec, tiny_tower(), small, options)


def tiny_specs() -> dict[str, EncoderSpec]:
    """Return the record of the tiny encoder."""
    spec = replace(
        encoder_specs()["efficientnet_lite0"],
        name="tiny",
        load=load,
        architecture="tiny",
        checkpoint=None,
        dimension=DIMENSION,
    )
    return {"tiny": spec}
