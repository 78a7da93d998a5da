"""MedSigLIP at 448 px: SigLIP SO400M/14, trained further on medical images and text, through transformers.

Feature: ``SiglipModel.get_image_features``, which is the tower's ``pooler_output``. Revision: public code that pins it
(unverified against the hub). Kinds of image and licence: its model card, which names no data set of the study.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.transformers_family import load
from pipelines.families.transformers_text import load_text

SPEC = EncoderSpec(
    name="medsiglip_448",
    load=load,
    load_text=load_text,
    architecture="SiglipVisionModel",
    checkpoint="google/medsiglip-448",
    revision="9cea28a1a1195f665105faa6e8544c112fd960a4",
    gated=True,
    arguments={
        "parts": ("vision_model.",),
        "others": ("text_model.", "logit_scale", "logit_bias"),
        "text": {"architecture": "SiglipTextModel", "parts": ("text_model.",), "length": 64},
    },
    kind="projected",
    feature="pooled by attention; the vector compared with text, as SigLIP projects no further",
    dimension=1152,
    group="medical",
    text_side=True,
    pretrained_on="WebLI; then 33 million medical images and texts",
    modalities=("CT", "MRI", "radiograph", "histology", "fundus", "dermoscopy"),
    exposure={
        "brainmr": "modality",
        "sarscov2ct": "modality",
        "pneumoniamnist": "modality",
        "breakhis": "modality",
        "deepdrid": "modality",
        "isic2019": "modality",
    },
    licence="Health AI Developer Foundations terms of use",
    source="Sellergren et al., arXiv:2507.05201",
)
