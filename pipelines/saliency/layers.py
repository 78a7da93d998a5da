"""Which layer of an image tower a map is read from, and where its activations lie in the image.

Nothing is asked of a tower but that it runs: one pass with gradients over noise tells which layers its vector depends
on. In a transformer that is the first normalisation of its last block whose patch tokens reach the vector (the output
of the very last block reaches a class token's vector through that token alone); in a convolutional network the last
map that is larger than a single place.

Source of the convention: https://github.com/jacobgil/pytorch-grad-cam, "Chosing the Target Layer".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from store.schema import CounterstainError

Modules = Mapping[str, torch.nn.Module]

# Class and register tokens stand before the patches; more than these are no such tokens.
MAX_PREFIX = 16
# How much coarser than its patches a tower's last tokens may be: Swin halves the grid three times.
_COARSER = (1, 2, 4, 8)


@dataclass(frozen=True, eq=False)
class SalientLayer:
    """A layer of a tower, and how its output lies over the image.

    Attributes
    ----------
    name
        The layer's name within the tower.
    module
        The layer.
    grid
        Rows and columns of its output.
    prefix
        Tokens before those of the patches; None for a map ``(b, channels, rows, columns)``.
    read
        ``(tokens,)`` whether the vector is read from a token after the last block; None for a map.
    """

    name: str
    module: torch.nn.Module
    grid: tuple[int, int]
    prefix: int | None
    read: NDArray[np.bool_] | None = None

    @property
    def is_transformer(self) -> bool:
        """Whether its output is a row of tokens."""
        return self.prefix is not None

    def to_maps(self, activations: torch.Tensor) -> torch.Tensor:
        """Return activations as maps ``(b, channels, rows, columns)``; tokens before the patches are dropped."""
        if self.prefix is None:
            return activations
        patches = activations[:, self.prefix :]
        rows, columns = self.grid
        return patches.reshape(len(patches), rows, columns, -1).permute(0, 3, 1, 2)


def find_layer(tower: torch.nn.Module, shape: tuple[int, int], device: str = "cpu") -> SalientLayer:
    """Return the layer that maps of a tower are read from.

    Parameters
    ----------
    tower
        From ``(b, 3, h, w)`` to ``(b, d)``.
    shape
        Height and width of what the tower is shown.
    device
        Where the tower is.

    Raises
    ------
    CounterstainError
        If no layer has places in the image that the vector depends on.
    """
    noise = torch.rand((2, 3, *shape), generator=torch.Generator().manual_seed(0)).to(device)
    outputs: dict[str, torch.Tensor] = {}
    with torch.enable_grad(), _recording(tower, outputs):
        vectors = tower(noise.requires_grad_())
        direction = torch.rand(vectors.shape[1], generator=torch.Generator().manual_seed(1)).to(device)
        names = [name for name, output in outputs.items() if output.requires_grad]
        depends = [outputs[name] for name in names]
        gradients = torch.autograd.grad((vectors @ direction).sum(), [noise, *depends], allow_unused=True)[1:]
    reaching = {
        name: gradient
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is not None and bool(gradient.any())
    }
    modules = dict(tower.named_modules())
    return _of_tokens(tower, modules, outputs, reaching) or _of_maps(modules, outputs, reaching)


def _of_tokens(
    tower: torch.nn.Module, modules: Modules, outputs: Mapping[str, torch.Tensor], reaching: dict[str, torch.Tensor]
) -> SalientLayer | None:
    """Return the first normalisation of the last block whose patch tokens reach the vector, or None."""
    patches = next((o.shape[2:] for name, o in outputs.items() if isinstance(modules[name], torch.nn.Conv2d)), None)
    norms = _first_norms(tower)
    for name in reversed(list(reaching)):
        if patches is None or name not in norms or reaching[name].ndim != 3:
            continue
        tokens = reaching[name].shape[1]
        grid = _grid(tokens, int(patches[0]), int(patches[1]))
        if grid is not None and bool(reaching[name][:, tokens - grid[0] * grid[1] :].any()):
            last = next(g for g in reversed(list(reaching.values())) if g.ndim == 3 and g.shape[1] == tokens)
            read = (last != 0).any(dim=2).any(dim=0).cpu().numpy()
            return SalientLayer(name, modules[name], grid, tokens - grid[0] * grid[1], read)
    return None


def _of_maps(modules: Modules, outputs: Mapping[str, torch.Tensor], reaching: dict[str, torch.Tensor]) -> SalientLayer:
    """Return the last layer that puts out a map."""
    for name in reversed(list(reaching)):
        if reaching[name].ndim == 4 and name:
            rows, columns = outputs[name].shape[2:]
            return SalientLayer(name, modules[name], (int(rows), int(columns)), None)
    raise CounterstainError(
        "no layer of this model has places in the image that its vector depends on: it has no saliency maps."
    )


@contextmanager
def _recording(tower: torch.nn.Module, outputs: dict[str, torch.Tensor]) -> Iterator[None]:
    """Collect each module's first output that has places: tokens ``(b, n, d)`` or maps ``(b, d, h, w)``."""

    def record(name: str) -> Any:
        def hook(module: torch.nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim in (3, 4) and len(output) == 2:
                places = output.shape[1] if output.ndim == 3 else output.shape[2] * output.shape[3]
                if places > 1:
                    # The first, where a module is called more than once: a tower of several scales begins with the
                    # whole image.
                    outputs.setdefault(name, output)

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in tower.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first_norms(tower: torch.nn.Module) -> set[str]:
    """Names of the first normalisation of each block in a list of blocks."""
    lists = (torch.nn.ModuleList, torch.nn.Sequential)
    found = set()
    for name, parent in tower.named_modules():
        if isinstance(parent, lists):
            for block_name, block in parent.named_children():
                norms = [n for n, child in block.named_children() if "Norm" in type(child).__name__]
                if norms:
                    found.add(".".join(part for part in (name, block_name, norms[0]) if part))
    return found


def _grid(tokens: int, rows: int, columns: int) -> tuple[int, int] | None:
    """Return rows and columns of a row of tokens over that many patches, or None where they are no grid."""
    for coarser in _COARSER:
        places = (rows // coarser) * (columns // coarser)
        if places and 0 <= tokens - places <= MAX_PREFIX:
            return rows // coarser, columns // coarser
    return None
