"""The forward pass in float32, or in bfloat16 where that is measured to change little."""

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from store.schema import CounterstainError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from PIL import Image

Precision = Literal["float32", "bfloat16"]

# Below this cosine to its float32 vectors a model is not run in bfloat16: neighbours begin to change places.
LOWEST_FIDELITY = 0.999
IMAGES_OF_EACH_KIND = 4


def forward(
    tower: "torch.nn.Module", batch: "torch.Tensor", device: str, precision: Precision = "float32"
) -> NDArray[np.float32]:
    """Return a tower's vectors ``(b, d)`` float32 of preprocessed images ``(b, 3, h, w)``."""
    import torch

    # Autocast keeps no cast weights under inference_mode, and is then slower than float32; under no_grad it does.
    reduced = precision != "float32"
    with (
        torch.no_grad() if reduced else torch.inference_mode(),
        torch.autocast(torch.device(device).type, torch.bfloat16, enabled=reduced),
    ):
        images = batch.to(device, memory_format=torch.channels_last)
        vectors: NDArray[np.float32] = tower(images).float().cpu().numpy()
    return vectors


def fidelity(
    name: str,
    tower: "torch.nn.Module",
    preprocess: "Callable[[Image.Image], torch.Tensor]",
    device: str,
    precision: Precision,
) -> float:
    """Return the lowest cosine between float32 vectors and those of `precision`, over a few phantoms.

    Raises
    ------
    CounterstainError
        If it is below `LOWEST_FIDELITY`.
    """
    if precision == "float32":
        return 1.0
    import torch

    batch = torch.stack([preprocess(image) for image in _test_images()])
    exact, reduced = (_unit(forward(tower, batch, device, which)) for which in ("float32", precision))
    lowest = float((exact * reduced).sum(axis=1).min())
    if not lowest >= LOWEST_FIDELITY:
        raise CounterstainError(
            f"{name}: in {precision} its vectors have a cosine of only {lowest:.4f} to those in float32, below "
            f"{LOWEST_FIDELITY}: set COUNTERSTAIN_PRECISION=float32."
        )
    return lowest


def _test_images() -> "list[Image.Image]":
    """Draw phantoms of every kind, words and marks among them; noise, being far from flat, would flatter a model."""
    from PIL import Image

    from pipelines.phantoms.draw import draw_phantom
    from pipelines.phantoms.spec import Modality, PhantomSpec

    specs = [PhantomSpec(modality, IMAGES_OF_EACH_KIND, strength=1.0) for modality in get_args(Modality)]
    return [Image.fromarray(draw_phantom(spec, i).pixels) for spec in specs for i in range(IMAGES_OF_EACH_KIND)]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.where(norms == 0, 1, norms)
    return unit
