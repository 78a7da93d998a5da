"""LLM2CLIP L/14 at 336 px: OpenAI's image tower, trained further against the captions that a language model encodes.

The model card preprocesses with the processor of ``openai/clip-vit-large-patch14-336`` and takes
``get_image_features``: the pooled token times ``visual_projection``. Revision: ``mteb``'s record of the model. That the
repository's weights begin as declared is read off its class (a ``CLIPModel`` with another text side); unverified
against the files.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.llava_family import CLIP_336
from pipelines.families.transformers_family import load

SPEC = EncoderSpec(
    name="llm2clip_l14_336",
    load=load,
    architecture="CLIPVisionModelWithProjection",
    checkpoint="microsoft/LLM2CLIP-Openai-L-14-336",
    revision="92512331f393a003c3d98404677f991c188162c9",
    arguments={
        "parts": ("vision_model.", "visual_projection."),
        "config": {"projection_dim": 1280},
        "processor": CLIP_336,
    },
    kind="projected",
    feature="projected",
    dimension=1280,
    pooled_dimension=1024,
    group="general",
    text_side=True,
    language_model=True,
    pretrained_on="WIT-400M; then CC3M, CC12M, YFCC15M and 30 million images of Recap-DataComp-1B",
    licence="Apache-2.0",
    source="Huang et al., arXiv:2411.04997",
)
