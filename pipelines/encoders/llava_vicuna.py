"""LLaVA 1.6 (Vicuna-13B): its vision tower.

Layer and tokens: ``mm_vision_select_layer`` and ``mm_vision_select_feature`` of the repository's ``config.json``; the
mean over them is ours, see `pipelines.families.llava_family`. Revision: public code that pins it (unverified against
the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.llava_family import CLIP_336, CLIP_L14_336, load

SPEC = EncoderSpec(
    name="llava_vicuna",
    load=load,
    architecture="CLIP ViT-L/14 at 336 px",
    checkpoint="liuhaotian/llava-v1.6-vicuna-13b",
    revision="22422b4c3a3ef1ba52aca074cc9021216877ce5d",
    arguments={"tower": CLIP_L14_336, "processor": CLIP_336},
    feature="mean of the patch tokens of the last layer but one",
    dimension=1024,
    group="general",
    text_side=False,
    language_model=True,
    pretrained_on="CLIP on WIT-400M; then instructions about natural images",
    licence="Llama 2 Community License",
    source="Liu et al., arXiv:2310.03744; https://github.com/haotian-liu/LLaVA",
)
