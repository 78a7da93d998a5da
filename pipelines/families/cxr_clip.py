"""CXR-CLIP's Swin-T: an image tower of transformers with a linear projection, in a training checkpoint.

The vector that its authors call the image embedding is the *first* of the tower's 49 tokens, projected: their code
takes token 0 "only for vision transformer", and does so for Swin too, which has no class token. It is the top left
patch's token. Ours is the same; the final division by the norm is left out.

The checkpoint also holds the optimiser and the training configuration. Their Swin came from
``microsoft/swin-tiny-patch4-window7-224``, whose architecture is declared here.

Source: https://github.com/Soombit-ai/cxr-clip, ``cxrclip/model/clip.py``, ``cxrclip/model/modules/image_encoder.py``,
``cxrclip/evaluator.py``, ``cxrclip/data/data_utils.py`` and ``configs/transform/default.yaml``. That torch reads the
published files without executing pickles is unverified.
"""

from collections.abc import Mapping
from typing import Any

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.families.transformers_family import build, quiet
from pipelines.hub import open_checkpoint
from pipelines.weights import fit, read_weights, refusing, without_prefix
from store.schema import CounterstainError

# configs/model/clip_swin_clinical.yaml names it; these are the settings of its config.json.
SWIN_TINY: Mapping[str, Any] = {
    "image_size": 224, "patch_size": 4, "embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24],
    "window_size": 7,
}  # fmt: skip
TOWER = "image_encoder.image_encoder."
PROJECTION = "image_projection.projection."
OTHER_PARTS = ("text_encoder.", "text_projection.", "logit_scale")
# `SwinModel` comes with a pooler, whose mean their code does not use.
UNUSED = "pooler."


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load the image tower out of the authors' published file, which must lie in a local folder.

    Raises
    ------
    CounterstainError
        If the file is not there, or does not fit the architecture.
    """
    import torch
    import transformers
    from torchvision import transforms

    from pipelines.families.towers import FirstToken, Projected

    file_name, page = spec.arguments["file"], spec.arguments["page"]
    checkpoint = open_checkpoint(spec, options)
    if checkpoint.folder is None:
        raise CounterstainError(
            f"{spec.name}: its checkpoint is on no hub. Put {file_name}, to which {page} links, into "
            f"{checkpoint.advice}/ and set COUNTERSTAIN_CHECKPOINT_DIR={checkpoint.advice.parent}."
        )
    weights = read_weights(checkpoint, [file_name], parts=(TOWER, PROJECTION), others=OTHER_PARTS, within="model")
    tower = {n: t for n, t in without_prefix(weights.tensors, TOWER).items() if not n.startswith((PROJECTION, UNUSED))}
    projection = {n.removeprefix(PROJECTION): t for n, t in weights.tensors.items() if n.startswith(PROJECTION)}
    with refusing(checkpoint), quiet():
        config = transformers.SwinConfig(**spec.arguments.get("tower", SWIN_TINY))
        swin = build(transformers.SwinModel, config, tower, add_pooling_layer=False)
        linear = torch.nn.Linear(config.hidden_size, spec.arguments.get("projection", 512))
    fit(checkpoint, linear, projection)
    side = config.image_size
    preprocess = transforms.Compose(
        [
            transforms.Resize(side),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    projected = Projected(FirstToken(swin), linear if spec.kind == "projected" else None)
    return assemble(spec, projected, preprocess, options, weights.files)
