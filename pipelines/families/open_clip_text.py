"""Text towers of open_clip: its own transformer, or one of transformers behind a pooler and a projection.

The latter's checkpoint names a hub repository for the architecture (BiomedCLIP's is BiomedBERT); it is not asked. Its
configuration stands in the encoder's record, as ``arguments["text_config"]``; the tokenizer's files lie beside the
weights, as `open_clip` itself expects them in a folder.

Source: https://github.com/mlfoundations/open_clip, ``open_clip.model._build_text_tower``,
``open_clip.hf_model.HFTextEncoder``, ``open_clip.factory.get_tokenizer``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.encoder import EncoderSpec, LoadOptions
from pipelines.families.open_clip_family import CONFIG_FILE, IMAGE_TOWER, OTHER_PARTS, WEIGHT_FILES
from pipelines.families.tokenizers import read_tokenizer
from pipelines.families.transformers_family import COMPUTED, quiet
from pipelines.hub import Checkpoint, open_checkpoint
from pipelines.text_encoder import TextEncoder, assemble_text, described
from pipelines.weights import fit, read_weights, refusing, without_prefix
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

LOGITS = ("logit_scale", "logit_bias")


def load_text(spec: EncoderSpec, options: LoadOptions) -> TextEncoder:
    """Load a pretrained text tower and its tokenizer from a local folder or the hub, strictly.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit the architecture.
    """
    checkpoint = open_checkpoint(spec, options)
    config_file = checkpoint.need(CONFIG_FILE)
    weights = read_weights(checkpoint, WEIGHT_FILES, parts=OTHER_PARTS, others=(IMAGE_TOWER,))
    with refusing(checkpoint):
        model = json.loads(config_file.read_text())["model_cfg"]
        text = dict(model["text_cfg"])
        of_transformers = bool(text.get("hf_model_name"))
        tower = _transformers_tower(spec, model) if of_transformers else _own_tower(model)
        scale, bias = logits(weights.tensors)
    tensors = {name: tensor for name, tensor in weights.tensors.items() if name not in LOGITS}
    fit(
        checkpoint,
        tower,
        {name: t for name, t in without_prefix(tensors, "text.").items() if not name.endswith(COMPUTED)},
    )
    return assemble_text(
        spec,
        tower,
        _tokenizer(checkpoint, text, trimmed=of_transformers),
        options,
        logit_scale=scale,
        logit_bias=bias,
        files=weights.files,
    )


def logits(tensors: "Mapping[str, torch.Tensor]") -> tuple[float, float]:
    """Return what a model multiplies a cosine by, and adds; raise KeyError where its checkpoint does not say."""
    bias = tensors.get("logit_bias")
    return float(tensors["logit_scale"].float().exp()), 0.0 if bias is None else float(bias)


def _own_tower(model: Mapping[str, Any]) -> "torch.nn.Module":
    import open_clip.model

    tower: torch.nn.Module = open_clip.model._build_text_tower(
        model["embed_dim"], dict(model["text_cfg"]), quick_gelu=model.get("quick_gelu", False)
    )
    return tower


def _transformers_tower(spec: EncoderSpec, model: Mapping[str, Any]) -> "torch.nn.Module":
    import transformers
    from open_clip.hf_model import HFTextEncoder

    text = model["text_cfg"]
    if "text_config" not in spec.arguments:
        raise CounterstainError(
            f"{spec.name}: its text tower is {text['hf_model_name']}: give its configuration in the encoder's record, "
            'as arguments={"text_config": {"model_type": …}}.'
        )
    config = dict(spec.arguments["text_config"])
    with quiet():
        tower: Any = HFTextEncoder(
            text["hf_model_name"],
            output_dim=model["embed_dim"],
            config=transformers.AutoConfig.for_model(config.pop("model_type"), **config),
            pooler_type=text.get("hf_pooler_type", "mean_pooler"),
            proj_type=text.get("hf_proj_type", "mlp"),
        )
    if text.get("hf_pooler_type") != "cls_pooler":  # then open_clip builds the model without a pooler of its own
        tower.transformer.pooler = None
    built: torch.nn.Module = tower
    return built


def _tokenizer(
    checkpoint: Checkpoint, text: Mapping[str, Any], *, trimmed: bool
) -> "Callable[[Sequence[str]], torch.Tensor]":
    """Return the tokenizer of a checkpoint: that of its folder where it names one, else open_clip's own."""
    length = int(text.get("context_length", 77))
    if text.get("hf_tokenizer_name"):
        return read_tokenizer(checkpoint, length=length, trimmed=trimmed)
    with refusing(checkpoint):
        return OwnTokenizer(length, text.get("tokenizer_kwargs") or {})


class OwnTokenizer:
    """open_clip's byte-pair encoding, which comes with the library."""

    def __init__(self, length: int, settings: Mapping[str, Any]) -> None:
        from open_clip import SimpleTokenizer

        self.tokenizer = SimpleTokenizer(context_length=length, **settings)
        self._words = described("SimpleTokenizer", b"", length=length, **settings)

    def __call__(self, texts: Sequence[str]) -> "torch.Tensor":
        """Return the ids of texts, ``(b, length)``."""
        ids: torch.Tensor = self.tokenizer(list(texts))
        return ids

    def __repr__(self) -> str:
        return self._words
