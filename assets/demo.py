"""The main job on phantoms, end to end."""

from pathlib import Path
from typing import cast, get_args

from assets import materializing
from assets.bias_report import report_path
from assets.project import Project
from assets.registry import add_dataset
from assets.step import log
from pipelines.phantoms import Modality, PhantomSpec, write_phantoms
from pipelines.sources import DataSet
from store.schema import CounterstainError

IMAGES = 192
ENCODERS = ("efficientnet_lite0", "untrained_vit_s16")
# One set whose words and callipers have nothing to do with the label, and one in which they go with it.
DATA_SETS = {"phantom_fair": 0.0, "phantom_confounded": 0.9}


def draw_phantoms(folder: Path, modality: str, images: int, strength: float, association: float, seed: int) -> Path:
    """Write a phantom data set and return its manifest; raises `CounterstainError` where a setting is out of range."""
    if modality not in get_args(Modality):
        raise CounterstainError(f"no modality {modality!r}; phantoms are drawn as {', '.join(get_args(Modality))}.")
    try:
        spec = PhantomSpec(
            modality=cast("Modality", modality),
            n_images=images,
            strength=strength,
            association=association,
            seed=seed,
        )
    except ValueError as error:
        raise CounterstainError(f"phantoms: {error}") from error
    return write_phantoms(folder, spec)


def run_demo(project: Project, program: str) -> str:
    """Draw two phantom data sets, run everything on them with two encoders; return what was found and where to look.

    `program` is how the command line was called, for the commands to try next.
    """
    warehouse = project.open()
    for seed, (name, association) in enumerate(DATA_SETS.items()):
        folder = project.home() / "phantoms" / name
        if not (folder / "manifest.csv").exists():
            log.info("drawing %d images of %s", IMAGES, name)
            draw_phantoms(folder, "ultrasound", IMAGES, 1.0, association, seed)
        add_dataset(warehouse, DataSet(name, "manifest", folder))
    with materializing.dagster_instance(project) as instance:
        materializing.materialize(project, instance, list(DATA_SETS), ENCODERS)
    return _found(project, program)


def _found(project: Project, program: str) -> str:
    """Return the verdicts, cell by cell, and where to read more."""
    findings = project.open().frame("findings").sort("dataset", "encoder", "row").collect()
    lines = ["", "What each encoder separates the images by:"]
    for (dataset, encoder), rows in findings.group_by("dataset", "encoder", maintain_order=True):
        lines += ["", f"  {dataset} x {encoder}"]
        lines += [
            f"    {what or 'label':14} {verdict}" for what, verdict in rows.select("confounder", "verdict").rows()
        ]
    place = f"--warehouse {project.warehouse}"
    lines += [
        "",
        "Where to look:",
        "",
        f"  the report      {report_path(project)}",
        f"  the Dagster UI  {program} ui {place}",
        f'  in SQL          {program} sql {place} "SELECT dataset, encoder, sentence FROM findings"',
    ]
    return "\n".join(lines)
