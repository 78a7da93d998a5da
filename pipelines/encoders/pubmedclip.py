"""PubMedCLIP ViT-B/32: OpenAI's CLIP trained further on the radiology figures of ROCO.

The repository is a user's copy of the authors' weights for transformers. Revision and digest: public code that pins
them (unverified against the hub). It holds a pickle, which is read without being executed.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.transformers_family import load
from pipelines.families.transformers_text import load_text

SPEC = EncoderSpec(
    name="pubmedclip",
    load=load,
    load_text=load_text,
    architecture="CLIPVisionModelWithProjection",
    checkpoint="flaviagiammarino/pubmed-clip-vit-base-patch32",
    revision="26c0c67f6da303ad2a38909130bd35744ea93517",
    sha256={"pytorch_model.bin": "4daa7650d2b47e55c37b5ca7dcabe826fd82407c26028a574bcc422f35a94aa4"},
    arguments={
        "parts": ("vision_model.", "visual_projection."),
        "others": ("text_model.", "text_projection.", "logit_scale"),
        "config": {"projection_dim": 512},
        "text": {
            "architecture": "CLIPTextModelWithProjection",
            "parts": ("text_model.", "text_projection."),
            "length": 77,
        },
    },
    kind="projected",
    feature="projected",
    dimension=512,
    pooled_dimension=768,
    group="medical",
    text_side=True,
    pretrained_on="WIT-400M; then ROCO, 80,000 radiology figures and captions of PubMed Central",
    modalities=("CT", "MRI", "radiograph", "ultrasound"),
    exposure={
        "brainmr": "modality",
        "sarscov2ct": "modality",
        "pneumoniamnist": "modality",
        "breastus": "modality",
    },
    licence="MIT",
    source="Eslami et al., EACL Findings 2023; https://github.com/sarahESL/PubMedCLIP",
)
