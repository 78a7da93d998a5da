"""CLIP ViT-H/14 of LAION, through open_clip.

Which weights the study took is unknown; OpenAI published none of this size. The checkpoint is the one that
``open_clip.pretrained`` names for LAION-2B. Its revision: ``mteb``'s record of the model (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load
from pipelines.families.open_clip_text import load_text

SPEC = EncoderSpec(
    name="clip_vit_h14",
    load=load,
    load_text=load_text,
    architecture="ViT-H-14",
    checkpoint="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    revision="de081ac0a0ca8dc9d1533eed1ae884bb8ae1404b",
    kind="projected",
    feature="projected",
    dimension=1024,
    pooled_dimension=1280,
    group="general",
    text_side=True,
    pretrained_on="LAION-2B, 2 billion image and text pairs from the web",
    licence="MIT",
    source="Cherti et al., arXiv:2212.07143; checkpoint named in open_clip.pretrained",
)
