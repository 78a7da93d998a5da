"""Grad-CAM: where in the image the score of a class comes from.

Computed by the package ``grad-cam`` (https://github.com/jacobgil/pytorch-grad-cam): activations of one layer, weighted
by the mean gradient of each channel, summed, negative parts left out, brought to [0, 1] and to the size of the input.

References
----------
Selvaraju et al., arXiv:1610.02391.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from pipelines.saliency.layers import SalientLayer


@dataclass(frozen=True, eq=False)
class Target:
    """The score of a class: a linear function of an image's vector, or its cosine to the vector of a text.

    Attributes
    ----------
    direction
        ``(d,)`` the weights, or the text's vector. An offset would not change a gradient.
    cosine
        Whether the score is the cosine.
    """

    direction: NDArray[np.floating[Any]]
    cosine: bool = False

    def __call__(self, vector: "torch.Tensor") -> "torch.Tensor":
        """Return the score of a vector ``(d,)``."""
        import torch

        direction = torch.as_tensor(self.direction, dtype=vector.dtype, device=vector.device)
        score = vector @ direction
        return score / (vector.norm() * direction.norm()) if self.cosine else score


def grad_cam(
    encoder: Encoder, layer: "SalientLayer", batch: "torch.Tensor", targets: Sequence[Target]
) -> NDArray[np.float32]:
    """Return a map for each image and its target, ``(b, h, w)`` float32 in [0, 1].

    It is zero everywhere where nothing speaks for the target. In float32, whatever the encoder's precision. Not for
    several threads at once: it hooks into the model.

    Parameters
    ----------
    encoder
        A loaded encoder.
    layer
        What `find_layer` found in it.
    batch
        Preprocessed images ``(b, 3, h, w)``.
    targets
        One for each image.
    """
    import torch
    from pytorch_grad_cam import GradCAM

    images = batch.to(encoder.device, memory_format=torch.channels_last)
    reshape = layer.to_maps if layer.is_transformer else None
    with torch.enable_grad(), _graph_begins_at(layer.module), GradCAM(encoder.forward, [layer.module], reshape) as cam:
        maps: NDArray[np.float32] = np.asarray(cam(images, list(targets)), np.float32)
    return maps


@contextmanager
def _graph_begins_at(module: "torch.nn.Module") -> Iterator[None]:
    """Let gradients go back to a module's output and no further: nothing before it is asked for."""

    def hook(_: Any, arguments: Any, output: "torch.Tensor") -> "torch.Tensor":
        # A copy, so that what follows may write over it.
        return output.detach().requires_grad_().clone()

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
