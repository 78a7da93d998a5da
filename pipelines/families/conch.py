"""CONCH: a ViT-B/16 of timm whose patch tokens are pooled by attention into one vector, and projected.

The released file holds image and text encoder, without the decoder that made CoCa of them. Its second attentional
pooler, which made the tokens that the decoder read, is passed over.

Source: https://github.com/mahmoodlab/CONCH, ``conch/open_clip_custom`` (``vision_tower.py``, ``transformer.py``,
``coca_model.py``, ``transform.py``, ``factory.py``) and ``model_configs/conch_ViT-B-16.json``.
"""

from collections.abc import Mapping
from typing import Any

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.hub import open_checkpoint
from pipelines.weights import fit, read_weights, refusing, without_prefix

# model_configs/conch_ViT-B-16.json, with the defaults of `CoCaVisionCfg`.
VIT_B16: Mapping[str, Any] = {
    "embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4, "patch_size": 16, "img_size": 448,
}  # fmt: skip
TOWER = "visual."
OTHER_PARTS = ("text.", "text_decoder.", "logit_scale")
CAPTION_POOLER = ("attn_pool_caption.", "ln_caption.")
# ``constants.py``: OpenAI's.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load the image tower from a local folder or the hub, strictly.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit.
    """
    from torchvision import transforms

    from pipelines.families.conch_tower import ConchTower

    checkpoint = open_checkpoint(spec, options)
    weights = read_weights(checkpoint, parts=(TOWER,), others=OTHER_PARTS)
    trunk = spec.arguments.get("trunk", VIT_B16)
    with refusing(checkpoint):
        tower = ConchTower(trunk, spec.arguments.get("embed_dim", 512))
    fit(checkpoint, tower, without_prefix(weights.tensors, TOWER), ignorable=CAPTION_POOLER)
    tower.projects = spec.kind == "projected"
    preprocess = transforms.Compose(
        [
            transforms.Resize(trunk["img_size"], interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(trunk["img_size"]),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, DEVIATION),
        ]
    )
    return assemble(spec, tower, preprocess, options, weights.files)
