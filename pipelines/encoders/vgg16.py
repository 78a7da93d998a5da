"""VGG16, through torchvision.

Which layer the study took is unknown; this is what the last layer classifies (4,096 numbers). Torchvision has these
weights only.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.torchvision_family import load

SPEC = EncoderSpec(
    name="vgg16",
    load=load,
    architecture="vgg16",
    checkpoint="VGG16_Weights.IMAGENET1K_V1",
    feature="before the classifier",
    dimension=4096,
    group="no language",
    text_side=False,
    pretrained_on="ImageNet-1k",
    licence="BSD-3-Clause",
    source="Simonyan and Zisserman, arXiv:1409.1556; torchvision.models",
)
