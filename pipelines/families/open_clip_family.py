"""Encoders of open_clip: the image tower of a CLIP-like model, ending in its projection.

Source: https://github.com/mlfoundations/open_clip, ``open_clip.factory``.
"""

import logging
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.hub import hub_checkpoint
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

# The files of a hub repository that open_clip reads.
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load a pretrained image tower from a local folder or the hub, strictly and without executing pickles.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit the architecture.
    """
    import open_clip
    from safetensors import SafetensorError

    wanted = (CONFIG_FILE, *WEIGHT_FILES, "*.json", "*.txt")
    folder = hub_checkpoint(spec, options, wanted)
    weights = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not weights or not (folder / CONFIG_FILE).is_file():
        raise CounterstainError(
            f"{spec.name}: {folder} is no open_clip checkpoint: it needs {CONFIG_FILE} and {' or '.join(WEIGHT_FILES)}."
        )
    try:
        model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, weights_only=True)
    # What open_clip, torch and safetensors raise for a checkpoint that is damaged, holds code, or does not fit.
    except (
        RuntimeError, ValueError, TypeError, OSError, KeyError, AttributeError, EOFError,
        AssertionError, StopIteration, UnpicklingError, SafetensorError,
    ) as error:  # fmt: skip
        raise CounterstainError(f"{spec.name}: cannot load {folder}: {error}") from error
    return _encoder(spec, model, options)


def load_untrained(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Make an image tower with random weights from seed 0: the control, which has seen nothing."""
    import open_clip
    import torch

    # open_clip warns that nothing was loaded, which is the purpose here.
    logging.getLogger().addFilter(_is_not_random_weights_warning)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(spec.architecture, pretrained=None)
    finally:
        logging.getLogger().removeFilter(_is_not_random_weights_warning)
    return _encoder(spec, model, options)


def _encoder(spec: EncoderSpec, model: Any, options: LoadOptions) -> Encoder:
    from open_clip import get_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2

    tower: torch.nn.Module = model.visual
    preprocess = image_transform_v2(PreprocessCfg(**get_model_preprocess_cfg(model)), is_train=False)
    return assemble(spec, tower, preprocess, options.device)


def _is_not_random_weights_warning(record: logging.LogRecord) -> bool:
    return "Model initialized randomly" not in record.getMessage()
