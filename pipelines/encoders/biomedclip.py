"""BiomedCLIP: ViT-B/16 and PubMedBERT, trained on 15 million figures and captions of PubMed Central, through open_clip.

Feature and preprocessing: the repository's ``open_clip_config.json``, read by open_clip's own code. Revision and
digest: public code that pins them (unverified against the hub). Training data and licence: its model card.
"""

from pipelines.encoder import EncoderSpec
from pipelines.exposure import PUBMED_FIGURES
from pipelines.families.open_clip_family import load
from pipelines.families.open_clip_text import load_text

SPEC = EncoderSpec(
    name="biomedclip",
    load=load,
    load_text=load_text,
    architecture="vit_base_patch16_224 of timm with a linear projection",
    checkpoint="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
    sha256={"open_clip_pytorch_model.bin": "52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be"},
    # BiomedBERT's; BERT's defaults are its sizes.
    arguments={"text_config": {"model_type": "bert", "vocab_size": 30522}},
    kind="projected",
    feature="projected",
    dimension=512,
    pooled_dimension=768,
    group="medical",
    text_side=True,
    pretrained_on="PMC-15M, 15 million figures and captions of PubMed Central",
    modalities=("CT", "MRI", "radiograph", "ultrasound", "histology", "cytology", "dermoscopy"),
    exposure=PUBMED_FIGURES,
    licence="MIT",
    source="Zhang et al., arXiv:2303.00915",
)
