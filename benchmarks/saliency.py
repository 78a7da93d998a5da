"""Grad-CAM of an encoder, against the same maps by pytorch-grad-cam called on the whole model.

Ours lets gradients begin at the layer that is mapped; the library by itself lets them run through the whole model.

    python benchmarks/saliency.py [--encoder untrained_vit_b16] [--images 8]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM

from pipelines.encoder import LoadOptions
from pipelines.encoders import load_encoder
from pipelines.saliency.grad_cam import Target, grad_cam
from pipelines.saliency.layers import find_layer
from pipelines.saliency.rollout import attention_rollout


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds and the result, of the second of two times."""
    work()
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--encoder", default="untrained_vit_b16")
    arguments.add_argument("--images", type=int, default=8)
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    encoder = load_encoder(asked.encoder, LoadOptions())
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)) for _ in range(asked.images)]
    batch = torch.stack([encoder.preprocess(image) for image in images])
    layer = find_layer(encoder.forward, (batch.shape[2], batch.shape[3]))
    targets = [Target(rng.normal(size=encoder.spec.dimension)) for _ in images]
    reshape = layer.to_maps if layer.is_transformer else None

    def directly() -> Any:
        # As its documentation has it: the weights ask for gradients.
        encoder.forward.requires_grad_(True)
        with GradCAM(encoder.forward, [layer.module], reshape) as cam:
            maps = cam(batch.clone(), targets)
        encoder.forward.requires_grad_(False)
        return maps

    baseline, expected = seconds(directly)
    ours, maps = seconds(lambda: grad_cam(encoder, layer, batch, targets))
    plain, _ = seconds(lambda: encoder.encode(batch))
    np.testing.assert_allclose(maps, expected, atol=1e-3)
    print(f"{asked.encoder}, {asked.images} images, CPU seconds, one thread; layer {layer.name}")
    print(f"  forward pass alone          {plain:7.2f}")
    print(f"  pytorch-grad-cam, directly  {baseline:7.2f}")
    print(f"  ours                        {ours:7.2f}   {baseline / ours:.1f} times as fast")
    if layer.is_transformer:
        print(f"  attention rollout           {seconds(lambda: attention_rollout(encoder, layer, batch))[0]:7.2f}")


if __name__ == "__main__":
    main()
