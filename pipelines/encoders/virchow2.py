"""Virchow2: a ViT-H/14 trained on tiles of 3.1 million slides, through timm.

Its model card's vector: the class token followed by the mean of the patch tokens, without the four register tokens.
Architecture: that card, as TRIDENT loads it. Preprocessing: the repository's ``config.json``. Revision and digest:
public code that pins them (unverified against the hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.timm_family import load

SPEC = EncoderSpec(
    name="virchow2",
    load=load,
    architecture="vit_huge_patch14_224",
    checkpoint="paige-ai/Virchow2",
    revision="3158645804b69e3f3bc4439d4116edddf0840a72",
    sha256={"model.safetensors": "8d6cea947eb2418c3b0dff48cfb9b238e47744ab0dfca21b2b0637b140769b4b"},
    gated=True,
    arguments={
        "img_size": 224,
        "init_values": 1e-5,
        "reg_tokens": 4,
        "mlp_ratio": 5.3375,
        "global_pool": "",
        "mlp_layer": "SwiGLUPacked",
        "act_layer": "silu",
        "dynamic_img_size": True,
        "pooling": "class and patches",
    },
    feature="class token and mean of the patch tokens",
    dimension=2560,
    group="one modality",
    text_side=False,
    pretrained_on="tiles of 3.1 million slides of Memorial Sloan Kettering",
    modalities=("histology",),
    exposure={"breakhis": "modality"},
    licence="CC BY-NC-ND 4.0",
    source="Zimmermann et al., arXiv:2408.00738",
)
