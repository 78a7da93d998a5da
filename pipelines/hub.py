"""Where a checkpoint lies: a folder the user gives, or the model hub."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.encoder import EncoderSpec, LoadOptions
from store.schema import CounterstainError


def hub_checkpoint(spec: EncoderSpec, options: LoadOptions, files: Sequence[str]) -> Path:
    """Return the folder of an encoder's checkpoint: the local one if given, else the hub's at its pinned revision.

    Raises
    ------
    CounterstainError
        If neither can be had; the message says which folder to fill, and what the hub answered.
    """
    local = options.local_checkpoint(spec.name)
    if local is not None:
        return local
    if spec.checkpoint is None:
        raise CounterstainError(f"{spec.name} names no checkpoint.")
    from huggingface_hub import snapshot_download

    # The base of what the hub's HTTP client raises; it comes through bare where a proxy refuses.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        return Path(snapshot_download(spec.checkpoint, revision=spec.revision, allow_patterns=list(files)))
    except (HTTPError, OSError) as error:
        base = options.checkpoint_dir or Path("DIR")
        raise CounterstainError(
            f"{spec.name}: its checkpoint {spec.checkpoint} cannot be had from the hub "
            f"({type(error).__name__}). Put the files of the repository into {base / spec.name}/ and set "
            f"COUNTERSTAIN_CHECKPOINT_DIR={base}; if it is gated, accept its terms on its hub page and set HF_TOKEN."
        ) from error
