"""The text side of an encoder: texts to vectors in the space that its images are in."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder import EncoderSpec, LoadOptions, fingerprint
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 64


@dataclass(frozen=True)
class TextEncoder:
    """A loaded text tower.

    Attributes
    ----------
    spec
        The encoder whose text side it is.
    tokenize
        From texts to token ids ``(b, length)``; what is too long is cut off.
    forward
        From token ids to ``(b, spec.dimension)``.
    logit_scale, logit_bias
        What the model multiplies a cosine by, and adds then: its training loss is of these logits.
    fingerprint
        Digest of weights, layers and tokenizer.
    device
        Where `forward` runs.
    files
        SHA-256 of each weight file that was read, by name.
    """

    spec: EncoderSpec
    tokenize: "Callable[[Sequence[str]], torch.Tensor]"
    forward: "torch.nn.Module"
    logit_scale: float
    logit_bias: float
    fingerprint: str
    device: str
    files: Mapping[str, str] = field(default_factory=dict)

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """Return the vectors, ``(n, d)`` float32, unnormalised, of texts, in their order.

        Raises
        ------
        CounterstainError
            If there is no text, or one is empty.
        """
        import torch

        if not texts or not all(text.strip() for text in texts):
            raise CounterstainError(f"{self.spec.name}: there is no text to encode, or one of them is empty.")
        vectors = np.empty((len(texts), self.spec.dimension), np.float32)
        # Texts of one length side by side: a tower that knows padding need not read it.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                tokens = self.tokenize([texts[row] for row in rows])
                vectors[rows] = self.forward(tokens.to(self.device)).float().cpu().numpy()
        return vectors


def assemble_text(
    spec: EncoderSpec,
    tower: "torch.nn.Module",
    tokenize: "Callable[[Sequence[str]], torch.Tensor]",
    options: LoadOptions,
    *,
    logit_scale: float,
    logit_bias: float = 0.0,
    files: Mapping[str, str] | None = None,
) -> TextEncoder:
    """Return a text tower ready to run; its vectors must be as long as those of images.

    Raises
    ------
    CounterstainError
        If the device cannot be used, or the vector of a text has another length than that of an image.
    """
    import torch

    try:
        tower = tower.eval().requires_grad_(False).to(options.device)
    except (RuntimeError, AssertionError) as error:  # no such device, no driver, or a build of torch without it
        raise CounterstainError(
            f"COUNTERSTAIN_DEVICE={options.device!r} cannot be used: {str(error).splitlines()[0]}"
        ) from error
    words = {"tower": str(tower), "tokenizer": str(tokenize), "scale": repr(logit_scale), "bias": repr(logit_bias)}
    try:
        with torch.inference_mode():
            shape = tuple(tower(tokenize(["a text"]).to(options.device)).shape)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise CounterstainError(f"{spec.name}: its text tower cannot take what its tokenizer gives: {error}") from error
    if shape != (1, spec.dimension):
        raise CounterstainError(
            f"{spec.name}: the text tower returns an array of shape {shape} for one text, but the vectors of images "
            f"have {spec.dimension} values: the checkpoint is another model's."
        )
    digest = fingerprint(tower.state_dict(), words)
    return TextEncoder(spec, tokenize, tower, logit_scale, logit_bias, digest, options.device, dict(files or {}))


def described(what: str, content: bytes, **settings: object) -> str:
    """Describe a tokenizer by a digest of its vocabulary and its settings."""
    return f"{what}({hashlib.sha256(content).hexdigest()[:32]}, {json.dumps(settings, sort_keys=True, default=str)})"
