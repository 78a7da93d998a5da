"""Tokenizers of transformers, read from a checkpoint's own files and never from the hub by name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.hub import Checkpoint
from pipelines.text_encoder import described
from pipelines.weights import refusing
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

# What a repository may hold of a tokenizer; the first of each row that there is. Without the first two rows there is
# none.
FILES = (
    ("tokenizer_config.json",),
    ("tokenizer.json", "spiece.model", "vocab.txt", "vocab.json"),
    ("special_tokens_map.json",),
    ("merges.txt",),
    ("added_tokens.json",),
)
NEEDED = 2


class HubTokenizer:
    """A tokenizer of transformers as a function from texts to ids ``(b, length)``.

    Attributes
    ----------
    length
        Tokens that a text is cut off at.
    lower
        Whether texts are put in lower case first, where the tokenizer does not.
    trimmed
        Whether padding that all texts have is left out; else every text has `length` ids.
    """

    def __init__(self, tokenizer: Any, content: bytes, *, length: int, lower: bool, trimmed: bool) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self.lower = lower
        self.trimmed = trimmed
        self._words = described(
            type(tokenizer).__name__, content, length=length, lower=lower, special=str(tokenizer.special_tokens_map)
        )

    def __call__(self, texts: Sequence[str]) -> "torch.Tensor":
        """Return the ids of texts, whose runs of white space count as one blank."""
        clean = [" ".join(text.split()) for text in texts]
        ids: torch.Tensor = self.tokenizer(
            [text.lower() for text in clean] if self.lower else clean,
            padding="longest" if self.trimmed else "max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )["input_ids"]
        return ids

    def __repr__(self) -> str:
        return self._words


def read_tokenizer(checkpoint: Checkpoint, *, length: int, lower: bool = False, trimmed: bool = False) -> HubTokenizer:
    """Return the tokenizer of a checkpoint; no code that comes with it is run.

    Raises
    ------
    CounterstainError
        If its files are missing or damaged, or a package is missing that reads them.
    """
    from transformers import AutoTokenizer

    needed = [checkpoint.need(*names) for names in FILES[:NEEDED]]
    found = [path for names in FILES[NEEDED:] if (path := checkpoint.find(*names))]
    try:
        with refusing(checkpoint):
            tokenizer = AutoTokenizer.from_pretrained(needed[0].parent, trust_remote_code=False, local_files_only=True)
    except ImportError as error:
        raise CounterstainError(
            f"{checkpoint.spec.name}: its tokenizer needs a package that is not installed: {str(error).strip()}"
        ) from error
    content = b"".join(path.read_bytes() for path in [*needed, *found])
    return HubTokenizer(tokenizer, content, length=length, lower=lower, trimmed=trimmed)
