"""Texts of a data set, and their vectors from one encoder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from store.schema import TEXT_EMBEDDINGS_PREFIX, TEXTS, CounterstainError, text_embeddings_table
from store.warehouse import equals

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from store.warehouse import Warehouse


@dataclass(frozen=True)
class TextMatrix:
    """One encoder's vectors ``(n, d)`` of a data set's texts, and the texts, row by row, sorted by text id.

    A model's logit is `logit_scale` times a cosine, plus `logit_bias`.
    """

    vectors: "NDArray[np.float32]"
    texts: "pl.DataFrame"
    logit_scale: float
    logit_bias: float


def write_texts(warehouse: "Warehouse", dataset: str, texts: "pl.DataFrame") -> int:
    """Replace a data set's texts in one commit; returns the Lance version. `texts` has the other columns of ``texts``.

    Raises
    ------
    ValueError
        If columns are missing or left over, or two texts have one id.
    """
    import polars as pl

    rows = texts.with_columns(pl.lit(dataset).alias("dataset"))
    return warehouse.replace_partition(TEXTS, rows.to_arrow(), dataset=dataset)


def read_texts(warehouse: "Warehouse", dataset: str) -> "pl.DataFrame":
    """Return a data set's texts, sorted by text id; empty where there are none."""
    import polars as pl

    return warehouse.frame("texts").filter(pl.col("dataset") == dataset).drop("dataset").sort("text_id").collect()


def write_text_vectors(
    warehouse: "Warehouse",
    encoder: str,
    dataset: str,
    text_ids: list[str],
    vectors: "NDArray[np.float32]",
    *,
    fingerprint: str,
    logit_scale: float,
    logit_bias: float,
) -> int:
    """Replace an encoder's vectors ``(n, d)`` of a data set's texts in one commit; returns the Lance version.

    Raises
    ------
    CounterstainError
        If a vector is zero or not finite; nothing is replaced then.
    """
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if bad.size:
        raise CounterstainError(
            f"{encoder}: {bad.size} vectors of texts are zero or not finite, first that of {text_ids[bad[0]]}; "
            "nothing was stored. Check the encoder's weights."
        )
    spec = text_embeddings_table(encoder, vectors.shape[1])
    n = len(text_ids)
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    columns = [
        pa.array([dataset] * n, pa.string()),
        pa.array(text_ids, pa.string()),
        pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        pa.array([fingerprint] * n, pa.string()),
        pa.array([logit_scale] * n, pa.float64()),
        pa.array([logit_bias] * n, pa.float64()),
    ]
    return warehouse.replace_partition(spec, pa.Table.from_arrays(columns, schema=spec.schema), dataset=dataset)


def drop_text_vectors(warehouse: "Warehouse", encoder: str, dataset: str) -> None:
    """Remove an encoder's vectors of a data set's texts, where there are any: they may be of other texts than now."""
    table = TEXT_EMBEDDINGS_PREFIX + encoder
    if warehouse.has_table(table):
        warehouse.check_writable()
        warehouse.open_table(table).delete(equals({"dataset": dataset}))


def read_text_vectors(warehouse: "Warehouse", encoder: str, dataset: str) -> TextMatrix | None:
    """Return an encoder's vectors of a data set's texts; None where there are none."""
    import polars as pl

    table = TEXT_EMBEDDINGS_PREFIX + encoder
    if not warehouse.has_table(table):
        return None
    stored = warehouse.dataset(table).to_table(filter=equals({"dataset": dataset})).sort_by("text_id")
    if not stored.num_rows:
        return None
    dimension = stored.schema.field("vector").type.list_size
    vectors = stored["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    ids = pl.DataFrame(stored.select(["text_id"]))
    texts = ids.join(read_texts(warehouse, dataset), on="text_id", how="left", maintain_order="left")
    # One that was read away since has no text any more.
    kept = texts["kind"].is_not_null()
    return TextMatrix(
        vectors[kept.to_numpy()], texts.filter(kept), stored["logit_scale"][0].as_py(), stored["logit_bias"][0].as_py()
    )
