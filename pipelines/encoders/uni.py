"""UNI: a ViT-L/16 trained on tiles of 100,000 slides, through timm.

The study's table says B/16; the model its authors published is an L/16. Architecture: their README. Preprocessing: the
repository's ``config.json``. Revision and digest: public code that pins them (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.timm_family import load

SPEC = EncoderSpec(
    name="uni",
    load=load,
    architecture="vit_large_patch16_224",
    checkpoint="MahmoodLab/UNI",
    revision="b55a5ec6cade1a39edfe6534189a9b8ca7a022f0",
    sha256={"pytorch_model.bin": "56ef09b44a25dc5c7eedc55551b3d47bcd17659a7a33837cf9abc9ec4e2ffb40"},
    gated=True,
    arguments={"img_size": 224, "patch_size": 16, "init_values": 1e-5, "dynamic_img_size": True},
    feature="class token",
    dimension=1024,
    group="one modality",
    text_side=False,
    pretrained_on="Mass-100K, 100 million tiles of 100,000 slides",
    modalities=("histology",),
    exposure={"breakhis": "modality"},
    licence="CC BY-NC-ND 4.0",
    source="Chen et al., Nature Medicine 2024; https://github.com/mahmoodlab/UNI",
)
