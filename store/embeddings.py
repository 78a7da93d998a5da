"""Vectors: staged as they are encoded, committed as a whole partition, read back as one matrix."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from store.images import read_metadata, refresh_metadata, resolve_image_ids
from store.maintenance import STAGING_AGE, drop_replaced_versions
from store.schema import (
    EMBEDDINGS_PREFIX,
    IMPORTED_ENCODERS,
    METADATA_COLUMNS,
    STAGING_PREFIX,
    CounterstainError,
    check_dataset_name,
    embeddings_table,
    staging_table,
)
from store.warehouse import equals

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from store.warehouse import Warehouse


@dataclass(frozen=True)
class EmbeddingMatrix:
    """One partition's vectors and what is known of their images, row by row, sorted by image id."""

    vectors: "NDArray[np.float32]"  # (n, d), memory-mapped, read-only
    images: "pl.DataFrame"  # (n,): image_id and the metadata columns


@dataclass(frozen=True)
class EmbeddingPartition:
    """Where one encoder's vectors of one data set are put; `fingerprint` says what made them.

    Vectors with another fingerprint are neither reused nor kept.
    """

    warehouse: "Warehouse"
    encoder: str
    dataset: str
    dimension: int
    fingerprint: str

    def encoded_ids(self) -> set[str]:
        """Ids of the images whose vectors are stored or staged."""
        return {image_id for batch in self._batches(["image_id"]) for image_id in batch["image_id"].to_pylist()}

    def stage(self, image_ids: list[str], vectors: "NDArray[np.float32]") -> None:
        """Append vectors, ``(len(image_ids), dimension)`` float32, to what a later `commit` takes.

        Raises
        ------
        CounterstainError
            If the vectors have another shape, or one is not finite or is zero: searches would silently lose its image.
        """
        if vectors.shape != (len(image_ids), self.dimension):
            raise CounterstainError(
                f"{self.encoder} gave vectors of shape {vectors.shape} for {len(image_ids)} images, where its "
                f"dimension is said to be {self.dimension}."
            )
        _check_vectors(self.encoder, image_ids, vectors)
        spec = staging_table(self.encoder, self.dimension)
        n = len(image_ids)
        columns = [
            pa.array([self.dataset] * n, pa.string()),
            pa.array(image_ids, pa.string()),
            _vector_column(vectors),
            pa.array([self.fingerprint] * n, pa.string()),
        ]
        self.warehouse.create_table(spec).add(pa.Table.from_arrays(columns, schema=spec.schema))

    def commit(self) -> int:
        """Replace the partition, in one commit, by a vector of every image of the data set with its metadata.

        Returns the Lance version. Staged vectors are taken first, then stored ones with the same fingerprint. What is
        staged for the data set is dropped afterwards: whoever stages at the same time either finds its vectors stored,
        or is told at its own commit which are missing.

        Raises
        ------
        CounterstainError
            If an image has no vector yet; nothing is replaced then.
        """
        spec = embeddings_table(self.encoder, self.dimension)
        version = self.warehouse.replace_partition(spec, self._joined(), dataset=self.dataset)
        self._clear_staging()
        # A correction made since the metadata were read.
        refresh_metadata(self.warehouse, self.encoder, self.dataset)
        return version

    def _joined(self) -> Iterator[pa.RecordBatch]:
        metadata = read_metadata(self.warehouse, self.dataset).select("image_id", *METADATA_COLUMNS).to_arrow()
        row_of = {image_id: i for i, image_id in enumerate(metadata["image_id"].to_pylist())}
        spec = embeddings_table(self.encoder, self.dimension)
        pending = dict(row_of)
        for batch in self._batches(["dataset", "image_id", "vector", "fingerprint"]):
            # Two writers of one partition may have staged the same image.
            keep = [i for i, image_id in enumerate(batch["image_id"].to_pylist()) if pending.pop(image_id, -1) >= 0]
            kept = pa.Table.from_batches([batch]).take(pa.array(keep, pa.int64()))
            rows = metadata.take(pa.array([row_of[i] for i in kept["image_id"].to_pylist()], pa.int64()))
            for column in METADATA_COLUMNS:
                kept = kept.append_column(column, rows[column])
            yield from kept.cast(spec.schema).to_batches()
        if pending:
            raise CounterstainError(
                f"{len(pending)} of {len(row_of)} images of {self.dataset!r} have no {self.encoder} vector yet, "
                f"first: {sorted(pending)[:3]}; the partition is left as it was. Materialize the embeddings again."
            )

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield this fingerprint's rows, in the order in which vectors move, so that none is missed on its way."""
        where = equals({"dataset": self.dataset, "fingerprint": self.fingerprint})
        for name in (STAGING_PREFIX + self.encoder, EMBEDDINGS_PREFIX + self.encoder):
            if self.warehouse.has_table(name):
                yield from self.warehouse.dataset(name).to_batches(columns=columns, filter=where)

    def _clear_staging(self) -> None:
        name = STAGING_PREFIX + self.encoder
        if self.warehouse.has_table(name):
            self.warehouse.open_table(name).delete(equals({"dataset": self.dataset}))
            drop_replaced_versions(self.warehouse.dataset(name), STAGING_AGE)


