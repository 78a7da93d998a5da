"""Vector similarity search with metadata filters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from store.maintenance import TEXT_COLUMN
from store.schema import EMBEDDINGS_PREFIX, METADATA_COLUMNS, CounterstainError
from store.warehouse import equals, quote

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from store.warehouse import Warehouse


def search(
    warehouse: "Warehouse",
    encoder: str,
    query: "str | NDArray[Any]",
    *,
    dataset: str | Sequence[str] | None = None,
    where: str | None = None,
    k: int = 10,
    leave_out: "pl.DataFrame | None" = None,
) -> "pl.DataFrame":
    """Return the `k` stored images nearest to `query` by cosine distance, nearest first.

    Parameters
    ----------
    warehouse
        The warehouse.
    encoder
        Encoder whose vectors are compared.
    query
        A vector ``(d,)`` of the same encoder, or the id of a stored image, which is then left out of the answer. Its
        vector is that of a data set searched, where one of them has it.
    dataset
        Search this data set only, or these.
    where
        SQL filter over the metadata columns, applied *before* the search, such as
        ``"text_overlay AND label = 'benign'"``.
    k
        Rows at most; fewer where the filter leaves fewer.
    leave_out
        Images not to be answered with, by ``dataset`` and ``image_id``, such as those of the query's own group.

    Returns
    -------
    polars.DataFrame
        ``dataset, image_id, distance`` (0 … 2), ``uri`` and the metadata columns.

    Raises
    ------
    CounterstainError
        If the encoder has no vectors (of a data set), the stored image is unknown, the vector does not fit or the
        filter is wrong.
    """
    import polars as pl

    if k < 1:
        raise CounterstainError(f"k is {k}: ask for at least one image.")
    table = vectors_table(warehouse, encoder)
    columns = ["dataset", "image_id", *METADATA_COLUMNS]
    conditions = conditions_of(table, encoder, dataset, where)
    if isinstance(query, str):
        vector = _stored_vector(table, query, conditions[:1] if dataset is not None else [])
        conditions.append(f"image_id != {quote(query)}")
    else:
        with np.errstate(over="ignore"):  # refused below
            vector = np.asarray(query, np.float32)
    dimension = table.schema.field("vector").type.list_size
    if vector.shape != (dimension,) or not np.isfinite(vector).all() or not vector.any():
        raise CounterstainError(
            f"a query for {encoder} is one finite, non-zero vector of {dimension} values, got shape {vector.shape}."
        )
    builder = table.search(vector, vector_column_name="vector").distance_type("cosine").select([*columns, "_distance"])
    if conditions:
        builder = builder.where(" AND ".join(conditions), prefilter=True)
    # Struck from the answer rather than named in the filter: a group may have thousands of images.
    found = pl.DataFrame(builder.limit(k + (0 if leave_out is None else leave_out.height)).to_arrow())
    if leave_out is not None:
        found = found.join(leave_out, on=["dataset", "image_id"], how="anti", maintain_order="left").head(k)
    images = warehouse.frame("images").filter(pl.col("image_id").is_in(found["image_id"].to_list()))
    uris = images.select("dataset", "image_id", "uri").collect()
    # Rounding may take an image a hair nearer to itself than zero.
    found = found.with_columns(pl.col("_distance").clip(lower_bound=0))
    answer = found.rename({"_distance": "distance"}).join(uris, on=["dataset", "image_id"], how="left")
    return answer.sort("distance", "image_id").select("dataset", "image_id", "distance", "uri", *METADATA_COLUMNS)


def search_text(warehouse: "Warehouse", words: str, *, dataset: str | None = None, k: int = 100) -> "pl.DataFrame":
    """Return the images whose burned-in text holds any of `words`, those that hold more and rarer ones first.

    Case and accents make no difference. What may identify someone is not among the text that was detected.

    Returns
    -------
    polars.DataFrame
        ``dataset, image_id, score, uri, label, overlay_text, text_overlay_source``.

    Raises
    ------
    CounterstainError
        If there is no word to look for, or no images yet.
    """
    import polars as pl

    if k < 1 or not words.strip():
        raise CounterstainError("name at least one word to look for, and ask for at least one image.")
    table = warehouse.open_table("images")
    if not any(TEXT_COLUMN in index.columns for index in table.list_indices()):
        raise CounterstainError("the text of the images is not indexed yet: run `counterstain maintain`.")
    columns = ["dataset", "image_id", "uri", "label", TEXT_COLUMN, "text_overlay_source"]
    builder = table.search(words, query_type="fts", fts_columns=TEXT_COLUMN).select([*columns, "_score"])
    if dataset is not None:
        builder = builder.where(equals({"dataset": dataset}), prefilter=True)
    found = pl.DataFrame(builder.limit(k).to_arrow()).rename({"_score": "score"})
    return found.sort(["score", "image_id"], descending=[True, False]).select(*columns[:2], "score", *columns[2:])


def vectors_table(warehouse: "Warehouse", encoder: str) -> Any:
    """Return the LanceDB table of an encoder's vectors; raises `CounterstainError` where there is none."""
    name = EMBEDDINGS_PREFIX + encoder
    if not warehouse.has_table(name):
        known = ", ".join(warehouse.encoders()) or "none yet"
        raise CounterstainError(f"no vectors of encoder {encoder!r}; encoders with vectors: {known}.")
    return warehouse.open_table(name)


def conditions_of(table: Any, encoder: str, dataset: str | Sequence[str] | None, where: str | None) -> list[str]:
    """Return the filters that hold together, that on data sets first; raises `CounterstainError` if one is wrong."""
    conditions = []
    if dataset is not None:
        names = [dataset] if isinstance(dataset, str) else list(dict.fromkeys(dataset))
        for name in names:
            if not table.count_rows(equals({"dataset": name})):
                raise CounterstainError(
                    f"no {encoder} vectors of data set {name!r}: "
                    f"`counterstain materialize --dataset {name} --encoder {encoder} --asset embeddings` makes them."
                )
        conditions.append(f"dataset IN ({', '.join(map(quote, names))})")
    if where:
        conditions.append(_checked_filter(table, where, ["dataset", "image_id", *METADATA_COLUMNS]))
    return conditions


def _checked_filter(table: Any, where: str, columns: list[str]) -> str:
    """Return the filter in parentheses, fit to be joined with others.

    Lance stops reading a filter where it no longer understands it, and ``a) OR (b`` would leave its parentheses: SQL's
    own grammar tells whether it is one expression.
    """
    import duckdb

    grouped = f"({where}\n)"  # a comment ends with its line
    try:
        with duckdb.connect() as connection:
            if len(connection.extract_statements(f"SELECT {where}")) != 1:
                raise ValueError("it is more than one condition.")
        table.to_lance().scanner(columns=["image_id"], filter=grouped).explain_plan()
    except (OSError, ValueError, duckdb.Error) as error:
        raise CounterstainError(f"filter {where!r}: {error}\nColumns: {', '.join(columns)}") from error
    return grouped


def _stored_vector(table: Any, image_id: str, preferred: list[str]) -> "NDArray[np.float32]":
    """Return the vector of a stored image, of the `preferred` data sets where one of them has it."""
    same_id = equals({"image_id": image_id})
    for where in (" AND ".join([same_id, *preferred]), same_id):
        rows = table.to_lance().to_table(columns=["vector"], filter=where, limit=1)
        if rows.num_rows:
            return np.asarray(rows["vector"][0].as_py(), np.float32)
    raise CounterstainError(f"{table.name} has no image {image_id!r}.")
