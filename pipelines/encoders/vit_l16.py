"""ViT-L/16 trained on ImageNet-1k alone, through torchvision.

Which weights the study took is unknown; these are torchvision's default.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.torchvision_family import load

SPEC = EncoderSpec(
    name="vit_l16",
    load=load,
    architecture="vit_l_16",
    checkpoint="ViT_L_16_Weights.IMAGENET1K_V1",
    feature="class token, before the classifier",
    dimension=1024,
    group="no language",
    text_side=False,
    pretrained_on="ImageNet-1k",
    licence="BSD-3-Clause",
    source="Dosovitskiy et al., arXiv:2010.11929; torchvision.models",
)
