"""Sources to saliency maps: decoded and preprocessed in threads, mapped a batch at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.encoder import Encoder
from pipelines.saliency.grad_cam import Target, grad_cam
from pipelines.saliency.view import View, measure_view, png
from pipelines.sources import Source
from pipelines.threads import map_ordered
from pipelines.wanted import Wanted, open_wanted
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

    from pipelines.saliency.layers import SalientLayer

Map = NDArray[np.float32]
GRAD_CAM, ROLLOUT = "grad-cam", "attention rollout"
PICTURE_SIDE_PX = 192


@dataclass(frozen=True)
class Asked:
    """An image to map, and the classes it is asked for, by name."""

    wanted: Wanted
    targets: Mapping[str, Target]


@dataclass(frozen=True, eq=False)
class Seen:
    """Maps of one image, ``(h, w)`` float32 in [0, 1], over the model's input.

    Attributes
    ----------
    image_id
        The image.
    view
        How its places come to lie in the input.
    picture
        A small PNG of the input.
    maps
        By method and class; a method that asks for no class has the class ``""``.
    control
        Grad-CAM by class, of the model with random weights.
    """

    image_id: str
    view: View
    picture: bytes
    maps: Mapping[tuple[str, str], Map]
    control: Mapping[str, Map]


@dataclass(frozen=True, eq=False)
class Mapper:
    """An encoder made ready for maps, beside one with random weights.

    Attributes
    ----------
    encoder, layer
        The encoder, and the layer its maps are read from.
    control
        The same with random weights.
    control_layer
        The same layer there.
    rollout
        Whether attention can be rolled out; if not, `why_not` says why.
    """

    encoder: Encoder
    layer: "SalientLayer"
    control: Encoder
    control_layer: "SalientLayer"
    rollout: bool
    why_not: str

    def maps(
        self, sources: Iterable[Source], asked: Mapping[str, Asked], *, batch_size: int = 8, workers: int = 2
    ) -> Iterator[Seen]:
        """Yield the maps of each image asked for, in the sources' order.

        Parameters
        ----------
        sources
            What a reader yields; those not in `asked` are passed over unread.
        asked
            Images and their targets, by uri.
        batch_size
            Images per forward pass.
        workers
            Threads that decode and preprocess. The model runs in one, since maps are read through hooks.

        Raises
        ------
        CounterstainError
            If an image is no longer what it was when ``images`` was made.
        """
        view_of = lru_cache(maxsize=64)(lambda size: measure_view(self.encoder.preprocess, size))

        def prepare(source: Source) -> "tuple[View, torch.Tensor]":
            _, image = open_wanted(source, asked[source.uri].wanted)
            return view_of(image.size), self.encoder.preprocess(image)

        chosen = (source for source in sources if source.uri in asked)
        batch: list[tuple[Asked, View, torch.Tensor]] = []
        for source, (view, pixels) in map_ordered(prepare, chosen, workers, look_ahead=2 * batch_size):
            batch.append((asked[source.uri], view, pixels))
            if len(batch) == batch_size:
                yield from self._map(batch)
                batch = []
        if batch:
            yield from self._map(batch)

    def _map(self, batch: "Sequence[tuple[Asked, View, torch.Tensor]]") -> Iterator[Seen]:
        import torch

        from pipelines.saliency.rollout import attention_rollout

        pixels = torch.stack([image for _, _, image in batch])
        # An image is repeated for each class that it is asked for.
        pairs = [(row, name) for row, (asked, _, _) in enumerate(batch) for name in asked.targets]
        rows = torch.tensor([row for row, _ in pairs], dtype=torch.int64)
        targets = [batch[row][0].targets[name] for row, name in pairs]
        maps = grad_cam(self.encoder, self.layer, pixels[rows], targets)
        control = grad_cam(self.control, self.control_layer, pixels[rows], targets)
        rolled = attention_rollout(self.encoder, self.layer, pixels) if self.rollout else None
        for row, (asked, view, image) in enumerate(batch):
            mine = [i for i, (of, _) in enumerate(pairs) if of == row]
            found: dict[tuple[str, str], Map] = {(GRAD_CAM, pairs[i][1]): maps[i] for i in mine}
            if rolled is not None:
                found[ROLLOUT, ""] = rolled[row]
            yield Seen(
                image_id=asked.wanted.image_id,
                view=view,
                picture=png(view.picture(image), PICTURE_SIDE_PX),
                maps=found,
                control={pairs[i][1]: control[i] for i in mine},
            )


def mapper(encoder: Encoder, images: Sequence[Image.Image], *, seed: int) -> Mapper:
    """Make an encoder ready for maps.

    Parameters
    ----------
    encoder
        A loaded encoder.
    images
        A few RGB images, over which batch normalisation of the model with random weights is taken.
    seed
        Seed of the random weights.

    Raises
    ------
    CounterstainError
        If no layer of the model has places in the image.
    """
    import torch

    from pipelines.saliency.layers import SalientLayer, find_layer
    from pipelines.saliency.randomised import randomised
    from pipelines.saliency.rollout import attention_rollout

    batch = torch.stack([encoder.preprocess(image) for image in images])
    shape = (int(batch.shape[2]), int(batch.shape[3]))
    layer = find_layer(encoder.forward, shape, encoder.device)
    control = randomised(encoder, batch, seed=seed)
    modules = dict(control.forward.named_modules())
    control_layer = SalientLayer(layer.name, modules[layer.name], layer.grid, layer.prefix, layer.read)
    why_not = ""
    try:
        attention_rollout(encoder, layer, batch[:1])
    except CounterstainError as error:
        why_not = str(error)
    return Mapper(encoder, layer, control, control_layer, not why_not, why_not)
