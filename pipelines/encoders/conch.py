"""CONCH: a ViT-B/16 with attentional pooling, trained with CoCa on figures and captions of pathology.

Everything but revision and training data: see `pipelines.families.conch`. The authors' README takes the *pooled* vector
for linear probes and the projected one for retrieval. Revision: public code that pins it (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.conch import load
from pipelines.families.conch_text import load_text

SPEC = EncoderSpec(
    name="conch",
    load=load,
    load_text=load_text,
    architecture="ViT-B/16 of CoCa",
    checkpoint="MahmoodLab/CONCH",
    revision="f9ca9f877171a28ade80228fb195ac5d79003357",
    gated=True,
    kind="projected",
    feature="projected",
    dimension=512,
    pooled_dimension=512,
    group="one modality",
    text_side=True,
    pretrained_on="1.17 million figures and captions of pathology; the tower began on tiles of slides",
    modalities=("histology",),
    exposure={"breakhis": "modality"},
    licence="CC BY-NC-ND 4.0",
    source="Lu et al., Nature Medicine 2024; https://github.com/mahmoodlab/CONCH",
)
