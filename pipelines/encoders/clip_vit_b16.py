"""CLIP ViT-B/16 of OpenAI, through open_clip."""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load

SPEC = EncoderSpec(
    name="clip_vit_b16",
    load=load,
    architecture="ViT-B-16-quickgelu",
    checkpoint="timm/vit_base_patch16_clip_224.openai",
    feature="projected",
    dimension=512,
    group="general",
    text_side=True,
    pretrained_on="WIT-400M, 400 million image and text pairs from the web",
    licence="MIT",
    source="Radford et al., arXiv:2103.00020; checkpoint named in open_clip.pretrained, revision unverified",
)
