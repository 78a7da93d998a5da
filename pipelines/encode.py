"""Sources to vectors: decode → preprocess → forward, a batch at a time in each of several threads."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.sources import Source
from pipelines.threads import map_ordered
from pipelines.wanted import Wanted, open_wanted

if TYPE_CHECKING:
    import torch

    from pipelines.encoder import Encoder


def encode(
    encoder: "Encoder",
    sources: Iterable[Source],
    wanted: Mapping[str, Wanted],
    *,
    batch_size: int = 8,
    workers: int = 2,
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Yield ids and vectors ``(b, d)`` float32 of the wanted images, `batch_size` at a time, in the sources' order.

    Parameters
    ----------
    encoder
        A loaded encoder.
    sources
        What a reader yields; those not in `wanted` are passed over unread.
    wanted
        Images to encode, by uri.
    batch_size
        Images per forward pass.
    workers
        Threads, each of which takes a batch from file to vectors; at most two batches for each wait.

    Raises
    ------
    CounterstainError
        If an image is no longer what it was when ``images`` was made.
    """
    import torch

    def encode_batch(batch: list[Source]) -> NDArray[np.float32]:
        return encoder.encode(torch.stack([_prepare(encoder, source, wanted[source.uri]) for source in batch]))

    chosen = (source for source in sources if source.uri in wanted)
    batches = iter(lambda: list(islice(chosen, batch_size)), [])
    cores = torch.get_num_threads()
    # New threads start with this many for each operation: together they fill the cores and no more. Whole batches in
    # parallel need no barrier within an operation, where on a busy machine most of the time would go.
    torch.set_num_threads(max(1, cores // workers))
    try:
        for batch, vectors in map_ordered(encode_batch, batches, workers, look_ahead=2 * workers):
            yield [wanted[source.uri].image_id for source in batch], vectors
    finally:
        torch.set_num_threads(cores)


def _prepare(encoder: "Encoder", source: Source, wanted: Wanted) -> "torch.Tensor":
    _, pixels = open_wanted(source, wanted)
    return encoder.preprocess(pixels)
