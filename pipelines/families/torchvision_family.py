"""Classifiers of torchvision, up to the vector that their last layer classifies.

``spec.checkpoint`` names one of the library's weights. Their file name ends in the beginning of its SHA-256, which is
checked; preprocessing is the one that torchvision declares for these weights.

Source: https://github.com/pytorch/vision, ``torchvision.models``.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.hub import open_checkpoint
from pipelines.weights import fit, read_weights
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load a classifier without its last layer, from a local folder or torchvision's own server.

    Raises
    ------
    CounterstainError
        If the weights cannot be had, are not the published file, or do not fit.
    """
    from torchvision import models

    published = models.get_weight(str(spec.checkpoint))
    file_name = published.url.rsplit("/", 1)[-1]
    checkpoint = open_checkpoint(spec, options)
    if checkpoint.folder is None:
        checkpoint = replace(checkpoint, folder=_download(spec, published, checkpoint.advice))
    beginning = Path(file_name).stem.rsplit("-", 1)[-1]
    digest = checkpoint.sha256(checkpoint.need(file_name))
    if not digest.startswith(beginning):
        raise CounterstainError(
            f"{spec.name}: {checkpoint.folder}/{file_name} is not the published file: its SHA-256 is {digest}, which "
            f"does not begin with {beginning}. Delete it, and download it again."
        )
    weights = read_weights(checkpoint, [file_name])
    model: torch.nn.Module = models.get_model(spec.architecture, weights=None)
    fit(checkpoint, model, weights.tensors)
    _leave_out_classifier(model)
    return assemble(spec, model, published.transforms(), options, weights.files)


def _download(spec: EncoderSpec, published: Any, advice: Path) -> Path:
    """Return the folder of torch's own cache, with the file of weights in it."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / published.url.rsplit("/", 1)[-1]
    try:
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            digest = path.stem.rsplit("-", 1)[-1]
            torch.hub.download_url_to_file(published.url, str(path), hash_prefix=digest, progress=False)
    except (URLError, OSError, RuntimeError) as error:  # the last is a digest that differs
        raise CounterstainError(
            f"{spec.name}: {published.url} cannot be had ({type(error).__name__}). Put that file into {advice}/ and "
            f"set COUNTERSTAIN_CHECKPOINT_DIR={advice.parent}."
        ) from error
    return folder


def _leave_out_classifier(model: "torch.nn.Module") -> None:
    """Replace the last linear layer: ``fc`` of a ResNet, the end of ``classifier`` of a VGG, ``heads`` of a ViT."""
    import torch

    if hasattr(model, "fc"):
        model.fc = torch.nn.Identity()
    elif hasattr(model, "heads"):
        model.heads = torch.nn.Identity()
    else:
        classifier: Any = model.classifier
        classifier[-1] = torch.nn.Identity()
