"""Noticing new images."""

import json

import dagster as dg

from assets.jobs import read_images
from assets.partitions import known_datasets, sync_partitions
from assets.project import Project
from assets.registry import get_dataset
from pipelines.readers import reader_of
from store.schema import CounterstainError


@dg.sensor(
    job=read_images,
    minimum_interval_seconds=60,
    description="Reads a data set again when its files or its table change; makes a newly registered one a partition.",
)
def watch_images(context: dg.SensorEvaluationContext, project: Project) -> dg.SensorResult:
    """Ask for a run of each data set whose source is not what it was at the last look."""
    warehouse = project.open()
    seen: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
    sync_partitions(context.instance, warehouse)
    now: dict[str, str] = {}
    for name in known_datasets(warehouse):
        dataset = get_dataset(warehouse, name)
        try:
            now[name] = reader_of(dataset).fingerprint(dataset)
        except CounterstainError as error:
            # A folder that is away for a while must not stop the others from being watched.
            context.log.warning(str(error))
            now[name] = seen.get(name, "")
    changed = [name for name, fingerprint in now.items() if fingerprint and seen.get(name) != fingerprint]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(partition_key=name) for name in changed],
        cursor=json.dumps(now),
    )
