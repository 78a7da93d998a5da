"""RAD-DINO: DINOv2 ViT-B/14 at 518 px, trained further on chest radiographs, through transformers.

Feature: the class token, as its model card recommends. Revision and digest: public code that pins them (unverified
against the hub). Licence: its model card at that revision, MIT; earlier ones said MSRLA.
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.transformers_family import load

SPEC = EncoderSpec(
    name="rad_dino",
    load=load,
    architecture="Dinov2Model",
    checkpoint="microsoft/rad-dino",
    revision="110cbc18d5133582e320b43d53bf5c44e410c936",
    sha256={"model.safetensors": "dbfb9f54459c38773505de64a6ab7807bdcb392610fe1e697166342e43fb91ae"},
    feature="class token of the last layer, after its norm",
    dimension=768,
    group="one modality",
    text_side=False,
    pretrained_on="LVD-142M; then chest radiographs of MIMIC-CXR, CheXpert, NIH, PadChest and BRAX",
    modalities=("radiograph",),
    exposure={"pneumoniamnist": "modality"},
    licence="MIT, for research",
    source="Pérez-García et al., arXiv:2401.10815",
)
