"""LLaVA 1.6 (Mistral-7B), as converted for transformers: its vision tower.

Layer: the repository's ``config.json`` (``vision_feature_layer`` -2); the mean over its patch tokens is ours, see
`pipelines.families.llava_family`. Revision: public code that pins it (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.llava_family import load

SPEC = EncoderSpec(
    name="llava_mistral",
    load=load,
    architecture="CLIP ViT-L/14 at 336 px",
    checkpoint="llava-hf/llava-v1.6-mistral-7b-hf",
    revision="52320fb52229c8d942b1dcb8b63b3dc8087bc83b",
    feature="mean of the patch tokens of the last layer but one",
    dimension=1024,
    group="general",
    text_side=False,
    language_model=True,
    pretrained_on="CLIP on WIT-400M; then instructions about natural images",
    licence="Apache-2.0",
    source="Liu et al., arXiv:2310.03744; https://github.com/haotian-liu/LLaVA",
)
