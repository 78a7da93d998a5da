"""ResNet50, through torchvision.

Which weights the study took is unknown; these are the ones the name has meant since 2017 (torchvision's V2 came in
2022).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.torchvision_family import load

SPEC = EncoderSpec(
    name="resnet50",
    load=load,
    architecture="resnet50",
    checkpoint="ResNet50_Weights.IMAGENET1K_V1",
    feature="pooled, before the classifier",
    dimension=2048,
    group="no language",
    text_side=False,
    pretrained_on="ImageNet-1k",
    licence="BSD-3-Clause",
    source="He et al., arXiv:1512.03385; torchvision.models",
)
