"""Provenance: what made each partition, and from what."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from store.schema import EMBEDDINGS_PREFIX, METADATA_COLUMNS, RUNS, TABLES, TEXT_EMBEDDINGS_PREFIX
from store.warehouse import equals

if TYPE_CHECKING:
    import polars as pl

    from store.warehouse import Warehouse

# Parameters that say where files are.
_PLACES = frozenset({"root"})


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
    summary: Mapping[str, float] = field(default_factory=dict)
    table_versions: Mapping[str, int] = field(default_factory=dict)


def record_run(warehouse: "Warehouse", run: Run) -> None:
    """Append a run to ``runs`` and move the tag ``run-<run id>`` to the present version of every table."""
    row = vars(run) | {
        name: json.dumps(dict(getattr(run, name)), sort_keys=True)
        for name in ("inputs", "parameters", "summary", "table_versions")
    }
    warehouse.upsert(RUNS, [{**row, "finished_at": datetime.now(UTC)}])
    warehouse.tag(f"run-{run.run_id}")


def latest_runs(warehouse: "Warehouse") -> "pl.DataFrame":
    """Return the newest run of every partition of every asset."""
    runs = warehouse.frame("runs").sort("finished_at")
    return runs.unique(["asset", "dataset", "encoder"], keep="last", maintain_order=True).collect()


def latest_run(warehouse: "Warehouse", asset: str, dataset: str, encoder: str) -> dict[str, Any] | None:
    """Return the newest run of one partition of an asset, or None where it was never made."""
    import polars as pl

    named = (pl.col("asset") == asset) & (pl.col("dataset") == dataset) & (pl.col("encoder") == encoder)
    newest = warehouse.frame("runs").filter(named).sort("finished_at").tail(1).collect()
    return newest.row(0, named=True) if newest.height else None


def without_places(runs: "pl.DataFrame") -> "pl.DataFrame":
    """Return runs to be shown to others: their parameters do not say in which folder a data set lies."""
    import polars as pl

    told = [
        json.dumps({name: value for name, value in json.loads(cell or "{}").items() if name not in _PLACES})
        for cell in runs["parameters"]
    ]
    return runs.with_columns(pl.Series("parameters", told, dtype=pl.String))


def data_version(warehouse: "Warehouse", table: str, *, columns: Sequence[str] | None = None, **partition: str) -> str:
    """Return a digest of what a partition says, whatever the order of its rows and the commits that made it.

    Thumbnails are left out, and vectors represented by their fingerprint; `columns` restricts it to some columns beside
    the key. A partition that does not exist has the version ``""``.
    """
    if not warehouse.has_table(table):
        return ""
    stored = warehouse.dataset(table)
    if table.startswith(EMBEDDINGS_PREFIX):
        key: tuple[str, ...] = ("dataset", "image_id")
        readable = [*key, "fingerprint", *METADATA_COLUMNS]
    elif table.startswith(TEXT_EMBEDDINGS_PREFIX):
        key = ("dataset", "text_id")
        readable = [*key, "fingerprint"]
    else:
        key = TABLES[table].key
        readable = [name for name in stored.schema.names if name != "thumbnail"]
    chosen = readable if columns is None else [*key, *columns]
    rows = stored.to_table(columns=chosen, filter=equals(partition) or None)
    if not rows.num_rows:
        return ""
    return digest(rows.sort_by([(name, "ascending") for name in key]))


def digest(rows: pa.Table) -> str:
    """Return a digest of a table's rows in their order."""
    import polars as pl

    # Through text: the same rows may have other bytes in Arrow, as under a null, and after an upgrade of it.
    return hashlib.sha256(pl.DataFrame(rows).write_ndjson().encode()).hexdigest()[:32]
