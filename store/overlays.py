"""What was found on images: staged as it is found, committed as a whole partition, told to the flags of ``images``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from store.images import fill_detected, read_metadata
from store.maintenance import STAGING_AGE, drop_replaced_versions
from store.schema import IMAGE_ATTRIBUTES, OVERLAYS, CounterstainError, staged_overlays_table
from store.warehouse import equals

if TYPE_CHECKING:
    from store.warehouse import Warehouse


@dataclass(frozen=True)
class OverlayPartition:
    """Where what was found on one data set's images is put; `fingerprint` says what looked for it.

    Findings with another fingerprint are neither reused nor kept.
    """

    warehouse: "Warehouse"
    dataset: str
    fingerprint: str

    def searched_ids(self) -> set[str]:
        """Ids of the images whose findings are stored or staged."""
        return {row["image_id"] for row in self._rows(["image_id"])}

    def stage(self, found: Sequence[tuple[Mapping[str, object], Sequence[Mapping[str, object]]]]) -> None:
        """Append images to what a later `commit` takes: a row of ``image_attributes`` and rows of ``overlays`` each.

        Both without the data set, the fingerprint and an item's number.
        """
        spec = staged_overlays_table()
        rows = [
            {**image, "dataset": self.dataset, "fingerprint": self.fingerprint, "items": json.dumps(list(items))}
            for image, items in found
        ]
        self.warehouse.create_table(spec).add(pa.Table.from_pylist(rows, schema=spec.schema))

    def commit(self) -> None:
        """Replace the partition by what was found on every image of the data set, and fill in its flags.

        The items first: an image counts as searched from when its attributes are stored, so that a run that dies in
        between is taken up again.

        Raises
        ------
        CounterstainError
            If an image has not been searched yet; nothing is replaced then.
        """
        wanted = read_metadata(self.warehouse, self.dataset)["image_id"].to_list()
        kept = {row["image_id"]: row for row in self._rows(None)}
        if missing := [image_id for image_id in wanted if image_id not in kept]:
            raise CounterstainError(
                f"{len(missing)} of {len(wanted)} images of {self.dataset!r} have not been searched for overlays yet, "
                f"first: {missing[:3]}; what was known is left as it was. Materialize `overlays` again."
            )
        items = self._stored_items()
        overlays = []
        for image_id in wanted:
            found = json.loads(kept[image_id].pop("items")) if "items" in kept[image_id] else items.get(image_id, [])
            overlays += [
                {**item, "dataset": self.dataset, "image_id": image_id, "item": i} for i, item in enumerate(found)
            ]
        names = {"dataset": self.dataset}
        self.warehouse.replace_partition(OVERLAYS, pa.Table.from_pylist(overlays, schema=OVERLAYS.schema), **names)
        attributes = pa.Table.from_pylist([kept[image_id] for image_id in wanted], schema=IMAGE_ATTRIBUTES.schema)
        self.warehouse.replace_partition(IMAGE_ATTRIBUTES, attributes, **names)
        fill_detected(self.warehouse, self.dataset)
        self._clear_staging()

    def _rows(self, columns: list[str] | None) -> Iterator[dict[str, Any]]:
        """Yield this fingerprint's stored rows, then the staged ones, which have their items with them."""
        where = equals({"dataset": self.dataset, "fingerprint": self.fingerprint})
        for name in (IMAGE_ATTRIBUTES.name, staged_overlays_table().name):
            if self.warehouse.has_table(name):
                for batch in self.warehouse.dataset(name).to_batches(columns=columns, filter=where):
                    yield from batch.to_pylist()

    def _stored_items(self) -> dict[str, list[dict[str, Any]]]:
        items: dict[str, list[dict[str, Any]]] = {}
        if self.warehouse.has_table(OVERLAYS.name):
            stored = self.warehouse.dataset(OVERLAYS.name).to_table(filter=equals({"dataset": self.dataset}))
            for row in stored.sort_by([("image_id", "ascending"), ("item", "ascending")]).to_pylist():
                items.setdefault(row["image_id"], []).append(row)
        return items

    def _clear_staging(self) -> None:
        name = staged_overlays_table().name
        if self.warehouse.has_table(name):
            self.warehouse.open_table(name).delete(equals({"dataset": self.dataset}))
            drop_replaced_versions(self.warehouse.dataset(name), STAGING_AGE)
