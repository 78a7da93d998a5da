"""Provenance: what made each partition, and from what."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from store.schema import EMBEDDINGS_PREFIX, METADATA_COLUMNS, RUNS
from store.warehouse import equals

if TYPE_CHECKING:
    import polars as pl

    from store.warehouse import Warehouse


@dataclass(frozen=True)
class Run:
    """One partition made: by which code, from which inputs, with which result."""

    run_id: str
    asset: str
    dataset: str  # "" for an asset over all data sets
    encoder: str  # "" likewise
    code_version: str
    data_version: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, object]
    rows: int
    seconds: float
    fingerprint: str = ""
    table_versions: Mapping[str, int] = field(default_factory=dict)


def record_run(warehouse: "Warehouse", run: Run) -> None:
    """Append a run to ``runs`` and move the tag ``run-<run id>`` to the present version of every table."""
    row = vars(run) | {
        name: json.dumps(dict(getattr(run, name)), sort_keys=True)
        for name in ("inputs", "parameters", "table_versions")
    }
    warehouse.upsert(RUNS, [{**row, "finished_at": datetime.now(UTC)}])
    warehouse.tag(f"run-{run.run_id}")


def latest_runs(warehouse: "Warehouse") -> "pl.DataFrame":
    """Return the newest run of every partition of every asset."""
    runs = warehouse.frame("runs").sort("finished_at")
    return runs.unique(["asset", "dataset", "encoder"], keep="last", maintain_order=True).collect()


def data_version(warehouse: "Warehouse", table: str, **partition: str) -> str:
    """Return a digest of what a partition says: of all of ``images`` and embeddings but pictures and vectors.

    Vectors are represented by their fingerprint. A partition that does not exist has the version ``""``.
    """
    if table not in warehouse.tables():
        return ""
    stored = warehouse.dataset(table)
    if table.startswith(EMBEDDINGS_PREFIX):
        columns = ["image_id", "fingerprint", *METADATA_COLUMNS]
    else:
        columns = [name for name in stored.schema.names if name != "thumbnail"]
    rows = stored.to_table(columns=columns, filter=equals(partition) or None)
    if not rows.num_rows:
        return ""
    keys = [name for name in ("image_id", "dataset", "encoder", "row") if name in rows.column_names]
    return digest(rows.sort_by([(name, "ascending") for name in keys]))


def digest(rows: pa.Table) -> str:
    """Return a digest of a table's rows in their order."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema.remove_metadata()) as writer:
        writer.write_table(rows.combine_chunks().replace_schema_metadata(None))
    return hashlib.sha256(sink.getvalue()).hexdigest()[:32]
