"""EVA02-CLIP L/14 at 336 px, through open_clip.

The projection is the trunk's own head (``timm_proj`` is null). The checkpoint is the one that ``open_clip.pretrained``
names. Its revision and digest: public code that pins them (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load
from pipelines.families.open_clip_text import load_text

SPEC = EncoderSpec(
    name="eva02_l14_336",
    load=load,
    load_text=load_text,
    architecture="EVA02-L-14-336",
    checkpoint="timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k",
    revision="4f62907359c8506be7021582f360564693b22c15",
    sha256={"open_clip_model.safetensors": "f753bca0e8327f77e8845b0af2510d599c3e4614237007b48078c791f2cf391c"},
    kind="projected",
    feature="projected",
    dimension=768,
    pooled_dimension=1024,
    group="general",
    text_side=True,
    pretrained_on="Merged-2B: LAION-2B and COYO-700M, image and text pairs from the web",
    licence="MIT",
    source="Sun et al., arXiv:2303.15389; checkpoint named in open_clip.pretrained",
)
