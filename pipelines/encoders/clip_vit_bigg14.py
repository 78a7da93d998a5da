"""CLIP ViT-bigG/14 of LAION, through open_clip.

The table's "G/14". The checkpoint is the one that ``open_clip.pretrained`` names for LAION-2B. Its revision: ``mteb``'s
record of the model (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load
from pipelines.families.open_clip_text import load_text

SPEC = EncoderSpec(
    name="clip_vit_bigg14",
    load=load,
    load_text=load_text,
    architecture="ViT-bigG-14",
    checkpoint="laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    revision="bc7788f151930d91b58474715fdce5524ad9a189",
    kind="projected",
    feature="projected",
    dimension=1280,
    pooled_dimension=1664,
    group="general",
    text_side=True,
    pretrained_on="LAION-2B, 2 billion image and text pairs from the web",
    licence="MIT",
    source="Cherti et al., arXiv:2212.07143; checkpoint named in open_clip.pretrained",
)
