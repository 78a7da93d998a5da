"""Checkpoints of a training that may be killed at any moment: whole or absent, and read without executing anything.

A checkpoint is a folder ``checkpoint-<epoch>-<step>`` with ``weights.safetensors`` and ``state.pt``, written under
another name and then renamed. The weights of the best epoch lie beside it in ``best-<epoch>.safetensors``; they are let
go only when a checkpoint no longer names them.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from store.schema import CounterstainError

if TYPE_CHECKING:
    import torch

Tensors = Mapping[str, "torch.Tensor"]

_NAME = re.compile(r"checkpoint-(\d+)-(\d+)")
_PARTIAL = ".partial"


def save(folder: Path, epoch: int, step: int, weights: Tensors, state: Mapping[str, Any]) -> None:
    """Write a checkpoint and remove those before it, and the best weights that `state` no longer names.

    Parameters
    ----------
    folder
        Of the training; made if missing.
    epoch, step
        Where the training stands.
    weights
        Of the model, by name.
    state
        Numbers, lists, mappings and tensors; ``best_epoch`` is the epoch of the best weights, or None.
    """
    import torch

    final = folder / f"checkpoint-{epoch:05d}-{step:07d}"
    partial = folder / (final.name + _PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_tensors(partial / "weights.safetensors", weights)
    with (partial / "state.pt").open("wb") as file:
        torch.save(dict(state), file)
        os.fsync(file.fileno())
    _sync(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync(folder)
    kept = {final.name, best_path(folder, state["best_epoch"]).name if state["best_epoch"] is not None else ""}
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith("best-"):
            path.unlink()


def newest(folder: Path, device: str) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]] | None:
    """Return weights and state of the newest whole checkpoint; None where there is none.

    Raises
    ------
    CounterstainError
        If it is damaged.
    """
    import torch
    from safetensors import SafetensorError

    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    if not found:
        return None
    path = max(found, key=lambda each: each.name)
    try:
        state: dict[str, Any] = torch.load(path / "state.pt", map_location=device, weights_only=True)
        return read_tensors(path / "weights.safetensors"), state
    except UnpicklingError as error:  # torch's own message advises to execute it
        raise CounterstainError(
            f"the checkpoint {path} is damaged (it holds more than numbers and tensors): delete it to train anew."
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise CounterstainError(f"the checkpoint {path} is damaged ({error}): delete it to train anew.") from error


def best_path(folder: Path, epoch: int) -> Path:
    """Return where the weights of the best epoch lie."""
    return folder / f"best-{epoch:05d}.safetensors"


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write tensors to a safetensors file that appears whole or not at all."""
    from safetensors.torch import save_file

    partial = path.with_name(path.name + _PARTIAL)
    # Tensors that share memory, and layouts other than the plain one, have no place in the format.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    _sync(path.parent)


def read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a safetensors file, by name."""
    from safetensors.torch import load_file

    return load_file(path)


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
