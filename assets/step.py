"""A step of the work: what it makes of which inputs, as a Dagster asset and as a row of ``runs``.

Every asset of the warehouse is one `Step`. What they share stands here once: the loop over partitions, timing,
provenance, checks and metadata; and whether a partition is still current, which the store itself answers, so that
it holds for whoever made it.
"""

import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from assets.partitions import cells_partitions, datasets_partitions, sync_partitions
from assets.project import Project
from store import Warehouse
from store.runs import Run, latest_run, record_run
from store.schema import CounterstainError

# Captured by Dagster into a run's log, and printed by the command line.
log = logging.getLogger("counterstain")

Scope = Literal["dataset", "cell", "all"]
State = Literal["current", "stale", "missing"]


@dataclass(frozen=True)
class Cell:
    """One partition being made: a data set, or a data set × encoder, or neither (``""``)."""

    project: Project
    warehouse: Warehouse
    dataset: str
    encoder: str

    def __str__(self) -> str:
        return " x ".join(name for name in (self.dataset, self.encoder) if name) or "all cells"


@dataclass(frozen=True)
class Check:
    """What a check found; a failed warning does not fail the asset."""

    passed: bool
    description: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN


@dataclass(frozen=True)
class Made:
    """What a step made of one partition."""

    rows: int
    data_version: str
    tables: tuple[str, ...]
    summary: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(frozen=True)
class Step:
    """An asset of the warehouse.

    Attributes
    ----------
    name, description, group, kinds
        As the Dagster UI shows them.
    scope
        Partitioned by data set, by data set × encoder, or over all.
    upstream
        Names of the steps it reads.
    code_version
        Raised when the same inputs would give another result.
    inputs
        Digests of what it reads; when one changes, its partition is stale.
    parameters
        What else its result depends on.
    make
        Makes one partition, and commits it.
    checks
        Names of the checks that `make` reports, with descriptions.
    on_request
        Made only where it is asked for by name.
    adds_encoders
        Whether it may make an encoder, which is then a partition.
    """

    name: str
    description: str
    group: str
    kinds: frozenset[str]
    scope: Scope
    upstream: tuple[str, ...]
    code_version: str
    inputs: Callable[[Cell], Mapping[str, str]]
    parameters: Callable[[Cell], Mapping[str, object]]
    make: Callable[[Cell], Made]
    checks: Mapping[str, str] = field(default_factory=dict)
    on_request: bool = False
    adds_encoders: bool = False

    def partition_of(self, dataset: str, encoder: str) -> tuple[str, str]:
        """Return the names of this step's partition within a cell."""
        return {"dataset": (dataset, ""), "cell": (dataset, encoder), "all": ("", "")}[self.scope]

    def state(self, cell: Cell) -> State:
        """Return whether the partition exists, and was made by this code from these inputs and parameters."""
        last = latest_run(cell.warehouse, self.name, cell.dataset, cell.encoder)
        if last is None:
            return "missing"
        expected = (self.code_version, dict(self.inputs(cell)), _plain(self.parameters(cell)))
        made_from = (last["code_version"], json.loads(last["inputs"]), json.loads(last["parameters"]))
        return "current" if made_from == expected else "stale"

    def run(self, cell: Cell, run_id: str) -> Made:
        """Make one partition and record what made it."""
        started = time.monotonic()
        log.info("%s of %s", self.name, cell)
        inputs, parameters = dict(self.inputs(cell)), _plain(self.parameters(cell))
        made = self.make(cell)
        seconds = time.monotonic() - started
        versions = {table: int(cell.warehouse.open_table(table).version) for table in made.tables}
        record = Run(
            run_id=run_id,
            asset=self.name,
            dataset=cell.dataset,
            encoder=cell.encoder,
            code_version=self.code_version,
            data_version=made.data_version,
            inputs=inputs,
            parameters=parameters,
            fingerprint=made.fingerprint,
            rows=made.rows,
            seconds=seconds,
            summary=made.summary,
            table_versions=versions,
        )
        record_run(cell.warehouse, record)
        log.info("%s of %s: %d rows in %.1f s", self.name, cell, made.rows, seconds)
        return made


def as_asset(step: Step, steps: Mapping[str, Step]) -> dg.AssetsDefinition:
    """Return the Dagster asset of a step; `steps` holds those it reads."""
    with warnings.catch_warnings():
        # Backfill policies and the mapping from two dimensions to one are marked beta; Dagster is held below 2.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _as_asset(step, steps)


