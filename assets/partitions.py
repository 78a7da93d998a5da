"""The two dimensions: data sets and encoders, both known only at run time."""

from pathlib import Path

import dagster as dg
from filelock import FileLock

from assets.project import finetuned_dir
from pipelines.encoders import available_specs
from store import Warehouse

datasets_partitions = dg.DynamicPartitionsDefinition(name="dataset")
encoders_partitions = dg.DynamicPartitionsDefinition(name="encoder")
cells_partitions = dg.MultiPartitionsDefinition({"dataset": datasets_partitions, "encoder": encoders_partitions})


def known_datasets(warehouse: Warehouse) -> list[str]:
    """Names of the registered data sets, sorted."""
    return sorted(warehouse.frame("datasets").collect()["dataset"])


def known_encoders(warehouse: Warehouse) -> list[str]:
    """Names of the registered, the fine-tuned and the imported encoders, sorted."""
    return sorted(
        {*available_specs(finetuned_dir(warehouse)), *warehouse.frame("imported_encoders").collect()["encoder"]}
    )


def sync_partitions(instance: dg.DagsterInstance, warehouse: Warehouse) -> None:
    """Make every known data set and encoder a partition; names already there stay."""
    with one_process_at_a_time(Path(instance.root_directory)):
        for definition, names in (
            (datasets_partitions, known_datasets(warehouse)),
            (encoders_partitions, known_encoders(warehouse)),
        ):
            if names:
                instance.add_dynamic_partitions(str(definition.name), names)


def one_process_at_a_time(dagster_home: Path) -> FileLock:
    """Return the lock under which an instance is set up.

    Dagster looks which tables and partitions there are and then makes the others: of two processes that do so at once,
    one would fail.
    """
    return FileLock(dagster_home / "setup.lock")