def read_matrix(warehouse: "Warehouse", encoder: str, dataset: str) -> EmbeddingMatrix:
    """Return one partition as a memory-mapped matrix with its aligned metadata.

    The matrix is kept beside the warehouse under the identity of the table's data files, so that opening it again
    costs no read of the table and a changed table is never answered from an old matrix.

    Raises
    ------
    CounterstainError
        If the encoder has no vectors of this data set.
    """
    name = EMBEDDINGS_PREFIX + encoder
    if not warehouse.has_table(name):
        raise _no_vectors(encoder, dataset)
    table = warehouse.dataset(name)
    # The name becomes a folder's.
    path = warehouse.cache_dir / encoder / check_dataset_name(dataset) / f"{_identity(table)}.npy"
    try:
        return _open_cached(path)
    except FileNotFoundError:
        return _build_cached(table, encoder, dataset, path, keep_others=warehouse.as_of is not None)


def import_embeddings(
    warehouse: "Warehouse", encoder: str, dataset: str, vectors_path: str | Path, manifest: "pl.DataFrame"
) -> int:
    """Store vectors that were computed elsewhere, as an encoder of their own.

    Parameters
    ----------
    warehouse
        The warehouse; the data set's images must be in it.
    encoder
        Name for the encoder; a name that was imported before is replaced for this data set.
    dataset
        Data set the vectors belong to.
    vectors_path
        A ``.npy`` file, ``(n, d)``, any float type; stored as float32.
    manifest
        ``n`` rows aligned with the vectors, naming each image by ``image_id`` or ``uri``.

    Returns
    -------
    int
        Vectors stored.

    Raises
    ------
    CounterstainError
        If the file is no such matrix, lengths differ, a vector is not finite or is zero, or the rows are not just
        the images of the data set; nothing is stored then.
    """
    vectors = _load_matrix(vectors_path)
    if len(vectors) != manifest.height:
        raise CounterstainError(
            f"{vectors_path} has {len(vectors)} rows, the manifest {manifest.height}: they must align."
        )
    image_ids = resolve_image_ids(warehouse, dataset, manifest)
    if missing := set(read_metadata(warehouse, dataset)["image_id"]) - set(image_ids):
        raise CounterstainError(
            f"the manifest leaves out {len(missing)} images of data set {dataset!r}, first: {sorted(missing)[:3]}."
        )
    _check_vectors(encoder, image_ids, vectors)
    digest = hashlib.sha256(vectors.data).hexdigest()
    partition = EmbeddingPartition(warehouse, encoder, dataset, vectors.shape[1], f"imported:{digest[:32]}")
    for start in range(0, len(vectors), 4096):
        block = slice(start, start + 4096)
        partition.stage(image_ids[block], vectors[block])
    partition.commit()
    row = {
        "encoder": encoder,
        "dimension": vectors.shape[1],
        "source": str(vectors_path),
        "imported_at": datetime.now(UTC),
    }
    warehouse.upsert(IMPORTED_ENCODERS, [row])
    return len(vectors)


