"""Data sets as they are registered in the warehouse."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.readers import reader_of, readers
from pipelines.sources import About, DataSet
from store import Warehouse
from store.schema import DATASETS, CounterstainError


@dataclass(frozen=True)
class Registration:
    """A data set that was added, with a first look at what its reader finds."""

    dataset: DataSet
    first_uri: str


def add_dataset(warehouse: Warehouse, dataset: DataSet) -> Registration:
    """Register a data set after looking at its layout; one of the same name is registered anew.

    The reader of a known data set brings that set's groups, besides those given.

    Raises
    ------
    CounterstainError
        If the reader does not exist, does not find its layout at the root, or finds no image there.
    """
    reader = reader_of(dataset)
    if reader.about is not None:
        dataset = replace(dataset, groups=tuple(dict.fromkeys([*reader.about.groups, *dataset.groups])))
    first = next(iter(reader.read(dataset)), None)
    if first is None:
        raise CounterstainError(f"data set {dataset.name!r}: {dataset.root} holds no image.")
    row = {
        "dataset": dataset.name,
        "reader": dataset.reader,
        "root": str(dataset.root.expanduser().resolve()),
        "label": dataset.label,
        "groups": list(dataset.groups),
        "registered_at": datetime.now(UTC),
    }
    warehouse.upsert(DATASETS, [row])
    return Registration(dataset, first.uri)


def known_sets() -> dict[str, About]:
    """Return what is known of the data sets that have a reader of their own, by the reader's name."""
    return {name: reader.about for name, reader in sorted(readers().items()) if reader.about is not None}


def get_dataset(warehouse: Warehouse, name: str) -> DataSet:
    """Return a registered data set.

    Raises
    ------
    CounterstainError
        If there is none of that name.
    """
    rows = warehouse.frame("datasets").filter(pl.col("dataset") == name).collect()
    if rows.is_empty():
        known = ", ".join(sorted(warehouse.frame("datasets").collect()["dataset"])) or "none yet"
        raise CounterstainError(
            f"no data set {name!r}; registered: {known}. Add it with "
            "`counterstain datasets add NAME --reader READER --root PATH`; `counterstain datasets` shows the readers."
        )
    row = rows.row(0, named=True)
    return DataSet(row["dataset"], row["reader"], Path(row["root"]), row["label"], tuple(row["groups"] or ()))


def of_datasets(frame: pl.LazyFrame, datasets: Sequence[str]) -> pl.LazyFrame:
    """Return the rows of some data sets, and those over all; of all where none is named."""
    if not datasets or "dataset" not in frame.collect_schema():
        return frame
    over_all = pl.col("dataset").is_null() | (pl.col("dataset") == "")
    return frame.filter(pl.col("dataset").is_in(list(datasets)) | over_all)
