"""The warehouse: one LanceDB database, whole partitions in and Arrow, polars or NumPy out."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
from filelock import FileLock

from store.schema import (
    EMBEDDINGS_PREFIX,
    SCHEMA_VERSION,
    SCHEMA_VERSION_KEY,
    STAGING_PREFIX,
    TABLES,
    CounterstainError,
    TableSpec,
)

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from store.centroids import Centroid
    from store.embeddings import EmbeddingMatrix

Rows: TypeAlias = pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch]

# Lance gives up on a write that meets another one 30 seconds after it began, and decoding the images takes longer.
_WRITE_TIMEOUT = timedelta(days=7)
_TAG_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def open_warehouse(
    uri: str | os.PathLike[str],
    *,
    as_of: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> "Warehouse":
    """Open the warehouse at a folder (made when first written to) or an object-store URI (``s3://…``, ``gs://…``).

    Parameters
    ----------
    uri
        Folder or URI.
    as_of
        A tag (see `Warehouse.tags`): every table is read as it was then, and nothing can be written.
    cache_dir
        Where matrices are kept for memory-mapping; by default inside a local warehouse, else in the user's cache.
    storage_options
        Credentials and endpoint of the object store, passed to LanceDB.

    Raises
    ------
    CounterstainError
        If `as_of` names no tag of this warehouse.
    """
    warehouse = Warehouse(str(uri), as_of, cache_dir, dict(storage_options or {}))
    if as_of is not None and as_of not in warehouse.tags():
        known = ", ".join(sorted(warehouse.tags())[-5:]) or "none yet"
        raise CounterstainError(f"no tag {as_of!r} in {warehouse.uri}; the latest tags: {known}.")
    return warehouse


class Warehouse:
    """Tables of one LanceDB database; get one from `open_warehouse`."""

    def __init__(
        self,
        uri: str,
        as_of: str | None,
        cache_dir: str | os.PathLike[str] | None,
        storage_options: dict[str, str],
    ):
        self.is_local = "://" not in uri
        self.uri = str(Path(uri).expanduser().resolve()) if self.is_local else uri
        self.as_of = as_of
        self._cache_dir = cache_dir
        self._storage_options = storage_options

    def __repr__(self) -> str:
        return f"Warehouse({self.uri!r}" + (f", as_of={self.as_of!r})" if self.as_of else ")")

    @cached_property
    def _database(self) -> Any:
        # Lance logs every conflict it resolves by itself; only what it cannot resolve is of interest here.
        os.environ.setdefault("LANCE_LOG", "error")
        import lancedb

        # Without the interval a handle keeps reading the version it was opened at.
        return lancedb.connect(
            self.uri, read_consistency_interval=timedelta(0), storage_options=self._storage_options or None
        )

    @cached_property
    def cache_dir(self) -> Path:
        """Folder of memory-mapped matrices; safe to delete at any time."""
        if self._cache_dir is not None:
            return Path(self._cache_dir)
        if self.is_local:
            return Path(self.uri) / ".cache"
        import hashlib

        digest = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
        return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "counterstain" / digest

    # ---- tables ----------------------------------------------------------------------------------------------

    def tables(self, *, staging: bool = False) -> list[str]:
        """Names of the readable tables, sorted: as of a tag, those that have it; staging only where asked for."""
        names = [name for name in self._stored_tables() if staging or not name.startswith(STAGING_PREFIX)]
        return sorted(name for name in names if self._at_tag(name))

    def has_table(self, name: str) -> bool:
        """Whether the table `name` can be read; as of a tag, whether it had one."""
        return name in self._stored_tables() and self._at_tag(name)

    def encoders(self) -> list[str]:
        """Names of the encoders that have a table of vectors, sorted."""
        return [name.removeprefix(EMBEDDINGS_PREFIX) for name in self.tables() if name.startswith(EMBEDDINGS_PREFIX)]

    def _stored_tables(self) -> list[str]:
        # Connecting would make the folder, and a mistyped path should leave no trace.
        if self.is_local and not Path(self.uri).exists():
            return []
        names: list[str] = []
        page = None
        while True:
            answer = self._database.list_tables(page_token=page)
            names += answer.tables
            page = answer.page_token
            if not page:
                return names

    def _at_tag(self, name: str) -> bool:
        return self.as_of is None or self.as_of in self._database.open_table(name).tags.list()

    def open_table(self, name: str) -> Any:
        """Return the LanceDB table, at the tagged version where the warehouse was opened as of a tag.

        Raises
        ------
        CounterstainError
            If there is no such table (or none at that tag), or a newer release wrote it.
        """
        if name not in self._stored_tables():
            raise CounterstainError(f"no table {name!r} in {self.uri}; it has: {', '.join(self.tables()) or 'none'}.")
        table = self._database.open_table(name)
        if self.as_of is not None:
            if self.as_of not in table.tags.list():
                raise CounterstainError(f"table {name!r} has no version tagged {self.as_of!r}.")
            table.checkout(self.as_of)
        written = int((table.schema.metadata or {}).get(SCHEMA_VERSION_KEY, b"0"))
        if written > SCHEMA_VERSION:
            raise CounterstainError(
                f"table {name!r} has schema version {written}, this release reads up to {SCHEMA_VERSION}: "
                "upgrade counterstain."
            )
        return table

    def create_table(self, spec: TableSpec) -> Any:
        """Return the table of `spec`, made if missing; two processes of one machine may ask at once.

        Raises
        ------
        CounterstainError
            If the stored table has other columns, as when an encoder's dimension changed, or a newer release wrote it.
        """
        self.check_writable()
        # Of two that make a table, Lance lets the later overwrite what the earlier has put into it; and a table that is
        # being made is listed before it can be opened.
        locks = Path(self.uri) / ".locks" if self.is_local else self.cache_dir / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{spec.name}.lock"):
            if not self.has_table(spec.name):
                self._database.create_table(spec.name, schema=spec.schema, exist_ok=True)
        table = self.open_table(spec.name)
        if table.schema != spec.schema:
            differing = sorted({field.name for field in set(table.schema) ^ set(spec.schema)})
            raise CounterstainError(
                f"table {spec.name!r} is stored with another layout (columns {differing}): give the encoder another "
                "name, or delete the table to start it anew."
            )
        return table

    def dataset(self, name: str) -> Any:
        """Return the table as a `pyarrow.dataset`-compatible Lance data set, pinned to the version read."""
        return self.open_table(name).to_lance()

    def check_writable(self) -> None:
        """Raise `CounterstainError` where the warehouse was opened as of a tag."""
        if self.as_of is not None:
            raise CounterstainError(f"{self!r} is a view of the past and cannot be written; open it without as_of.")

    # ---- writing ---------------------------------------------------------------------------------------------

    def replace_partition(self, spec: TableSpec, rows: Rows, **partition: str) -> int:
        """Replace one partition in one commit: readers see the old rows or the new ones, never a part.

        Parameters
        ----------
        spec
            The table; made if missing.
        rows
            All rows of the partition, in any order, unique in ``spec.key``. Read as a stream, in another thread; if it
            raises, nothing changes and the caller gets its exception.
        partition
            Value of each of ``spec.partition``.

        Returns
        -------
        int
            The Lance version that holds the new rows.

        Raises
        ------
        ValueError
            If `partition` does not name just the partition columns, a batch has other columns than the table, a row
            belongs to another partition, or two rows have one key.
        """
        if set(partition) != set(spec.partition):
            raise ValueError(f"{spec.name} is partitioned by {spec.partition}, got {tuple(partition)}")
        table = self.create_table(spec)
        merge = (
            table.merge_insert(list(spec.key))
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .when_not_matched_by_source_delete(equals(partition) or "true")
        )
        failures: list[BaseException] = []
        batches = _keep_failure(_checked(rows, spec, partition), failures)
        reader = pa.RecordBatchReader.from_batches(spec.schema, batches)
        try:
            result = merge.execute(reader, timeout=_WRITE_TIMEOUT)
        except Exception:  # whatever Lance made of it, what the rows raised is the cause
            if failures:
                raise failures[0] from None
            raise
        return int(result.version)

    def update_columns(self, spec: TableSpec, rows: pa.Table) -> int:
        """Overwrite some columns of stored rows, matched by key; other columns and rows stay as they are.

        `rows` holds the key columns and those to overwrite. Rows that are not stored are not added.
        """
        self.check_writable()
        schema = pa.schema([spec.schema.field(name) for name in rows.column_names])
        merge = self.open_table(spec.name).merge_insert(list(spec.key)).when_matched_update_all()
        return int(merge.execute(rows.cast(schema), timeout=_WRITE_TIMEOUT).version)

    def upsert(self, spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert rows, unique in ``spec.key``, or replace those with the same key, in one commit."""
        table = self.create_table(spec)
        data = pa.Table.from_pylist([dict(row) for row in rows], schema=spec.schema)
        _check_unique(spec, data)
        merge = table.merge_insert(list(spec.key)).when_matched_update_all().when_not_matched_insert_all()
        return int(merge.execute(data, timeout=_WRITE_TIMEOUT).version)

    # ---- reading ---------------------------------------------------------------------------------------------

    def frame(self, table: str) -> "pl.LazyFrame":
        """Return a table as a lazy polars frame whose projections and filters are pushed down to Lance.

        A table of the design that nothing has written yet is empty, not an error.
        """
        import polars as pl

        if table in TABLES and not self.has_table(table):
            return pl.DataFrame(TABLES[table].schema.empty_table()).lazy()
        return pl.scan_pyarrow_dataset(self.dataset(table))

    def sql(self, query: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> "pl.DataFrame":
        """Answer one SELECT over the tables; see `store.sql.run_query`."""
        from store.sql import run_query

        return run_query(self, query, parameters)

    def describe(self, table: str | None = None) -> "pl.DataFrame":
        """Return what every table (or one) and every column of it means; see `store.descriptions.describe`."""
        from store.descriptions import describe

        return describe(self, table)

    def vectors(self, encoder: str, dataset: str) -> "EmbeddingMatrix":
        """Return one partition's vectors as a memory-mapped matrix; see `store.embeddings.read_matrix`."""
        from store.embeddings import read_matrix

        return read_matrix(self, encoder, dataset)

    def search(
        self,
        encoder: str,
        query: "str | NDArray[Any]",
        *,
        dataset: str | Sequence[str] | None = None,
        where: str | None = None,
        k: int = 10,
        leave_out: "pl.DataFrame | None" = None,
    ) -> "pl.DataFrame":
        """Return the `k` images nearest by cosine to a vector or to a stored image; see `store.search.search`."""
        from store.search import search

        return search(self, encoder, query, dataset=dataset, where=where, k=k, leave_out=leave_out)

    def centroid(self, encoder: str, where: str, *, dataset: str | Sequence[str] | None = None) -> "Centroid":
        """Return the mean direction of the images that fit a filter, to search by; see `store.centroids.centroid`."""
        from store.centroids import centroid

        return centroid(self, encoder, where, dataset=dataset)

    def search_text(self, words: str, *, dataset: str | None = None, k: int = 100) -> "pl.DataFrame":
        """Return the images whose burned-in text holds any of `words`; see `store.search.search_text`."""
        from store.search import search_text

        return search_text(self, words, dataset=dataset, k=k)

    def correct(self, dataset: str, corrections: "pl.DataFrame") -> int:
        """Overwrite what is known of images, everywhere, without encoding; see `store.images.correct`."""
        from store.images import correct

        return correct(self, dataset, corrections)

    # ---- time ------------------------------------------------------------------------------------------------

    def versions(self) -> dict[str, int]:
        """Return the present Lance version of every table."""
        return {name: int(self.open_table(name).version) for name in self.tables()}

    def tag(self, name: str) -> dict[str, int]:
        """Name the present version of every table `name`, so that ``open_warehouse(uri, as_of=name)`` reopens them.

        A tag that exists moves forward. Returns the version of each table.

        Raises
        ------
        CounterstainError
            If the name has other characters than Lance takes in a tag.
        """
        self.check_writable()
        if not _TAG_NAME.fullmatch(name):
            raise CounterstainError(f"{name!r} cannot name a tag: use letters, digits, '_' and '-', joined by '.'.")
        versions = self.versions()
        for table_name, version in versions.items():
            tags = self._database.open_table(table_name).tags
            if name in tags.list():
                tags.update(name, version)
            else:
                tags.create(name, version)
        return versions

    def tags(self) -> set[str]:
        """Names of all tags."""
        return {tag for name in self._stored_tables() for tag in self._database.open_table(name).tags.list()}

    def maintain(self, *, older_than: timedelta = timedelta(days=14)) -> None:
        """Compact, index and clean every table; see `store.maintenance.maintain`."""
        from store.maintenance import maintain

        maintain(self, older_than=older_than)


def quote(value: str) -> str:
    """Return `value` as a SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def equals(columns: Mapping[str, str]) -> str:
    """Return the filter that selects rows with these values; empty where there are none."""
    return " AND ".join(f"{name} = {quote(value)}" for name, value in columns.items())


def _keep_failure(batches: Iterator[pa.RecordBatch], failures: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """Pass batches on, and keep what they raise: on its way through Arrow's C interface it would become a string."""
    try:
        yield from batches
    except GeneratorExit:  # Lance stopped reading, for a reason of its own
        raise
    except BaseException as error:
        failures.append(error)
        raise


def _checked(rows: Rows, spec: TableSpec, partition: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """Yield the batches in the table's schema; a row of another partition would outlive the replacement."""
    import pyarrow.compute as pc

    batches = rows.to_batches() if isinstance(rows, pa.Table) else rows
    keys = [spec.schema.empty_table().select(spec.key)]
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if differing := set(table.column_names) ^ set(spec.schema.names):
            raise ValueError(f"{spec.name}: columns {sorted(differing)} are missing from the rows or unknown")
        cast = table.select(spec.schema.names).cast(spec.schema)
        for name, value in partition.items():
            if cast.num_rows and not pc.all(pc.equal(cast[name], value)).as_py():
                raise ValueError(f"{spec.name}: a row's {name} is not {value!r}, the partition being replaced")
        keys.append(cast.select(spec.key))
        yield from cast.to_batches()
    _check_unique(spec, pa.concat_tables(keys))


def _check_unique(spec: TableSpec, rows: pa.Table) -> None:
    """Refuse a key that comes twice: Lance takes it on first write, and fails when it is next replaced."""
    counts = rows.group_by(list(spec.key)).aggregate([([], "count_all")])
    if counts.num_rows < rows.num_rows:
        twice = next(row for row in counts.to_pylist() if row.pop("count_all") > 1)
        raise ValueError(f"{spec.name}: more than one row has the key {twice}")
