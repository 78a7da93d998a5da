"""Fine-tuning a tiny encoder in a process of its own, which may be killed."""

import time
from pathlib import Path

import pipelines.encoders
from assets import finetuning
from assets.project import Project
from assets.registry import add_dataset
from assets.step import Cell
from assets.steps import STEPS
from pipelines.encoders import encoder_specs
from pipelines.finetuning import training
from pipelines.sources import DataSet
from tests.tiny_encoder import tiny_specs

SETTINGS = {
    "finetune_mode": "full", "finetune_epochs": 6, "finetune_batch_size": 8, "finetune_learning_rate": 0.02, "seed": 7,
}  # fmt: skip


def register_tiny() -> None:
    """Register the tiny encoder in this process."""
    registered = encoder_specs() | tiny_specs()
    pipelines.encoders.encoder_specs = lambda: registered  # type: ignore[assignment]


def prepare(warehouse: str, folder: Path, **settings: object) -> Project:
    """Read phantoms and encode them."""
    project = Project(warehouse=warehouse, workers=1, **SETTINGS | settings)
    add_dataset(project.open(), DataSet("phantoms", "manifest", folder))
    STEPS["images"].run(Cell(project, project.open(), "phantoms", ""), "images")
    STEPS["embeddings"].run(cell(project), "embeddings")
    return project


def cell(project: Project, encoder: str = "tiny") -> Cell:
    return Cell(project, project.open(), "phantoms", encoder)


def finetune_and_hang(warehouse: str, folder: Path, steps: int, reports) -> None:
    """Write a checkpoint at every step; after so many steps say so, and wait."""
    register_tiny()
    project = prepare(warehouse, folder)
    training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    done = 0

    def advance(self: object, images: int) -> None:
        nonlocal done
        done += 1
        if done == steps:
            reports.send(done)
            time.sleep(3600)

    finetuning.Watch.advance = advance  # type: ignore[method-assign]
    STEPS["finetuning"].run(cell(project), "finetuning")
