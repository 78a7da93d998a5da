"""CXR-CLIP Swin-T, trained on MIMIC-CXR, CheXpert and ChestX-ray14.

Everything but the training data: see `pipelines.families.cxr_clip`. Of the authors' three Swin-T this is the one with
the most data; which one the study took is unknown.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.cxr_clip import load

SPEC = EncoderSpec(
    name="cxr_clip",
    load=load,
    architecture="Swin-T with a linear projection",
    checkpoint="swint_mcc.tar of github.com/Soombit-ai/cxr-clip",
    arguments={"file": "swint_mcc.tar", "page": "the README of github.com/Soombit-ai/cxr-clip"},
    kind="projected",
    feature="first token, projected",
    dimension=512,
    pooled_dimension=768,
    group="one modality",
    text_side=True,
    pretrained_on="MIMIC-CXR, CheXpert and ChestX-ray14, chest radiographs and reports; the tower began on ImageNet-1k",
    modalities=("radiograph",),
    exposure={"pneumoniamnist": "modality"},
    licence="CC BY-NC 4.0 by its README, CC BY-NC-SA 4.0 by its LICENSE",
    source="You et al., arXiv:2310.13292; https://github.com/Soombit-ai/cxr-clip",
)
