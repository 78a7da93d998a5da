"""CONCH's text tower: CoCa's, whose class token comes last and reads what is no padding.

Its tokenizer's file is part of the authors' code and not of the hub's repository: put it beside the weights, into a
local folder. The mask of the class token is CoCa's original one, shifted by one place, as the model was trained with
it; open_clip's transformer keeps it for such checkpoints.

Source: https://github.com/mahmoodlab/CONCH, ``conch/open_clip_custom`` (``transformer.py``, ``coca_model.py``,
``custom_tokenizer.py``) and ``model_configs/conch_ViT-B-16.json``.
"""

from collections.abc import Mapping
from typing import Any

from pipelines.encoder import EncoderSpec, LoadOptions
from pipelines.families.conch import TOWER
from pipelines.families.open_clip_text import LOGITS, logits
from pipelines.families.tokenizers import HubTokenizer
from pipelines.hub import open_checkpoint
from pipelines.text_encoder import TextEncoder, assemble_text
from pipelines.weights import fit, read_weights, refusing, without_prefix
from store.schema import CounterstainError

# model_configs/conch_ViT-B-16.json; the last of its 128 places is the class token's.
TEXT: Mapping[str, Any] = {"context_length": 127, "vocab_size": 32007, "width": 768, "heads": 12, "layers": 12}
TOKENIZER_FILE = "conch_byte_level_bpe_uncased.json"
TOKENIZER_PAGE = "https://github.com/mahmoodlab/CONCH/tree/main/conch/open_clip_custom/tokenizers"
PARTS = ("text.", *LOGITS)


def load_text(spec: EncoderSpec, options: LoadOptions) -> TextEncoder:
    """Load the text tower and its tokenizer from a local folder, strictly.

    Raises
    ------
    CounterstainError
        If there is no checkpoint, it does not fit, or the tokenizer's file is not beside it.
    """
    import open_clip.transformer
    import transformers

    checkpoint = open_checkpoint(spec, options)
    file = checkpoint.folder / TOKENIZER_FILE if checkpoint.folder else None
    if file is None or not file.is_file():
        raise CounterstainError(
            f"{spec.name}: its tokenizer is not on the hub: put {TOKENIZER_FILE} of {TOKENIZER_PAGE} beside its "
            f"other files into {checkpoint.advice}/ and set COUNTERSTAIN_CHECKPOINT_DIR={checkpoint.advice.parent}."
        )
    weights = read_weights(checkpoint, parts=PARTS, others=(TOWER, "text_decoder."))
    sizes = spec.arguments.get("text", TEXT)
    with refusing(checkpoint):
        scale, bias = logits(weights.tensors)
        tower = open_clip.transformer.TextTransformer(output_dim=spec.dimension, embed_cls=True, **sizes)
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(file), bos_token="<start_of_text>", eos_token="<end_of_text>", pad_token="<pad>"
        )
    fit(checkpoint, tower, without_prefix({n: t for n, t in weights.tensors.items() if n not in LOGITS}, "text."))
    tokenize = HubTokenizer(tokenizer, file.read_bytes(), length=sizes["context_length"], lower=False, trimmed=False)
    return assemble_text(spec, tower, tokenize, options, logit_scale=scale, logit_bias=bias, files=weights.files)