def _load_matrix(path: str | Path) -> "NDArray[np.float32]":
    try:
        vectors = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise CounterstainError(f"cannot read {path} as a .npy matrix: {error}") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.size:
        raise CounterstainError(f"{path} must hold one (n, d) matrix of floats.")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its image's name
        return np.ascontiguousarray(vectors, np.float32)


def _check_vectors(encoder: str, image_ids: list[str], vectors: "NDArray[np.float32]") -> None:
    # In float32, as a search computes them: a value of 1e30 is finite, its square is not.
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if bad.size:
        raise CounterstainError(
            f"{encoder}: {bad.size} vectors are zero or not finite, first that of image {image_ids[bad[0]]}; "
            "nothing was stored of them. Check the image, and the encoder's weights and precision."
        )


def _vector_column(vectors: "NDArray[np.float32]") -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def _read_sorted(table: Any, where: str, image_ids: list[str]) -> "NDArray[np.float32]":
    row_of = {image_id: i for i, image_id in enumerate(image_ids)}
    dimension = table.schema.field("vector").type.list_size
    vectors = np.empty((len(image_ids), dimension), np.float32)
    for batch in table.to_batches(columns=["image_id", "vector"], filter=where):
        rows = [row_of[image_id] for image_id in batch["image_id"].to_pylist()]
        vectors[rows] = batch["vector"].flatten().to_numpy(zero_copy_only=True).reshape(len(rows), dimension)
    return vectors


def _identity(table: Any) -> str:
    """Return a digest of the data and deletion files of a table's version: same digest, same rows."""
    names = [
        f"{[file.path for file in fragment.data_files()]}{fragment.deletion_file()}"
        for fragment in table.get_fragments()
    ]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]


def _no_vectors(encoder: str, dataset: str) -> CounterstainError:
    return CounterstainError(
        f"no {encoder} vectors of data set {dataset!r}: run "
        f"`counterstain materialize --dataset {dataset} --encoder {encoder} --asset embeddings`."
    )


def _open_cached(path: Path) -> EmbeddingMatrix:
    import polars as pl

    return EmbeddingMatrix(np.load(path, mmap_mode="r"), pl.read_parquet(path.with_suffix(".parquet")))


def _build_cached(table: Any, encoder: str, dataset: str, path: Path, *, keep_others: bool) -> EmbeddingMatrix:
    """Read a partition into cache files at `path`, each put in place as a whole, and drop those of other versions."""
    import polars as pl

    where = equals({"dataset": dataset})
    images = pl.DataFrame(table.to_table(columns=["image_id", *METADATA_COLUMNS], filter=where)).sort("image_id")
    if images.is_empty():
        raise _no_vectors(encoder, dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.npy")
    try:
        np.save(temporary, _read_sorted(table, where, images["image_id"].to_list()))
        images.write_parquet(temporary.with_suffix(".parquet"))
        # Opened before it is in place: another process may at once replace it by the matrix of a newer version.
        matrix = _open_cached(temporary)
        for suffix in (".parquet", ".npy"):
            temporary.with_suffix(suffix).replace(path.with_suffix(suffix))
    finally:
        for suffix in (".parquet", ".npy"):
            temporary.with_suffix(suffix).unlink(missing_ok=True)
    if not keep_others:
        for old in path.parent.glob("[!.]*"):
            if old.stem != path.stem:
                old.unlink(missing_ok=True)
    return matrix
