"""CLIP's ViT-S/16 image tower with random weights: a control that a CPU encodes four times as fast as ViT-B/16."""

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load_untrained

SPEC = EncoderSpec(
    name="untrained_vit_s16",
    load=load_untrained,
    architecture="ViT-S-16",
    checkpoint=None,
    kind="projected",
    feature="projected, of random weights from seed 0",
    dimension=384,
    group="control",
    text_side=False,
    pretrained_on="nothing",
    licence="MIT (architecture of open_clip)",
    source="https://github.com/mlfoundations/open_clip, model_configs/ViT-S-16.json",
)
