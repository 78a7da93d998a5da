"""CLIP ViT-B/16 of OpenAI, through open_clip.

The checkpoint is the one that ``open_clip.pretrained`` names. Its revision: public code that pins it (unverified
against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load
from pipelines.families.open_clip_text import load_text

SPEC = EncoderSpec(
    name="clip_vit_b16",
    load=load,
    load_text=load_text,
    architecture="ViT-B-16-quickgelu",
    checkpoint="timm/vit_base_patch16_clip_224.openai",
    revision="977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
    kind="projected",
    feature="projected",
    dimension=512,
    pooled_dimension=768,
    group="general",
    text_side=True,
    pretrained_on="WIT-400M, 400 million image and text pairs from the web",
    licence="MIT",
    source="Radford et al., arXiv:2103.00020; checkpoint named in open_clip.pretrained",
)
