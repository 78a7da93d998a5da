"""Everything Dagster loads."""

import dagster as dg

from assets.jobs import JOBS
from assets.project import Project
from assets.sensors import watch_images
from assets.step import as_asset
from assets.steps import STEPS

defs = dg.Definitions(
    assets=[as_asset(step, STEPS) for step in STEPS.values()],
    jobs=JOBS,
    sensors=[watch_images],
    resources={"project": Project.from_environment()},
    # Each step uses every core, and the next one finds the model loaded; a run is a process of its own anyway.
    executor=dg.in_process_executor,
)
