"""DINOv3 ViT-L/16, through transformers.

Feature: ``pooler_output``, as its model card takes it. Revision: ``mteb``'s record of the model (unverified against the
hub). Its processor exists for tensors only, so its resizing is torchvision's.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.transformers_family import load

SPEC = EncoderSpec(
    name="dinov3_l16",
    load=load,
    architecture="DINOv3ViTModel",
    checkpoint="facebook/dinov3-vitl16-pretrain-lvd1689m",
    revision="ea8dc2863c51be0a264bab82070e3e8836b02d51",
    gated=True,
    feature="class token of the last layer, after its norm",
    dimension=1024,
    group="no language",
    text_side=False,
    pretrained_on="LVD-1689M, 1.7 billion images without text",
    licence="DINOv3 License",
    source="Siméoni et al., arXiv:2508.10104",
)
