"""Text towers of transformers: CLIP's with its projection, SigLIP's.

``spec.arguments["text"]`` says

architecture
    the class;
parts
    how the names of the tower's weights begin;
length
    tokens that a text is cut off or filled up to;
lower
    whether texts were put in lower case in training, where the tokenizer does not do so itself.

Source: https://github.com/huggingface/transformers.
"""

from typing import Any

from pipelines.encoder import EncoderSpec, LoadOptions
from pipelines.families.open_clip_text import LOGITS, logits
from pipelines.families.tokenizers import read_tokenizer
from pipelines.families.transformers_family import CONFIG_FILE, build, quiet
from pipelines.hub import open_checkpoint
from pipelines.text_encoder import TextEncoder, assemble_text
from pipelines.weights import read_weights, refusing


def load_text(spec: EncoderSpec, options: LoadOptions) -> TextEncoder:
    """Load a text tower and its tokenizer from a local folder or the hub, strictly.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, or it does not fit the class.
    """
    import transformers

    from pipelines.families.towers import TextOutput

    said = spec.arguments["text"]
    checkpoint = open_checkpoint(spec, options)
    config_file = checkpoint.need(CONFIG_FILE)
    others = ("vision_model.", "visual_projection.")
    weights = read_weights(checkpoint, parts=(*said["parts"], *LOGITS), others=others)
    with refusing(checkpoint), quiet():
        kind = getattr(transformers, said["architecture"])
        # The projection's size is the vector's; the towers' own record of it is a default.
        sizes = {"projection_dim" if kind.__name__.startswith("CLIP") else "projection_size": spec.dimension}
        config = kind.config_class.from_pretrained(config_file.parent, **sizes)
        scale, bias = logits(weights.tensors)
        tower: Any = build(kind, config, {name: t for name, t in weights.tensors.items() if name not in LOGITS})
    field = "text_embeds" if kind.__name__.endswith("WithProjection") else "pooler_output"
    tokenize = read_tokenizer(checkpoint, length=said["length"], lower=said.get("lower", False))
    return assemble_text(
        spec, TextOutput(tower, field), tokenize, options, logit_scale=scale, logit_bias=bias, files=weights.files
    )
