"""Vision towers of LLaVA models, without their language models: only the shards that hold the tower are read.

The tower is CLIP's ViT-L/14 at 336 px. LLaVA reads the patch tokens of its last layer but one; which single vector of
them the study took is unknown. Here it is their *mean*.

A repository of the authors' own code names the CLIP repository that the tower began as, and has neither that one's
configuration nor its processor: both are declared in ``spec.arguments`` (``tower``, ``processor``). One that was
converted for transformers has both. What the authors' code does with an image that is not square is in their
configuration (``image_aspect_ratio``): ``pad`` it with the mean colour; or ``anyres``, which shows the tower the whole
image squashed to a square, and then tiles of it. The tiles are left out here: their number differs from image to image.
With ``s2`` the tower sees the image at several scales, in tiles of the smallest, and its channels are put side by side.

Sources: https://github.com/haotian-liu/LLaVA, ``llava/model/multimodal_encoder/clip_encoder.py`` and
``llava/mm_utils.py`` (``process_images``); https://github.com/bfshi/scaling_on_scales, ``s2wrapper/core.py``;
transformers ``LlavaNextImageProcessor``.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.families.transformers_family import CONFIG_FILE, PROCESSOR_FILE, build, clip_processor, quiet
from pipelines.hub import open_checkpoint
from pipelines.weights import read_weights, refusing, without_prefix

if TYPE_CHECKING:
    import torch
    from PIL import Image

# How the tower's weights begin: in the authors' own layout, and in the two that transformers has used.
TOWERS = ("model.vision_tower.vision_tower.", "model.vision_tower.", "vision_tower.")

# openai/clip-vit-large-patch14-336: config.json and preprocessor_config.json.
CLIP_L14_336: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
CLIP_336: Mapping[str, Any] = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}

# What may be done with an image that is not square: filled up, squashed, or cut to its middle.
FITTINGS = ("pad", "anyres", "square")
# Settings that LLaVA's processor and CLIP's share; the size is the tower's.
OF_CLIP = ("resample", "rescale_factor", "image_mean", "image_std", "do_rescale", "do_normalize", "do_convert_rgb")


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load a vision tower out of a LLaVA checkpoint, from a local folder or the hub, strictly.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or its tower is not as its configuration says.
    """
    import transformers

    from pipelines.families.towers import MeanOfPatches

    checkpoint = open_checkpoint(spec, options)
    config_file = checkpoint.need(CONFIG_FILE)
    declared = spec.arguments.get("processor")
    processor_file = checkpoint.need(PROCESSOR_FILE) if declared is None else None
    weights = read_weights(checkpoint, parts=TOWERS)
    with refusing(checkpoint), quiet():
        config = json.loads(config_file.read_text())
        tower = transformers.CLIPVisionConfig.from_dict(spec.arguments.get("tower") or config["vision_config"])
        model = build(transformers.CLIPVisionModel, tower, without_prefix(weights.tensors, *TOWERS))
        layer = config.get("mm_vision_select_layer", config.get("vision_feature_layer", -2))
        scales = _scales(config)
        if any(size % tower.image_size for size in scales):
            raise ValueError(f"its scales {scales} are no multiples of {tower.image_size} px")
        settings = dict(declared or json.loads(processor_file.read_text()))  # type: ignore[union-attr]
        fitting = config.get("image_aspect_ratio") or settings.get("aspect_ratio_setting") or "square"
        if fitting not in FITTINGS:
            raise ValueError(f"its image_aspect_ratio {fitting!r} is none of {', '.join(FITTINGS)}")
        preprocess = Fitted(settings, fitting, max(scales, default=tower.image_size))
    return assemble(spec, MeanOfPatches(model, layer, scales), preprocess, options, weights.files)


class Fitted:
    """CLIP's image processor behind LLaVA's way with an image that is not square.

    Attributes
    ----------
    processor
        CLIP's, at the side the tower is shown.
    fitting
        One of `FITTINGS`.
    side_px
        Of the square that comes out.
    """

    def __init__(self, settings: Mapping[str, Any], fitting: str, side_px: int) -> None:
        square = {"size": {"shortest_edge": side_px}, "crop_size": {"height": side_px, "width": side_px}}
        self.processor = clip_processor({key: settings[key] for key in OF_CLIP if key in settings} | square)
        self.fitting = fitting
        self.side_px = side_px

    def __call__(self, image: "Image.Image") -> "torch.Tensor":
        """Return the square that the tower is shown, ``(3, side, side)`` float32."""
        if self.fitting == "pad":
            image = _padded(image, self.processor.image_mean)
        elif self.fitting == "anyres":
            image = image.resize((self.side_px, self.side_px))
        pixels: torch.Tensor = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    def __repr__(self) -> str:
        return f"{self.fitting} {self.processor}"


def _padded(image: "Image.Image", mean: Sequence[float]) -> "Image.Image":
    """Return an image in the middle of a square of the mean colour."""
    from PIL import Image

    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _scales(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the sides in px at which the tower sees an image, the smallest first; none where it sees just one."""
    if not config.get("s2"):
        return ()
    return tuple(sorted(int(size) for size in str(config.get("s2_scales", "336,672,1008")).split(",")))
