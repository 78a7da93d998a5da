"""CLIP's ViT-B/16 image tower with random weights: what can be had from an architecture that has seen nothing."""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load_untrained

SPEC = EncoderSpec(
    name="untrained_vit_b16",
    load=load_untrained,
    architecture="ViT-B-16",
    checkpoint=None,
    kind="projected",
    feature="projected, of random weights from seed 0",
    dimension=512,
    group="control",
    text_side=False,
    pretrained_on="nothing",
    licence="MIT (architecture of open_clip)",
    source="https://github.com/mlfoundations/open_clip, model_configs/ViT-B-16.json",
)
