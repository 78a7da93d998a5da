"""Sources to vectors: decode → preprocess → batch → forward, decoding ahead in threads while the model computes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding import content_hash, open_image, to_rgb
from pipelines.sources import Source, UnreadableImageError
from pipelines.threads import map_ordered
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

    from pipelines.encoder import Encoder


@dataclass(frozen=True)
class Wanted:
    """An image to encode: its id, and the content it had when its row in ``images`` was made."""

    image_id: str
    content_hash: str


def encode(
    encoder: "Encoder",
    sources: Iterable[Source],
    wanted: Mapping[str, Wanted],
    *,
    batch_size: int = 32,
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
        Threads that decode and preprocess ahead; at most four batches wait.

    Raises
    ------
    CounterstainError
        If an image is no longer what it was when ``images`` was made.
    """
    import torch

    def prepare(source: Source) -> "torch.Tensor":
        try:
            payload = source.load()
            if content_hash(payload) != wanted[source.uri].content_hash:
                raise UnreadableImageError("its content is another")
            return encoder.preprocess(to_rgb(open_image(payload)))
        except UnreadableImageError as error:
            raise CounterstainError(
                f"image {source.uri!r} has changed since the images were read: {error}. Materialize `images` again."
            ) from error

    ids: list[str] = []
    tensors: list[torch.Tensor] = []
    chosen = (source for source in sources if source.uri in wanted)
    for source, tensor in map_ordered(prepare, chosen, workers, look_ahead=4 * batch_size):
        ids.append(wanted[source.uri].image_id)
        tensors.append(tensor)
        if len(ids) == batch_size:
            yield ids, encoder.encode(torch.stack(tensors))
            ids, tensors = [], []
    if ids:
        yield ids, encoder.encode(torch.stack(tensors))
