"""LLaVA-Med v1.5 (Mistral-7B): its vision tower.

Layer and tokens: the repository's ``config.json`` (``mm_vision_select_layer`` -2, ``patch``); the mean over them is
ours, see `pipelines.families.llava_family`. That the tower's weights begin with ``model.vision_tower.vision_tower.``,
and the shards' digests: public code that converts this revision (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.exposure import PUBMED_FIGURES
from pipelines.families.llava_family import CLIP_336, CLIP_L14_336, load

SPEC = EncoderSpec(
    name="llava_med",
    load=load,
    architecture="CLIP ViT-L/14 at 336 px",
    checkpoint="microsoft/llava-med-v1.5-mistral-7b",
    revision="91bb16c122001ddc9cf1fd36ce1dae09448943a2",
    arguments={"tower": CLIP_L14_336, "processor": CLIP_336},
    feature="mean of the patch tokens of the last layer but one",
    dimension=1024,
    group="medical",
    text_side=False,
    language_model=True,
    pretrained_on="CLIP on WIT-400M; then 500,000 figures and captions and 60,000 instructions out of PMC-15M",
    sha256={
        "model-00001-of-00004.safetensors": "ef2190dc6c2a940e60f03f5fdb4dddb2320eb87801aeca5c40b0a28ce8aa420e",
        "model-00002-of-00004.safetensors": "2b229607fecd98b8111320178e5bf3e2c527b05a942c85d65b5b507c76c1ed00",
        "model-00003-of-00004.safetensors": "12b18ecdf8924d5fe28ada797fe6697fa60e62cba630759fbeb52975b261c4e2",
        "model-00004-of-00004.safetensors": "1d2063fcd429d3f0f0a8a091b0522f0e02f2d85fe0e5b0eeb4ae168183a603bc",
    },
    modalities=("CT", "MRI", "radiograph", "ultrasound", "histology", "cytology", "dermoscopy"),
    exposure=PUBMED_FIGURES,
    licence="Apache-2.0 as the hub's card has it, research use only by the authors' repository; unverified",
    source="Li et al., arXiv:2306.00890; https://github.com/microsoft/LLaVA-Med",
)
