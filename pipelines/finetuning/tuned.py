"""What a training leaves behind, and the encoder that it makes: a folder each, found like any registered encoder.

A folder ``<name>`` holds ``training.json``, the head's weights in ``head.safetensors``, every image's logits in
``logits.safetensors``, and, where the encoder itself was trained, its weights in ``model.safetensors``. It appears
under its name only when it is whole.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from pipelines.finetuning.checkpoints import read_tensors, write_tensors
from pipelines.finetuning.recipe import Mode
from pipelines.hub import Checkpoint
from pipelines.weights import fit, read_weights
from store.schema import CounterstainError, check_encoder_name

if TYPE_CHECKING:
    from pipelines.finetuning.training import Trained

RECORD_FILE = "training.json"
MODEL_FILE = "model.safetensors"
HEAD_FILE = "head.safetensors"
LOGITS_FILE = "logits.safetensors"


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes
    ----------
    name
        Of the folder, and of the encoder where one was made.
    base
        The encoder it began with.
    base_fingerprint
        Of that encoder's weights and preprocessing.
    dataset
        Whose images it saw.
    exposed
        Names under which that data set is known: its own, and its reader's where the reader reads no other.
    mode
        What was trained.
    digest
        Of everything that it follows from: recipe, encoder, images, labels and parts.
    classes
        Names of the head's outputs.
    best_epoch
        Whose weights these are, from 1.
    history
        Losses of every epoch.
    sha256
        Digests of the files beside the record, by name.
    """

    name: str
    base: str
    base_fingerprint: str
    dataset: str
    exposed: tuple[str, ...]
    mode: Mode
    digest: str
    classes: tuple[str, ...]
    best_epoch: int
    history: tuple[Mapping[str, float], ...]
    sha256: Mapping[str, str]

    def __post_init__(self) -> None:
        check_encoder_name(self.name)


def publish(folder: Path, training: Training, trained: "Trained") -> Training:
    """Put what a training made under its name, in place of an earlier one of that name; return its whole record."""
    final = folder / training.name
    partial = folder / f".{training.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model = trained.model
    write_tensors(partial / HEAD_FILE, model.head.state_dict())
    _write_logits(partial / LOGITS_FILE, trained.logits)
    if training.mode == "full":
        write_tensors(partial / MODEL_FILE, model.tower.state_dict())
    digests = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
    whole = replace(training, sha256=digests)
    (partial / RECORD_FILE).write_text(json.dumps(asdict(whole), indent=1), encoding="utf-8")
    # There is no moment without either, but for that between two renames.
    aside = folder / f".{training.name}.replaced"
    shutil.rmtree(aside, ignore_errors=True)
    if final.exists():
        final.rename(aside)
    partial.rename(final)
    shutil.rmtree(aside, ignore_errors=True)
    return whole


def history_of(trained: "Trained") -> "tuple[dict[str, float], ...]":
    """Return the epochs of a training as a record holds them."""
    return tuple(asdict(epoch) for epoch in trained.history)


def read_training(folder: Path, name: str) -> Training | None:
    """Return the record of a finished training; None where there is none.

    Raises
    ------
    CounterstainError
        If there is one that cannot be read.
    """
    path = folder / name / RECORD_FILE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if set(stored) != {each.name for each in fields(Training)} or stored["name"] != name:
            raise ValueError("it is no record of that training")
        lists = {key: tuple(stored[key]) for key in ("exposed", "classes", "history")}
        return Training(**stored | lists)
    except (OSError, ValueError, TypeError, CounterstainError) as error:
        raise CounterstainError(f"{path} cannot be read ({error}): delete its folder, and train again.") from error


def read_logits(folder: Path, training: Training) -> NDArray[np.float32]:
    """Return the logits ``(n, classes)`` that a training gave every image, in the order of ids."""
    path = folder / training.name / LOGITS_FILE
    if not path.is_file() or _sha256(path) != training.sha256.get(LOGITS_FILE):
        raise CounterstainError(f"{path} is not the file that was written: delete its folder, and train again.")
    logits: NDArray[np.float32] = read_tensors(path)["logits"].numpy()
    return logits


def finetuned_specs(folder: Path | None, known: Mapping[str, EncoderSpec]) -> dict[str, EncoderSpec]:
    """Return the encoders in a folder of trainings by name; those made from an encoder that is not known are left out.

    Raises
    ------
    CounterstainError
        If a record cannot be read, or its name is that of a registered encoder.
    """
    specs: dict[str, EncoderSpec] = {}
    if folder is None or not folder.is_dir():
        return specs
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    trainings = [t for name in names if (t := read_training(folder, name)) is not None and t.mode == "full"]
    if taken := [t.name for t in trainings if t.name in known]:
        raise CounterstainError(f"{folder / taken[0]} has the name of a registered encoder: rename it.")
    # One may be made from another.
    while ready := [t for t in trainings if t.name not in specs and (t.base in specs or t.base in known)]:
        specs |= {t.name: _spec(t, specs.get(t.base) or known[t.base]) for t in ready}
    return specs


def _spec(training: Training, base: EncoderSpec) -> EncoderSpec:
    """Return the record of a fine-tuned encoder: its base's, with other weights, more seen, and no text beside it."""
    weights = training.sha256[MODEL_FILE]
    return replace(
        base,
        name=training.name,
        load=load,
        checkpoint=training.name,
        revision=weights[:32],
        sha256={MODEL_FILE: weights},
        arguments={"base": training.base, "base_fingerprint": training.base_fingerprint},
        # Vectors that were trained to be told apart by class no longer lie where those of texts do.
        text_side=False,
        load_text=None,
        kind="pooled",
        pooled_dimension=None,
        gated=False,
        pretrained_on=f"{base.pretrained_on}; fine-tuned on {training.dataset}",
        source=f"fine-tuned here from {training.base} on {training.dataset}",
        exposure={**base.exposure, **dict.fromkeys(training.exposed, "data set")},
        variant_of=training.base,
    )


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load a fine-tuned encoder: its base for architecture and preprocessing, and its own weights, strictly.

    Raises
    ------
    CounterstainError
        If the base cannot be loaded or is not what training began with, or the weights are not those recorded.
    """
    from pipelines.encoders import load_encoder

    base = load_encoder(spec.arguments["base"], replace(options, precision="float32"))
    if base.fingerprint != spec.arguments["base_fingerprint"]:
        raise CounterstainError(
            f"{spec.name}: it was trained from other weights of {base.spec.name} than those that are here now: bring "
            "those back, or train again."
        )
    if options.finetuned_dir is None:
        raise CounterstainError(f"{spec.name}: it is to be had from the warehouse it was trained in only.")
    folder = options.finetuned_dir / spec.name
    checkpoint = Checkpoint(spec, folder, folder)
    weights = read_weights(checkpoint, [MODEL_FILE])
    fit(checkpoint, base.forward, weights.tensors)
    return assemble(spec, base.forward, base.preprocess, options, weights.files)


def _write_logits(path: Path, logits: NDArray[np.float32]) -> None:
    import torch

    write_tensors(path, {"logits": torch.from_numpy(logits)})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
