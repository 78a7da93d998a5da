"""The one settings object: a Dagster resource, filled from ``COUNTERSTAIN_*`` variables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field, ValidationError

from pipelines.encoder import EncoderSpec, LoadOptions
from pipelines.encoders import available_specs
from pipelines.finetuning.recipe import Mode
from pipelines.precision import Precision
from store import Warehouse, open_warehouse
from store.schema import CounterstainError


class Project(dg.ConfigurableResource[None]):
    """Where the warehouse is, how images are encoded, and what the analyses are asked for.

    Attributes
    ----------
    warehouse
        Folder or object-store URI.
    checkpoint_dir
        Folder with a subfolder of checkpoint files per encoder, used before the hub; empty for none.
    prompt_dir
        Folder of further prompt sets; empty for none.
    device
        Torch device.
    precision
        Of the forward pass: ``bfloat16`` is refused for an encoder whose vectors it moves.
    batch_size
        Images per forward pass; 0 for the fastest of some that are tried.
    workers
        Threads that take images from file to vector, at most the number of cores.
    stage_size
        Encoded images staged at once; a run that is killed loses no more, nor more than some seconds' work.
    terms
        Table of the terms that burned-in words are normalised to; empty for the one that comes with the package.
    saliency_images
        Images of a data set whose saliency is mapped; 0 for all.
    attacked_images
        Images of a data set that class names are written into; 0 for all.
    layout_grid
        ``coarse`` (3 × 2 cells) or ``study`` (10 × 5).
    k
        Neighbours per image that audits read.
    repeats
        Times the label's probes are done, each with its own split.
    seed
        Seed of every analysis.
    calibration_repetitions
        Sets with nothing planted on which each test is calibrated.
    finetune_mode
        ``linear`` (a head on the vectors) or ``full`` (the encoder too).
    finetune_multi_label
        Whether labels are sets, joined by ``;``.
    finetune_epochs, finetune_patience, finetune_batch_size, finetune_weight_decay
        As `pipelines.finetuning.recipe.Recipe`.
    finetune_learning_rate
        0 for the study's: 1e-4 of a head, 1e-5 of an encoder.
    finetune_precision
        Of the forward pass in training; ``auto`` is bfloat16 on a GPU that computes in it, else float32.
    finetune_name
        Of the training, and of the encoder it makes; empty for one made of encoder, data set, mode and seed.
    """

    warehouse: str = "warehouse"
    checkpoint_dir: str = ""
    prompt_dir: str = ""
    device: str = "cpu"
    precision: Precision = "float32"
    batch_size: int = Field(0, ge=0)
    workers: int = Field(2, ge=1)
    stage_size: int = Field(256, ge=1)
    terms: str = ""
    saliency_images: int = Field(128, ge=0)
    attacked_images: int = Field(96, ge=0)
    layout_grid: Literal["coarse", "study"] = "coarse"
    k: int = Field(15, ge=1)
    repeats: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    calibration_repetitions: int = Field(200, ge=1)
    finetune_mode: Mode = "linear"
    finetune_multi_label: bool = False
    finetune_epochs: int = Field(10, ge=1)
    finetune_patience: int = Field(5, ge=1)
    finetune_batch_size: int = Field(24, ge=2)
    finetune_learning_rate: float = Field(0.0, ge=0)
    finetune_weight_decay: float = Field(1e-2, ge=0)
    finetune_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    finetune_name: str = ""

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, *, warehouse: str | None = None
    ) -> "Project":
        """Return the settings: ``COUNTERSTAIN_<NAME>`` where it is set, else the default; `warehouse` if given.

        Raises
        ------
        CounterstainError
            If a variable does not fit its setting.
        """
        named = {name: environment.get(f"COUNTERSTAIN_{name.upper()}") for name in cls.model_fields}
        if warehouse is not None:
            named["warehouse"] = warehouse
        try:
            # Validation turns text into each setting's own type.
            return cls.model_validate({name: value for name, value in named.items() if value is not None})
        except ValidationError as error:
            fault = error.errors()[0]
            name = str(fault["loc"][0])
            raise CounterstainError(f"COUNTERSTAIN_{name.upper()}={fault['input']!r}: {fault['msg']}.") from error

    def open(self) -> Warehouse:
        """Open the warehouse."""
        return open_warehouse(self.warehouse)

    def load_options(self) -> LoadOptions:
        """Return where and how encoders are loaded."""
        folder = Path(self.checkpoint_dir).expanduser() if self.checkpoint_dir else None
        return LoadOptions(folder, self.device, self.precision, finetuned_dir(self.open()))

    def home(self) -> Path:
        """Return a local folder for what is not a table: the Dagster instance, reports, fine-tuned encoders."""
        return home_of(self.open())

    def encoder_specs(self) -> dict[str, EncoderSpec]:
        """Return the registered encoders and those fine-tuned in this warehouse, by name."""
        return available_specs(finetuned_dir(self.open()))


def home_of(warehouse: Warehouse) -> Path:
    """Return the local folder of a warehouse for what is not a table."""
    return Path(warehouse.uri) if warehouse.is_local else warehouse.cache_dir


def finetuned_dir(warehouse: Warehouse) -> Path:
    """Return the folder of the trainings by gradient, and so of the encoders that were fine-tuned."""
    return home_of(warehouse) / "finetuned"
