"""Attention rollout: from which patches a transformer's vector was gathered, whatever it is asked.

With A the attention of a layer, averaged over its heads, and I the residual connection, the rollout is the product of
½ A + ½ I over the layers; its row is read at the tokens that make up the vector.

References
----------
Abnar & Zuidema, arXiv:2005.00928.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from pipelines.encoder import Encoder
from pipelines.saliency.layers import SalientLayer
from store.schema import CounterstainError


def attention_rollout(encoder: Encoder, layer: SalientLayer, batch: torch.Tensor) -> NDArray[np.float32]:
    """Return a map for each image, ``(b, h, w)`` float32 in [0, 1].

    The row is that of an attention pooling where the model ends in one, else the mean over the tokens that the vector
    is read from: the class token, the patches, or both. Blocks after `layer`, on which the vector does not depend,
    are left out.

    Parameters
    ----------
    encoder, layer, batch
        As in `grad_cam`.

    Raises
    ------
    CounterstainError
        If the tower is no transformer whose layers attend from every token to every token.
    """
    if layer.prefix is None:
        raise CounterstainError(f"{encoder.spec.name} is no transformer: it has no attention to roll out.")
    images = batch.to(encoder.device, memory_format=torch.channels_last)
    rows, columns = layer.grid
    rollout = _Rollout(len(images), layer.prefix + rows * columns)
    handle = layer.module.register_forward_hook(rollout.one_block_more)
    try:
        with torch.no_grad(), rollout:
            encoder.forward(images)
    finally:
        handle.remove()
    if rollout.rolled is None or rollout.partial:
        raise CounterstainError(
            f"{encoder.spec.name}: its layers do not attend from every token to every token: it has no rollout."
        )
    if rollout.pooling is None:
        read = torch.as_tensor(layer.read, device=images.device)
        row = rollout.rolled[:, read].mean(dim=1)
    else:
        row = (rollout.pooling[:, None] @ rollout.rolled)[:, 0]
    patches = row[:, layer.prefix :].reshape(-1, 1, rows, columns)
    maps = torch.nn.functional.interpolate(patches, size=images.shape[-2:], mode="bilinear")[:, 0]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    scaled: NDArray[np.float32] = ((maps - low) / (high - low).clamp_min(1e-12)).cpu().numpy()
    return scaled


class _Rollout(TorchFunctionMode):
    """While it is active, every attention is multiplied into the rollout.

    Attributes
    ----------
    rolled
        ``(b, n, n)``: from every token after the last layer to every token before the first; None until a layer was
        seen.
    pooling
        ``(b, n)``: where one query attended to all tokens, what it attended to.
    partial
        Whether a layer attended within windows, or over another grid.
    """

    def __init__(self, images: int, tokens: int) -> None:
        super().__init__()
        self.images = images
        self.tokens = tokens
        self.rolled: torch.Tensor | None = None
        self.pooling: torch.Tensor | None = None
        self.partial = False
        self._left: int | None = None

    def one_block_more(self, *_: object) -> None:
        """Take one more layer, and no other: as a hook on what comes before the last that matters."""
        if self._left is None:
            self._left = 1

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function, and look at it where it is an attention."""
        kwargs = dict(kwargs or {})
        if function is torch.nn.functional.multi_head_attention_forward:
            # Asked for what it attended to; who calls it takes its first result.
            attended, weights = function(*args, **kwargs | {"need_weights": True, "average_attn_weights": True})
            self._take(weights)
            return attended, None
        if function is torch.nn.functional.scaled_dot_product_attention:
            self._take(_weights(*args, **kwargs))
        return function(*args, **kwargs)

    def _take(self, weights: torch.Tensor) -> None:
        within = weights.shape[1] == weights.shape[2] and self._left != 0
        if within and weights.shape != (self.images, self.tokens, self.tokens):
            self.partial = True
        elif within:
            layer = 0.5 * weights.float() + 0.5 * torch.eye(self.tokens, device=weights.device)
            self.rolled = layer if self.rolled is None else layer @ self.rolled
            self._left = None if self._left is None else self._left - 1
        elif weights.shape == (self.images, 1, self.tokens):
            self.pooling = weights[:, 0].float()


def _weights(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> torch.Tensor:
    """Return what an attention ``(b, heads, queries, d)`` attends to, averaged over heads, ``(b, queries, keys)``."""
    products = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        products = (
            products.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else products + attn_mask
        )
    return products.softmax(dim=-1).mean(dim=1)