def _as_asset(step: Step, steps: Mapping[str, Step]) -> dg.AssetsDefinition:
    partitions = {"dataset": datasets_partitions, "cell": cells_partitions, "all": None}[step.scope]

    @dg.asset(
        name=step.name,
        description=_description(step, steps),
        group_name=step.group,
        kinds=set(step.kinds),
        owners=["team:counterstain"],
        metadata={"dagster/code_references": _code_reference(step)},
        code_version=step.code_version,
        partitions_def=partitions,
        deps=[_dependency(step, steps[name]) for name in step.upstream],
        # One process for a whole backfill, so that a model is loaded once and not once per partition.
        backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
        check_specs=[dg.AssetCheckSpec(n, asset=step.name, description=text) for n, text in step.checks.items()],
    )
    def compute(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads it
        warehouse = project.open()
        made: dict[str, Made] = {}
        failed: dict[str, CounterstainError] = {}
        for key, dataset, encoder in _partitions(context, step):
            try:
                made[key] = step.run(Cell(project, warehouse, dataset, encoder), context.run.run_id)
            except CounterstainError as error:
                log.error("%s of %s: %s", step.name, key, error)
                failed[key] = error
        if step.adds_encoders:
            sync_partitions(context.instance, warehouse)
        if failed:
            # The run fails, yet what was made was made: Dagster would record none of it by itself.
            for key, done in made.items():
                context.log_event(dg.AssetMaterialization(step.name, partition=key, metadata=_shown(done)))
            raise _failure(failed)
        for key, done in made.items():
            context.add_asset_metadata(_shown(done), partition_key=key or None)
        versions = [m.data_version for m in made.values()]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(versions[0]) if len(versions) == 1 else None,
            check_results=[_check_result(name, made) for name in step.checks],
        )

    return compute


def _description(step: Step, steps: Mapping[str, Step]) -> str:
    """Return what the asset is, and where to go from it: someone new follows these links from images to findings."""
    after = [other.name for other in steps.values() if step.name in other.upstream]
    if not after:
        return step.description
    return f"{step.description}\n\nRead by: {', '.join(f'[{name}](/assets/{name})' for name in after)}."


def _code_reference(step: Step) -> dg.CodeReferencesMetadataValue:
    """Return where the step's work is written, on this machine."""
    code = step.make.__code__
    here = dg.LocalFileCodeReference(
        file_path=code.co_filename, line_number=code.co_firstlineno, label=f"assets/{Path(code.co_filename).name}"
    )
    return dg.CodeReferencesMetadataValue(code_references=[here])


def _failure(failed: Mapping[str, CounterstainError]) -> CounterstainError:
    if len(failed) == 1:
        return next(iter(failed.values()))
    return CounterstainError("; ".join(f"{key}: {error}" for key, error in failed.items()))


def _partitions(context: dg.AssetExecutionContext, step: Step) -> list[tuple[str, str, str]]:
    """Return (partition key, data set, encoder) of every partition asked for, encoder by encoder."""
    if step.scope == "all":
        return [("", "", "")]
    if step.scope == "dataset":
        return [(key, key, "") for key in context.partition_keys]
    cells = []
    for key in context.partition_keys:
        names = cells_partitions.get_partition_key_from_str(key).keys_by_dimension
        cells.append((str(key), names["dataset"], names["encoder"]))
    return sorted(cells, key=lambda cell: (cell[2], cell[1]))


def _dependency(step: Step, upstream: Step) -> dg.AssetDep:
    if (upstream.scope, step.scope) == ("dataset", "cell"):
        return dg.AssetDep(upstream.name, partition_mapping=dg.MultiToSingleDimensionPartitionMapping("dataset"))
    return dg.AssetDep(upstream.name)


def _shown(made: Made) -> dict[str, Any]:
    numbers = {"rows": made.rows, **{name: float(value) for name, value in made.summary.items()}}
    if twice := numbers.keys() & made.metadata.keys():
        raise ValueError(f"shown twice: {sorted(twice)}")
    return {**made.metadata, **numbers}


def _check_result(name: str, made: Mapping[str, Made]) -> dg.AssetCheckResult:
    """Return a check's result over the partitions of a run: it passed if it passed everywhere it was made."""
    found = {key: m.checks[name] for key, m in made.items() if name in m.checks}
    failed = {key: check for key, check in found.items() if not check.passed}
    shown: Mapping[str, Check] = failed or found
    return dg.AssetCheckResult(
        check_name=name,
        passed=not failed,
        severity=max((c.severity for c in shown.values()), key=_rank, default=dg.AssetCheckSeverity.WARN),
        description="; ".join(f"{key}: {c.description}" if key else c.description for key, c in shown.items()),
    )


def _rank(severity: dg.AssetCheckSeverity) -> int:
    order: Sequence[dg.AssetCheckSeverity] = (dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR)
    return order.index(severity)


def _plain(parameters: Mapping[str, object]) -> dict[str, Any]:
    """Return parameters as they read when stored."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(parameters), sort_keys=True))
    return plain
