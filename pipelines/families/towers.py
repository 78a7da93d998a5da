"""Small modules around an image tower that pick one vector out of what it returns."""

from typing import Any

import torch


class Output(torch.nn.Module):
    """A transformers model as a function from pixels to one field of its output.

    Attributes
    ----------
    field
        Name of the field, ``(b, d)``.
    """

    def __init__(self, model: torch.nn.Module, field: str) -> None:
        super().__init__()
        self.model = model
        self.field = field

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vectors ``(b, d)`` of images ``(b, 3, h, w)``."""
        vectors: torch.Tensor = getattr(self.model(pixel_values=pixels), self.field)
        return vectors

    def extra_repr(self) -> str:
        """Name the field, which distinguishes two encoders with the same weights."""
        return f"field={self.field!r}"


class ClassAndPatches(torch.nn.Module):
    """The class token of a timm transformer, followed by the mean of its patch tokens.

    Register tokens, which stand between the two, are left out.
    """

    def __init__(self, trunk: torch.nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vectors ``(b, 2 d)`` of images ``(b, 3, h, w)``."""
        trunk: Any = self.trunk
        tokens: torch.Tensor = trunk.forward_features(pixels)
        patches = tokens[:, trunk.num_prefix_tokens :]
        return torch.cat([tokens[:, 0], patches.mean(1)], dim=-1)


class Projected(torch.nn.Module):
    """A trunk and what projects its vector into the space shared with text; without it, the trunk alone."""

    def __init__(self, trunk: torch.nn.Module, projection: torch.nn.Module | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.projection = projection

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vectors ``(b, d)`` of images ``(b, 3, h, w)``."""
        pooled: torch.Tensor = self.trunk(pixels)
        vectors: torch.Tensor = pooled if self.projection is None else self.projection(pooled)
        return vectors


class UnitLength(torch.nn.Module):
    """Vectors brought to length one."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the vectors ``(b, d)``, each divided by its norm."""
        unit: torch.Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
        return unit


class FirstToken(torch.nn.Module):
    """The first token of a transformers model's last layer."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the tokens ``(b, d)`` of images ``(b, 3, h, w)``."""
        tokens: torch.Tensor = self.model(pixel_values=pixels).last_hidden_state
        return tokens[:, 0]


class MeanOfPatches(torch.nn.Module):
    """The mean patch token of one layer of a CLIP tower, at one scale or at several side by side.

    Parameters
    ----------
    model
        A ``CLIPVisionModel``.
    layer
        Index among its hidden states; -2 is the output of the last layer but one.
    scales
        Sides in px, multiples of the tower's own: the image is resized to each, cut into tiles of the tower's side, and
        the mean is over all patches of all tiles. That equals the mean of what ``s2wrapper`` returns, which pools the
        larger maps by area to the smallest.
    """

    def __init__(self, model: torch.nn.Module, layer: int, scales: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        self.scales = scales

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vectors ``(b, d)``, or ``(b, scales x d)``, of images ``(b, 3, h, w)``."""
        if not self.scales:
            return self._mean(pixels)
        resized = (torch.nn.functional.interpolate(pixels, size=side, mode="bicubic") for side in self.scales)
        return torch.cat([self._mean_of_tiles(image) for image in resized], dim=-1)

    def _mean_of_tiles(self, pixels: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        side: int = model.config.image_size
        images, channels, height, _ = pixels.shape
        across = height // side
        tiles = pixels.reshape(images, channels, across, side, across, side).permute(0, 2, 4, 1, 3, 5)
        return self._mean(tiles.reshape(-1, channels, side, side)).reshape(images, across**2, -1).mean(1)

    def _mean(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.model(pixel_values=pixels, output_hidden_states=True).hidden_states[self.layer]
        return tokens[:, 1:].mean(1)

    def extra_repr(self) -> str:
        """Name layer and scales, which distinguish two encoders with the same weights."""
        return f"layer={self.layer}, scales={self.scales}"


class TextOutput(torch.nn.Module):
    """A transformers text model as a function from token ids to one field of its output, as `Output` is of pixels."""

    def __init__(self, model: torch.nn.Module, field: str) -> None:
        super().__init__()
        self.model = model
        self.field = field

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the vectors ``(b, d)`` of token ids ``(b, length)``."""
        vectors: torch.Tensor = getattr(self.model(input_ids=tokens), self.field)
        return vectors

    def extra_repr(self) -> str:
        """Name the field, which distinguishes two encoders with the same weights."""
        return f"field={self.field!r}"
