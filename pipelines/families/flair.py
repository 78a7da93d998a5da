"""FLAIR's ResNet50: torchvision's network with a linear projection, and a preprocessing of its own.

Its authors divide the pooled vector by its norm, project it, and divide by the norm again; here the last division is
left out. Their linear probes use the pooled vector.

Source: https://github.com/jusiro/FLAIR, ``flair/modeling/model.py`` (`VisionModel`, `ProjectionLayer`,
`FLAIRModel.preprocess_image`).
"""

from typing import TYPE_CHECKING

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.hub import open_checkpoint
from pipelines.weights import fit, read_weights, without_prefix

if TYPE_CHECKING:
    import torch
    from PIL import Image

TOWER = "vision_model.model."
PROJECTION = "vision_model.projection_head_vision."
OTHER_PARTS = ("text_model.", "logit_scale")


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load the image tower from a local folder or the hub, strictly.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit.
    """
    import torch
    from torchvision import models

    from pipelines.families.towers import Projected, UnitLength

    checkpoint = open_checkpoint(spec, options)
    weights = read_weights(checkpoint, parts=(TOWER, PROJECTION), others=OTHER_PARTS)
    network = models.resnet50(weights=None)
    network.fc = torch.nn.Identity()
    projection = torch.nn.Linear(2048, 512, bias=False)
    fit(checkpoint, network, {n.removeprefix(TOWER): t for n, t in weights.tensors.items() if n.startswith(TOWER)})
    last = without_prefix({n: t for n, t in weights.tensors.items() if n.startswith(PROJECTION)}, PROJECTION)
    fit(checkpoint, projection, without_prefix(last, "projection."))
    head = torch.nn.Sequential(UnitLength(), projection) if spec.kind == "projected" else None
    return assemble(spec, Projected(network, head), Canvas(spec.arguments.get("side_px", 512)), options, weights.files)


class Canvas:
    """An image in [0, 1], resized to a square's longer side, and filled up with zeros below and on the right."""

    def __init__(self, side_px: int) -> None:
        self.side_px = side_px

    def __call__(self, image: "Image.Image") -> "torch.Tensor":
        """Return the image on its canvas, ``(3, side, side)`` float32."""
        import numpy as np
        import torch
        from torchvision.transforms import Resize

        pixels = torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)
        height, width = pixels.shape[-2:]
        scale = max(height, width) / self.side_px
        # One px at least: their code leaves nothing of an image that is longer than 512 times its width.
        size = (max(1, int(height / scale)), max(1, int(width / scale)))
        pixels = Resize(size, antialias=True)(pixels)
        return torch.nn.functional.pad(pixels, (0, self.side_px - size[1], 0, self.side_px - size[0]))

    def __repr__(self) -> str:
        return f"Canvas({self.side_px})"
