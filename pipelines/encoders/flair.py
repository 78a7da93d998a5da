"""FLAIR: a ResNet50 trained on 37 public sets of fundus photographs with expert descriptions.

Feature and preprocessing: see `pipelines.families.flair`. Its README lists DeepDRiD among the sets it was trained on.
The repository is the one its README loads; revision and digest: public code that pins them (unverified against the
hub).
"""

from pipelines.encoder import EncoderSpec
from pipelines.families.flair import load

SPEC = EncoderSpec(
    name="flair",
    load=load,
    architecture="ResNet50 with a linear projection",
    checkpoint="jusiro2/FLAIR",
    revision="5f6bdd0a068353dc41a896ba3abdd7c0f6d35938",
    sha256={"model.safetensors": "050334cd934fa3126435c202c41f493ca222fc3fe3ea9c50cf21f67c792a1440"},
    kind="projected",
    feature="projected",
    dimension=512,
    pooled_dimension=2048,
    group="one modality",
    text_side=True,
    pretrained_on="37 public sets of fundus photographs; the tower began on ImageNet-1k",
    modalities=("fundus",),
    exposure={"deepdrid": "data set"},
    licence="Apache-2.0",
    source="Silva-Rodríguez et al., Medical Image Analysis 2025; https://github.com/jusiro/FLAIR",
)
