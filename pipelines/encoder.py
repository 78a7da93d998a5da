"""What an encoder is: a declarative record, and the loaded model it turns into."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from store.schema import CounterstainError, check_encoder_name

if TYPE_CHECKING:
    import torch
    from PIL import Image

Group = Literal["medical", "one modality", "general", "no language", "control"]


@dataclass(frozen=True)
class EncoderSpec:
    """A registered encoder; one small file under ``pipelines/encoders`` each.

    Attributes
    ----------
    name
        Its partition key, and part of its table's name.
    load
        Returns the loaded encoder, given this record and where its checkpoint may lie; raises `CounterstainError` with
        the remedy where the checkpoint is missing.
    architecture
        The model's name in its library.
    checkpoint
        Hub repository, or package, that holds the weights; ``None`` for an untrained control.
    revision
        Commit of the hub repository.
    feature
        Which vector is stored, in words.
    dimension
        Its length.
    group
        Its row group in the study.
    text_side
        Whether captions and prompts can be embedded too.
    pretrained_on
        What it saw in training, in words.
    licence, source
        Licence of the weights; where these facts come from.
    language_model
        Whether a large language model took part in its training.
    """

    name: str
    load: "Callable[[EncoderSpec, LoadOptions], Encoder]"
    architecture: str
    checkpoint: str | None
    feature: str
    dimension: int
    group: Group
    text_side: bool
    pretrained_on: str
    licence: str
    source: str
    revision: str | None = None
    language_model: bool = False

    def __post_init__(self) -> None:
        check_encoder_name(self.name)


@dataclass(frozen=True)
class LoadOptions:
    """Where and how a model is loaded.

    Attributes
    ----------
    checkpoint_dir
        Folder that holds ``<encoder name>/``, a checkpoint in the hub's own layout, used instead of the hub.
    device
        Torch device.
    """

    checkpoint_dir: Path | None = None
    device: str = "cpu"

    def local_checkpoint(self, name: str) -> Path | None:
        """Return the folder of an encoder's checkpoint, where there is one."""
        folder = self.checkpoint_dir / name if self.checkpoint_dir else None
        return folder if folder is not None and folder.is_dir() else None


@dataclass(frozen=True)
class Encoder:
    """A loaded encoder.

    Attributes
    ----------
    spec
        Its record.
    preprocess
        The model's official preprocessing, from an RGB image to a float32 tensor ``(3, h, w)``.
    forward
        The image tower, from ``(b, 3, h, w)`` to ``(b, spec.dimension)``.
    fingerprint
        Digest of weights, architecture and preprocessing: two encoders with the same give the same vectors.
    device
        Where `forward` runs.
    """

    spec: EncoderSpec
    preprocess: "Callable[[Image.Image], torch.Tensor]"
    forward: "torch.nn.Module"
    fingerprint: str
    device: str

    def encode(self, batch: "torch.Tensor") -> NDArray[np.float32]:
        """Return the vectors, ``(b, d)`` float32, unnormalised, of preprocessed images ``(b, 3, h, w)``."""
        import torch

        with torch.inference_mode():
            images = batch.to(self.device, memory_format=torch.channels_last)
            vectors: NDArray[np.float32] = self.forward(images).float().cpu().numpy()
        return vectors


def assemble(
    spec: EncoderSpec, tower: "torch.nn.Module", preprocess: "Callable[[Image.Image], torch.Tensor]", device: str
) -> Encoder:
    """Return an encoder ready to run; its fingerprint covers every weight, every layer and the preprocessing.

    Channels-last is how convolutions run fastest on a CPU; the values do not change.

    Raises
    ------
    CounterstainError
        If the device cannot be used, or the vector of a blank image has another length than the record declares.
    """
    import torch
    from PIL import Image

    try:
        tower = tower.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    except (RuntimeError, AssertionError) as error:  # no such device, no driver, or a build of torch without it
        raise CounterstainError(
            f"COUNTERSTAIN_DEVICE={device!r} cannot be used: {str(error).splitlines()[0]}"
        ) from error
    described = {"architecture": spec.architecture, "feature": spec.feature, "tower": tower, "preprocess": preprocess}
    # A function is described with its address, which differs from one process to the next.
    words = {what: re.sub(r" at 0x[0-9a-f]+", "", str(thing)) for what, thing in described.items()}
    encoder = Encoder(spec, preprocess, tower, fingerprint(tower.state_dict(), words), device)
    shape = encoder.encode(preprocess(Image.new("RGB", (64, 64)))[None]).shape
    if shape != (1, spec.dimension):
        raise CounterstainError(
            f"{spec.name}: the model returns an array of shape {shape} for one image, but the record declares "
            f"(1, {spec.dimension}): correct its dimension, or the checkpoint is another model's."
        )
    return encoder


def fingerprint(weights: "Mapping[str, torch.Tensor]", described: Mapping[str, str]) -> str:
    """Return a digest of named weights and a description, the same however the weights were packed in files."""
    import torch

    digest = hashlib.sha256(json.dumps(dict(described), sort_keys=True).encode())
    for name in sorted(weights):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
