"""What an encoder is: a declarative record, and the loaded model it turns into."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.exposure import Exposure
from pipelines.precision import Precision, fidelity, forward
from store.schema import CounterstainError, check_encoder_name

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.text_encoder import TextEncoder

Group = Literal["medical", "one modality", "general", "no language", "control"]
FeatureKind = Literal["projected", "pooled"]

POOLED_SUFFIX = "_pooled"


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
        Hub repository, package or published file that holds the weights; ``None`` for an untrained control.
    feature
        Which vector is stored, in words.
    dimension
        Its length.
    group
        Its row group in the study.
    text_side
        Whether the model has one, whose vectors the ``projected`` kind is comparable with.
    load_text
        Returns the loaded text side, as `load` does the image side; ``None`` where there is none that can be run here.
    pretrained_on
        What it saw in training, in words.
    licence, source
        Licence of the weights; where these facts come from.
    language_model
        Whether a large language model took part in its training.
    revision
        Commit of the hub repository.
    sha256
        Digests of weight files at that revision, by file name, where they are published; checked before loading.
    arguments
        What the loading family is told besides, such as the size of the architecture.
    kind
        ``projected`` into the space shared with text, or ``pooled`` from the image tower before that.
    pooled_dimension
        Length of the vector before the projection, where the model has both: it is registered as ``<name>_pooled``.
    gated
        Whether its terms must be accepted, and a token given, before the hub hands it out.
    modalities
        Medical kinds of image seen in training.
    exposure
        The study's data sets that training is known to have touched, and how closely.
    variant_of
        The encoder that has the same checkpoint and another feature, or that this one was fine-tuned from.
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
    sha256: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    kind: FeatureKind = "pooled"
    pooled_dimension: int | None = None
    gated: bool = False
    modalities: tuple[str, ...] = ()
    exposure: Mapping[str, Exposure] = field(default_factory=dict)
    variant_of: str | None = None
    load_text: "Callable[[EncoderSpec, LoadOptions], TextEncoder] | None" = None

    def __post_init__(self) -> None:
        check_encoder_name(self.name)

    def variants(self) -> "tuple[EncoderSpec, ...]":
        """Return this record and, where the model has both kinds of feature, that of the pooled one."""
        if self.pooled_dimension is None:
            return (self,)
        pooled = replace(
            self,
            name=self.name + POOLED_SUFFIX,
            kind="pooled",
            feature="pooled, before the projection",
            dimension=self.pooled_dimension,
            pooled_dimension=None,
            variant_of=self.name,
            load_text=None,
        )
        return self, pooled


@dataclass(frozen=True)
class LoadOptions:
    """Where and how a model is loaded.

    Attributes
    ----------
    checkpoint_dir
        Folder that holds ``<encoder name>/``, a checkpoint in the hub's own layout, used instead of the hub.
    device
        Torch device.
    precision
        Of the forward pass; weights and vectors are float32.
    finetuned_dir
        Folder of the encoders that were fine-tuned here.
    """

    checkpoint_dir: Path | None = None
    device: str = "cpu"
    precision: Precision = "float32"
    finetuned_dir: Path | None = None

    def local_checkpoint(self, spec: EncoderSpec) -> Path | None:
        """Return the folder of an encoder's checkpoint, where there is one."""
        folder = self.checkpoint_dir / (spec.variant_of or spec.name) if self.checkpoint_dir else None
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
    precision
        Of the forward pass.
    fidelity
        Lowest cosine, over a few test images, to the vectors of a float32 forward pass.
    files
        SHA-256 of each weight file that was read, by name.
    """

    spec: EncoderSpec
    preprocess: "Callable[[Image.Image], torch.Tensor]"
    forward: "torch.nn.Module"
    fingerprint: str
    device: str
    precision: Precision = "float32"
    fidelity: float = 1.0
    files: Mapping[str, str] = field(default_factory=dict)

    def encode(self, batch: "torch.Tensor") -> NDArray[np.float32]:
        """Return the vectors, ``(b, d)`` float32, unnormalised, of preprocessed images ``(b, 3, h, w)``."""
        return forward(self.forward, batch, self.device, self.precision)


def assemble(
    spec: EncoderSpec,
    tower: "torch.nn.Module",
    preprocess: "Callable[[Image.Image], torch.Tensor]",
    options: LoadOptions,
    files: Mapping[str, str] | None = None,
) -> Encoder:
    """Return an encoder ready to run; its fingerprint covers every weight, every layer and the preprocessing.

    Channels-last is how convolutions run fastest on a CPU; the values do not change.

    Parameters
    ----------
    files
        SHA-256 of each weight file that was read, by name.

    Raises
    ------
    CounterstainError
        If the device cannot be used, the vector of a blank image has another length than the record declares, or the
        precision that was asked for moves this model's vectors too far.
    """
    import torch
    from PIL import Image

    try:
        tower = tower.eval().requires_grad_(False).to(options.device).to(memory_format=torch.channels_last)
    except (RuntimeError, AssertionError) as error:  # no such device, no driver, or a build of torch without it
        raise CounterstainError(
            f"COUNTERSTAIN_DEVICE={options.device!r} cannot be used: {str(error).splitlines()[0]}"
        ) from error
    described = {"architecture": spec.architecture, "feature": spec.feature, "tower": tower, "preprocess": preprocess}
    if options.precision != "float32":
        described["precision"] = options.precision
    # A function is described with its address, which differs from one process to the next.
    words = {what: re.sub(r" at 0x[0-9a-f]+", "", str(thing)) for what, thing in described.items()}
    digest = fingerprint(tower.state_dict(), words)
    try:
        shape = forward(tower, preprocess(Image.new("RGB", (64, 64)))[None], options.device).shape
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise CounterstainError(
            f"{spec.name}: the model cannot take an image preprocessed as its configuration says: {error}"
        ) from error
    if shape != (1, spec.dimension):
        raise CounterstainError(
            f"{spec.name}: the model returns an array of shape {shape} for one image, but the record declares "
            f"(1, {spec.dimension}): correct its dimension, or the checkpoint is another model's."
        )
    lowest = fidelity(spec.name, tower, preprocess, options.device, options.precision)
    return Encoder(spec, preprocess, tower, digest, options.device, options.precision, lowest, dict(files or {}))


def fingerprint(weights: "Mapping[str, torch.Tensor]", described: Mapping[str, str]) -> str:
    """Return a digest of named weights and a description, the same however the weights were packed in files."""
    import torch

    digest = hashlib.sha256(json.dumps(dict(described), sort_keys=True).encode())
    for name in sorted(weights):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
