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
ENCODERS = ("efficientnet_lite0", "untrained_vit_b16")
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


def run_demo(project: Project) -> str:
    """Draw two phantom data sets, run everything on them with two encoders; return what was found and where to look."""
    warehouse = project.open()
    with materializing.dagster_instance(project):
        for seed, (name, association) in enumerate(DATA_SETS.items()):
            folder = project.home() / "phantoms" / name
            if not (folder / "manifest.csv").exists():
                log.info("drawing %d images of %s", IMAGES, name)
                draw_phantoms(folder, "ultrasound", IMAGES, 1.0, association, seed)
            add_dataset(warehouse, DataSet(name, "manifest", folder))
    with materializing.dagster_instance(project) as instance:
        materializing.materialize(project, instance, list(DATA_SETS), ENCODERS)
    return _found(project)


def _found(project: Project) -> str:
    warehouse = project.open()
    findings = warehouse.frame("findings").sort("dataset", "encoder", "row").collect()
    lines = ["", "What was found", ""]
    lines += [f"  {row['dataset']} x {row['encoder']}: {row['sentence']}" for row in findings.iter_rows(named=True)]
    report = report_path(project)
    question = "SELECT encoder, dataset, target, value FROM probe_scores WHERE fold IS NULL AND metric = 'accuracy'"
    lines += [
        "",
        "Where to look",
        "",
        f"  the report     {report}",
        f"  the Dagster UI counterstain ui --warehouse {project.warehouse}",
        f'  in SQL         counterstain sql --warehouse {project.warehouse} "{question}"',
    ]
    return "\n".join(lines)
