"""Making what is missing, in order, in this process, through the same Dagster assets that the UI runs."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import polars as pl

from assets.partitions import known_datasets, known_encoders, one_process_at_a_time, sync_partitions
from assets.project import Project
from assets.registry import get_dataset
from assets.step import Cell, Step, as_asset
from assets.steps import STEPS, upstream_of
from store import Warehouse
from store.runs import latest_runs
from store.schema import CounterstainError

# Dagster reports usage to its makers, and asks for an address, unless told not to. Lines of our own logger go to a
# run's log in the UI.
_DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
python_logs:
  managed_python_loggers: [counterstain]
  python_log_level: INFO
concurrency:
  runs:
    max_concurrent_runs: 2
run_monitoring:
  enabled: true
"""

# Says which process a run of the command line lives in.
_PROCESS_TAG = "counterstain/process"


def prepare_dagster_home(project: Project) -> Path:
    """Return the folder of the Dagster instance, made if missing.

    It is ``DAGSTER_HOME`` where that is set, else a folder within the warehouse.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or project.home() / ".dagster").expanduser().resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(_DAGSTER_YAML)
    return home


@contextmanager
def dagster_instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of a project, with every known data set and encoder as a partition."""
    home = prepare_dagster_home(project)
    with one_process_at_a_time(home):
        opened = dg.DagsterInstance.from_config(str(home))
    with opened as instance:
        sync_partitions(instance, project.open())
        _close_killed_runs(instance)
        yield instance


def _close_killed_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs of this machine whose process is gone as failed: they would look alive, and hold up the queue."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        host, _, pid = run.tags.get(_PROCESS_TAG, "").rpartition(":")
        if host == socket.gethostname() and not _is_alive(int(pid)):
            instance.report_run_failed(run, "The process was ended; what it had staged is kept for the next run.")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True


def materialize(
    project: Project,
    instance: dg.DagsterInstance,
    datasets: Sequence[str],
    encoders: Sequence[str] = (),
    asset: str | None = None,
) -> list[tuple[str, str]]:
    """Make an asset of each data set × encoder, with what it needs that is missing or stale; without `asset`, all.

    Encoder by encoder, so that each is loaded once; what is made over all cells comes last, once.

    Returns
    -------
    list of (str, str)
        Partition and asset of everything that was made, in order; empty if everything was current.

    Raises
    ------
    CounterstainError
        If a data set, encoder or asset does not exist, the asset needs an encoder and none is given, or a step
        cannot do its work; what was made before stays.
    """
    warehouse = project.open()
    wanted = [name for name, step in STEPS.items() if not step.on_request] if asset is None else upstream_of(asset)
    steps = [STEPS[name] for name in wanted]
    _check(warehouse, datasets, encoders, steps)
    sync_partitions(instance, warehouse)
    partitions = [
        (step, *step.partition_of(dataset, encoder))
        for encoder in encoders or [""]
        for dataset in datasets
        for step in steps
        if step.scope != "all"
    ]
    partitions += [(step, "", "") for step in steps if step.scope == "all"]
    made = []
    for step, dataset, encoder in partitions:
        cell = Cell(project, warehouse, dataset, encoder)
        if step.state(cell) != "current":
            _materialize_one(instance, step, cell)
            made.append((str(cell), step.name))
    return made


def _check(warehouse: Warehouse, datasets: Sequence[str], encoders: Sequence[str], steps: list[Step]) -> None:
    for dataset in datasets:
        get_dataset(warehouse, dataset)
    known = known_encoders(warehouse)
    needing = [step.name for step in steps if step.scope == "cell"]
    if needing and not encoders:
        raise CounterstainError(f"{needing[0]} needs an encoder: name one of {', '.join(known)}.")
    if unknown := [encoder for encoder in encoders if encoder not in known]:
        raise CounterstainError(f"no encoder {unknown[0]!r}; encoders: {', '.join(known)}.")


def _materialize_one(instance: dg.DagsterInstance, step: Step, cell: Cell) -> None:
    both = dg.MultiPartitionKey({"dataset": cell.dataset, "encoder": cell.encoder})
    dg.materialize(
        [as_asset(each, STEPS) for each in STEPS.values()],
        selection=[step.name],
        partition_key={"dataset": cell.dataset, "cell": both, "all": None}[step.scope],
        instance=instance,
        resources={"project": cell.project},
        tags={_PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}"},
        # The steps' own lines are printed by the command line; Dagster's events are in the UI.
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def states(project: Project) -> list[dict[str, str]]:
    """Return a row per cell that was begun, with each asset's state: ``current``, ``stale`` or ``missing``.

    Where the files of a data set cannot be looked at, the state is ``source away``.
    """
    warehouse = project.open()
    runs = latest_runs(warehouse).filter(pl.col("encoder") != "")
    rows = []
    for dataset in known_datasets(warehouse):
        encoders = sorted(runs.filter(pl.col("dataset") == dataset)["encoder"].unique())
        for encoder in encoders or [""]:
            row = {"dataset": dataset, "encoder": encoder}
            for step in STEPS.values():
                cell = Cell(project, warehouse, *step.partition_of(dataset, encoder))
                row[step.name] = _state(step, cell)
            rows.append(row)
    return rows


def _state(step: Step, cell: Cell) -> str:
    try:
        return step.state(cell)
    except CounterstainError:
        return "source away"
