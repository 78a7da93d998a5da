"""What was found on single images, staged as it is found: a run that dies goes on from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from store.maintenance import STAGING_AGE, drop_replaced_versions
from store.schema import staged_findings_table
from store.warehouse import equals

if TYPE_CHECKING:
    from store.warehouse import Warehouse


@dataclass(frozen=True)
class StagedFindings:
    """What one asset found on the images of one data set under one encoder; `fingerprint` says from what.

    Findings with another fingerprint are neither reused nor kept.
    """

    warehouse: "Warehouse"
    asset: str
    dataset: str
    encoder: str
    fingerprint: str

    @property
    def _names(self) -> dict[str, str]:
        return {"dataset": self.dataset, "encoder": self.encoder}

    def read(self) -> dict[str, Any]:
        """Return what was staged, by image id."""
        table = staged_findings_table(self.asset).name
        if not self.warehouse.has_table(table):
            return {}
        where = equals({**self._names, "fingerprint": self.fingerprint})
        stored = self.warehouse.dataset(table).to_table(columns=["image_id", "found"], filter=where)
        return {row["image_id"]: json.loads(row["found"]) for row in stored.to_pylist()}

    def stage(self, found: Mapping[str, Any]) -> None:
        """Append findings by image id, anything that JSON can hold."""
        spec = staged_findings_table(self.asset)
        rows = [
            {**self._names, "image_id": image_id, "fingerprint": self.fingerprint, "found": json.dumps(one)}
            for image_id, one in found.items()
        ]
        self.warehouse.create_table(spec).add(pa.Table.from_pylist(rows, schema=spec.schema))

    def clear(self) -> None:
        """Drop what was staged for the partition, once it is committed."""
        table = staged_findings_table(self.asset).name
        if self.warehouse.has_table(table):
            self.warehouse.open_table(table).delete(equals(self._names))
            drop_replaced_versions(self.warehouse.dataset(table), STAGING_AGE)
