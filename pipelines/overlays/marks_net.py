"""The small network that points at marks: calliper crosses, dotted measuring lines.

Learned from marks planted on phantoms and noise (`pipelines.overlays.marks_training`), so that its truth is known; the
weights lie beside this file. Six convolutions, 19,595 parameters, about 0.02 CPU-seconds for an image of 256².
"""

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

# Arrows are found by their shape; what they are is learned so that none passes for a cross.
CHANNELS = ("cross", "dots", "arrow")
# The network answers for every second pixel of every second row.
STRIDE = 2
# Marks are sought at this length of the shorter side; larger images are shrunk to it.
WORKING_SIDE_PX = 256
WEIGHTS = "marks_net.safetensors"


def build() -> "nn.Sequential":
    """Return the network with random weights: ``(b, 1, h, w)`` in [0, 1] → logits ``(b, 3, h / 2, w / 2)``."""
    from torch import nn

    width = 24
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=STRIDE, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=4, dilation=4),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, len(CHANNELS), 1),
    )


@lru_cache(maxsize=1)
def load() -> "nn.Sequential":
    """Return the trained network."""
    from safetensors.torch import load as load_tensors

    network = build()
    network.load_state_dict(load_tensors(files("pipelines.overlays").joinpath(WEIGHTS).read_bytes()))
    return network.eval()


def look(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how likely each place of ``(h, w)`` is a mark: ``(3, ⌈h/2⌉, ⌈w/2⌉)`` in [0, 1], by `CHANNELS`."""
    import torch

    with torch.inference_mode():
        image = torch.from_numpy(grey.astype(np.float32) / 255)[None, None]
        likely: NDArray[np.float32] = load()(image)[0].sigmoid().numpy()
    return likely
