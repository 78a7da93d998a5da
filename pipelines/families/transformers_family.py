"""Encoders of transformers: one model class, with the repository's configuration and image processor.

``spec.architecture`` is the class. ``spec.arguments`` may say

parts
    how the names of the tower's weights begin, where the checkpoint holds more than the tower;
others
    how the names of its other weights begin, where they are known;
config
    settings that the repository's configuration lacks or says differently;
processor
    the image processor's settings (see `clip_processor`), where the repository has none.

Weights are read and checked here, and then handed to ``from_pretrained``, which knows older names of the same weights.
A model with a projection behind its tower is a class that ends in ``WithProjection``; the vector of any other class is
its ``pooler_output``.

Source: https://github.com/huggingface/transformers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.hub import open_checkpoint
from pipelines.weights import read_weights, refusing

if TYPE_CHECKING:
    import torch
    from PIL import Image

CONFIG_FILE = "config.json"
PROCESSOR_FILE = "preprocessor_config.json"
# Buffers that older versions of the library saved; they are computed, not learned.
COMPUTED = ("position_ids", "relative_position_index")


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load an image tower and its processor from a local folder or the hub, strictly.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit the class.
    """
    import transformers

    from pipelines.families.towers import Output

    checkpoint = open_checkpoint(spec, options)
    config_file = checkpoint.need(CONFIG_FILE)
    settings = spec.arguments.get("processor")
    processor_file = checkpoint.need(PROCESSOR_FILE) if settings is None else None
    weights = read_weights(checkpoint, parts=spec.arguments.get("parts", ("",)), others=spec.arguments.get("others"))
    with refusing(checkpoint), quiet():
        kind = getattr(transformers, spec.architecture)
        config = kind.config_class.from_pretrained(config_file.parent, **spec.arguments.get("config", {}))
        model: Any = build(kind, config, weights.tensors)
        if settings is not None:
            processor = clip_processor(settings)
        elif processor_file is not None:
            processor = transformers.AutoImageProcessor.from_pretrained(
                processor_file.parent, backend="pil", trust_remote_code=False
            )
    if spec.architecture.endswith("WithProjection"):
        tower = Output(model.vision_model, "pooler_output") if spec.kind == "pooled" else Output(model, "image_embeds")
    else:
        tower = Output(model, "pooler_output")
    return assemble(spec, tower, Processed(processor), options, weights.files)


def build(kind: Any, config: Any, tensors: "Mapping[str, torch.Tensor]", **options: Any) -> "torch.nn.Module":
    """Return a model of a class with given weights, every one in its place; raise `ValueError` otherwise.

    `options` are those of the class beside its configuration.
    """
    import torch

    used = {name: tensor for name, tensor in tensors.items() if not name.endswith(COMPUTED)}
    model, report = kind.from_pretrained(
        None, config=config, state_dict=used, output_loading_info=True, dtype=torch.float32, **options
    )
    if faults := [f"{what} {', '.join(sorted(map(str, names))[:5])}" for what, names in report.items() if names]:
        raise ValueError(f"its weights do not fit {kind.__name__}: {'; '.join(faults)}")
    built: torch.nn.Module = model
    return built


def clip_processor(settings: Mapping[str, Any]) -> Any:
    """Return CLIP's image processor with given settings; else those of the class: OpenAI's mean, deviation, bicubic."""
    import transformers

    return transformers.CLIPImageProcessorPil(**settings)


class Processed:
    """An image processor of transformers as a function from one image to its tensor, described by its settings."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: "Image.Image") -> "torch.Tensor":
        """Return the pixels of an image, ``(3, h, w)`` float32."""
        pixels: torch.Tensor = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    def __repr__(self) -> str:
        return str(self.processor)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's load reports and progress bars off the console; what they say is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
