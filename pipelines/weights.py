"""Weights out of checkpoint files: those of one tower, without executing pickles, and all or nothing."""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from pipelines.hub import INDEX_SUFFIX, Checkpoint
from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

# As hub repositories of transformers and timm models name them; safetensors first.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Weights:
    """A tower's weights by name, and the SHA-256 of each file they were read from."""

    tensors: "dict[str, torch.Tensor]"
    files: dict[str, str]


@contextmanager
def refusing(checkpoint: Checkpoint) -> Iterator[None]:
    """Say which checkpoint it is where a library refuses one that is damaged, holds code, or does not fit."""
    from safetensors import SafetensorError

    try:
        yield
    except (
        RuntimeError, ValueError, TypeError, OSError, LookupError, AttributeError, EOFError,
        AssertionError, StopIteration, UnpicklingError, SafetensorError, struct.error,
    ) as error:  # fmt: skip
        raise CounterstainError(f"{checkpoint.spec.name}: cannot load {checkpoint}: {error}") from error


def read_weights(
    checkpoint: Checkpoint,
    names: Sequence[str] = WEIGHT_FILES,
    *,
    parts: Sequence[str] = ("",),
    others: Sequence[str] | None = None,
    within: str | None = None,
) -> Weights:
    """Return the weights whose names begin with one of `parts`.

    Of a checkpoint in shards only those that hold such a weight are asked for, as its index says. Of a safetensors
    file only such weights are read.

    Parameters
    ----------
    checkpoint
        Where the files are.
    names
        Files that may hold the weights; the first that exists is read. Each may also be in shards, with an index.
    parts
        How names of the tower's weights begin.
    others
        How names of the model's other weights begin; any further name is refused. Without it, all may be passed over.
    within
        Key of the weights in a file that holds more besides.

    Raises
    ------
    CounterstainError
        If there is no such file, it cannot be read, is not the published one, or holds no such weight.
    """
    path = checkpoint.need(*(file for name in names for file in (name, name + INDEX_SUFFIX)))
    with refusing(checkpoint):
        files = [path] if not path.name.endswith(INDEX_SUFFIX) else _shards(checkpoint, path, tuple(parts))
        digests = {file.name: checkpoint.sha256(file) for file in files}
        tensors: dict[str, torch.Tensor] = {}
        known: set[str] = set()
        for file in files:
            read, all_names = _read_file(file, tuple(parts), within)
            tensors |= read
            known |= all_names
        if not tensors:
            raise ValueError(f"it holds no weight that begins with {' or '.join(map(repr, parts))}")
        if others is not None and (strange := sorted(n for n in known if not n.startswith((*parts, *others)))):
            raise ValueError(f"it holds unexpected weights: {_listed(strange)}")
    return Weights(tensors, digests)


def without_prefix(tensors: "Mapping[str, torch.Tensor]", *prefixes: str) -> "dict[str, torch.Tensor]":
    """Return weights by the rest of their names, after the first of `prefixes` that fits."""
    return {
        name.removeprefix(next((prefix for prefix in prefixes if name.startswith(prefix)), "")): tensor
        for name, tensor in tensors.items()
    }


def fit(
    checkpoint: Checkpoint,
    module: "torch.nn.Module",
    tensors: "Mapping[str, torch.Tensor]",
    *,
    ignorable: Sequence[str] = (),
) -> None:
    """Put weights into a module, every one into its place.

    Parameters
    ----------
    ignorable
        How names of weights begin that the tower's own code does not use for this feature.

    Raises
    ------
    CounterstainError
        If one is missing, unexpected or of another shape.
    """
    used = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(ignorable))}
    with refusing(checkpoint):
        module.load_state_dict(used, strict=True)


def _shards(checkpoint: Checkpoint, index: Path, parts: tuple[str, ...]) -> list[Path]:
    """Return the shards that hold a weight of the tower."""
    places = json.loads(index.read_text())["weight_map"]
    shards = sorted({shard for name, shard in places.items() if name.startswith(parts)})
    if any(Path(shard).name != shard or shard == ".." for shard in shards):
        raise ValueError(f"{index.name} names a shard outside of its folder")
    return [checkpoint.need(shard) for shard in shards]


def _read_file(file: Path, parts: tuple[str, ...], within: str | None) -> "tuple[dict[str, torch.Tensor], set[str]]":
    """Return the weights that begin with one of `parts`, and the names of all."""
    import numpy as np
    import torch
    from numpy._core import multiarray
    from safetensors import safe_open

    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            names = set(opened.keys())
            return {name: opened.get_tensor(name) for name in sorted(names) if name.startswith(parts)}, names
    # Numbers of NumPy, which training code leaves beside the weights, are no code.
    scalar = multiarray.scalar
    harmless: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    try:
        with torch.serialization.safe_globals(harmless):
            # Mapped into memory where the format allows: of a large file only the tower is then read.
            content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except UnpicklingError as error:
        raise ValueError(f"{file.name} holds more than weights, or is damaged; nothing in it is executed") from error
    if within is not None:
        content = content[within]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{file.name} holds other things than weights")
    return {name: tensor for name, tensor in content.items() if name.startswith(parts)}, set(content)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
