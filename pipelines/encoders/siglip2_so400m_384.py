"""SigLIP 2 SO400M/14 at 384 px, through transformers.

Feature: ``SiglipModel.get_image_features``, which is the tower's ``pooler_output``. Revision: ``mteb``'s record of the
model (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.transformers_family import load
from pipelines.families.transformers_text import load_text

SPEC = EncoderSpec(
    name="siglip2_so400m_384",
    load=load,
    load_text=load_text,
    architecture="SiglipVisionModel",
    checkpoint="google/siglip2-so400m-patch14-384",
    revision="e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
    arguments={
        "parts": ("vision_model.",),
        "others": ("text_model.", "logit_scale", "logit_bias"),
        "text": {"architecture": "SiglipTextModel", "parts": ("text_model.",), "length": 64, "lower": True},
    },
    kind="projected",
    feature="pooled by attention; the vector compared with text, as SigLIP projects no further",
    dimension=1152,
    group="general",
    text_side=True,
    pretrained_on="WebLI, 10 billion image and text pairs from the web",
    licence="Apache-2.0",
    source="Tschannen et al., arXiv:2502.14786",
)
