"""UNI2-h: a ViT-H/14 trained on tiles of 350,000 slides, through timm.

Architecture: its authors' README. Preprocessing: the repository's ``config.json``. Revision: public code that pins it
(unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.timm_family import load

SPEC = EncoderSpec(
    name="uni2_h",
    load=load,
    architecture="vit_giant_patch14_224",
    checkpoint="MahmoodLab/UNI2-h",
    revision="d517a8dd47902dd7c308b3c36f63bce47e7b9a43",
    gated=True,
    arguments={
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "init_values": 1e-5,
        "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2,
        "no_embed_class": True,
        "mlp_layer": "SwiGLUPacked",
        "act_layer": "silu",
        "reg_tokens": 8,
        "dynamic_img_size": True,
    },
    feature="class token",
    dimension=1536,
    group="one modality",
    text_side=False,
    pretrained_on="more than 200 million tiles of 350,000 slides",
    modalities=("histology",),
    exposure={"breakhis": "modality"},
    licence="CC BY-NC-ND 4.0",
    source="Chen et al., Nature Medicine 2024; https://github.com/mahmoodlab/UNI",
)
