"""How many images a forward pass takes at its best, found by trying."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from pipelines.encoder import Encoder

LARGEST = 512
# On a CPU small batches win, as their activations fit its caches; larger ones need not be tried.
LARGEST_ON_CPU = 32
# A larger batch must be this much faster for each image; at this multiple of the best size the search ends.
GAIN = 1.05
PATIENCE = 4
# Time one size may take; the next would take twice that.
SECONDS_FOR_A_SIZE = 5.0


def find_batch_size(encoder: "Encoder", workers: int = 1, *, at_most: int = LARGEST) -> int:
    """Return the size, a power of two, at which an encoder needs least time for each image.

    Sizes are doubled until memory runs out or larger ones no longer gain. The vectors do not depend on the size, but
    for their last digits.

    Parameters
    ----------
    encoder
        A loaded encoder.
    workers
        Threads that encode at the same time, among which the cores are shared out.
    at_most
        Images there are to encode.

    Raises
    ------
    torch.OutOfMemoryError
        If there is no room for a single image.
    """
    import torch
    from PIL import Image

    image = encoder.preprocess(Image.new("RGB", (256, 256), (127, 127, 127)))
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // workers))
    best_size, best_seconds = 1, float("inf")
    largest = min(at_most, LARGEST_ON_CPU if encoder.device == "cpu" else LARGEST)
    size = 1
    try:
        encoder.encode(image[None])  # the first pass of all also sets things up
        while size <= largest:
            try:
                seconds = _seconds_for_each(encoder, image, size)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                break
            if seconds * GAIN < best_seconds:
                best_size, best_seconds = size, seconds
            if size >= PATIENCE * best_size or seconds * size > SECONDS_FOR_A_SIZE:
                break
            size *= 2
    finally:
        torch.set_num_threads(cores)
    return best_size


def _seconds_for_each(encoder: "Encoder", image: "torch.Tensor", size: int) -> float:
    """Return the seconds an image takes in a batch, the better of two passes.

    On a CPU they are the processor's, which no other program's work adds to.
    """
    clock = time.process_time if encoder.device == "cpu" else time.perf_counter
    batch = image.expand(size, *image.shape).contiguous()
    passes = []
    for _ in range(2):
        start = clock()
        encoder.encode(batch)
        passes.append(clock() - start)
    return min(passes) / size
