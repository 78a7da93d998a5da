"""LLaVA-Med++ (Llama-3-8B), fine-tuned on VQA-RAD: its vision tower.

Which of the three published models the study took is unknown; this is the first that the README names. It grew from
``MBZUAI/LLaVA-Meta-Llama-3-8B-Instruct-FT-S2``, whose tower sees the image at 336, 672 and 1,008 px. That its
``config.json`` says so, and which shards hold the tower, is unverified; no commit of the repository could be found, so
none is pinned.
"""

from pipelines.encoder import EncoderSpec
from pipelines.exposure import PUBMED_FIGURES
from pipelines.families.llava_family import CLIP_336, CLIP_L14_336, load

SPEC = EncoderSpec(
    name="llava_med_pp",
    load=load,
    architecture="CLIP ViT-L/14 at 336 px",
    checkpoint="yunfeixie/LLaVA-Tri-VQARAD",
    arguments={"tower": CLIP_L14_336, "processor": CLIP_336},
    feature="mean of the patch tokens of the last layer but one, at three scales side by side",
    dimension=3072,
    group="medical",
    text_side=False,
    language_model=True,
    pretrained_on="CLIP on WIT-400M; then figures of PubMed Central, a subset of MedTrinity-25M, and VQA-RAD",
    modalities=("CT", "MRI", "radiograph", "ultrasound", "histology", "cytology", "dermoscopy"),
    exposure=PUBMED_FIGURES,
    licence="unverified",
    source="Xie et al., arXiv:2408.02900; https://github.com/UCSC-VLAA/MedTrinity-25M",
)
