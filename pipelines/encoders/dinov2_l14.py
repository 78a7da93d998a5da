"""DINOv2 ViT-L/14, through transformers.

Feature: ``pooler_output``. Revision: ``mteb``'s record of the model (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.transformers_family import load

SPEC = EncoderSpec(
    name="dinov2_l14",
    load=load,
    architecture="Dinov2Model",
    checkpoint="facebook/dinov2-large",
    revision="47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
    feature="class token of the last layer, after its norm",
    dimension=1024,
    group="no language",
    text_side=False,
    pretrained_on="LVD-142M, 142 million images without text",
    licence="Apache-2.0",
    source="Oquab et al., arXiv:2304.07193",
)
