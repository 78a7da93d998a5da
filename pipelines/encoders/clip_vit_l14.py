"""CLIP ViT-L/14 of OpenAI, through open_clip.

One version of the study's table calls its second CLIP L/14, the other H/14, with the same scores; both are here. The
checkpoint is the one that ``open_clip.pretrained`` names. Its revision: public code that pins it (unverified against
the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load
from pipelines.families.open_clip_text import load_text

SPEC = EncoderSpec(
    name="clip_vit_l14",
    load=load,
    load_text=load_text,
    architecture="ViT-L-14-quickgelu",
    checkpoint="timm/vit_large_patch14_clip_224.openai",
    revision="18d0535469bb561bf468d76c1d73aa35156c922b",
    kind="projected",
    feature="projected",
    dimension=768,
    pooled_dimension=1024,
    group="general",
    text_side=True,
    pretrained_on="WIT-400M, 400 million image and text pairs from the web",
    licence="MIT",
    source="Radford et al., arXiv:2103.00020; checkpoint named in open_clip.pretrained",
)
