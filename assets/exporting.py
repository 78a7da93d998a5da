"""Every number of a warehouse as Parquet and CSV, with what each column means."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from assets.backgrounds import terms_of, without_names
from assets.covering import searched
from assets.registry import get_dataset, of_datasets
from assets.step import Cell
from store.descriptions import meaning, row_meaning
from store.runs import without_places
from store.schema import EMBEDDINGS_PREFIX, TABLES, CounterstainError

# What holds no number: where files are, what a person typed or wrote.
_LEFT_OUT = frozenset({"datasets", "corrections", "imported_encoders", "rejects", "named_views", "texts"})
_LEFT_OUT_COLUMNS = ["caption"]


def export_tables(
    cell: Cell, folder: Path, *, datasets: Sequence[str] = (), vectors: bool = False, pictures: bool = False
) -> pl.DataFrame:
    """Write every table that holds numbers into a folder, as Parquet and as CSV, with a README of their columns.

    Parameters
    ----------
    cell
        The project and its warehouse.
    folder
        A new or empty folder.
    datasets
        Only rows of these, and of what is over all data sets; else all.
    vectors
        The embeddings too, as Parquet.
    pictures
        Thumbnails and other pictures too, in the Parquet files; none of an image that was not searched for words that
        may identify someone.

    Returns
    -------
    polars.DataFrame
        ``table`` and ``rows`` of what was written.

    Raises
    ------
    CounterstainError
        If the folder holds something, a data set is not registered, or there is nothing to export.
    """
    warehouse = cell.warehouse
    for name in datasets:
        get_dataset(warehouse, name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CounterstainError(f"{folder} is not an empty folder: name a new one.")
    stored = warehouse.tables()
    names = [name for name in TABLES if name in stored and name not in _LEFT_OUT]
    if vectors:
        names += [name for name in stored if name.startswith(EMBEDDINGS_PREFIX)]
    if not names:
        raise CounterstainError("nothing to export yet: materialize a data set first.")
    (folder / "parquet").mkdir(parents=True)
    (folder / "csv").mkdir()
    written, columns = [], []
    for name in names:
        rows = _rows(cell, name, datasets, pictures=pictures)
        rows.write_parquet(folder / "parquet" / f"{name}.parquet")
        if not name.startswith(EMBEDDINGS_PREFIX):
            flat(rows).write_csv(folder / "csv" / f"{name}.csv")
        written.append((name, rows.height))
        columns += [(name, column, str(kind), meaning(name, column) or "") for column, kind in rows.schema.items()]
    described = pl.DataFrame(columns, ["table", "column", "type", "meaning"], orient="row")
    described.write_csv(folder / "columns.csv")
    (folder / "README.md").write_text(_readme(written, described), encoding="utf-8")
    return pl.DataFrame(written, {"table": pl.String, "rows": pl.Int64}, orient="row")


def _rows(cell: Cell, name: str, datasets: Sequence[str], *, pictures: bool) -> pl.DataFrame:
    """Read a table; of what is burned into images, words that may identify someone are left out."""
    frame = cell.warehouse.frame(name)
    schema = frame.collect_schema()
    if not pictures:
        frame = frame.drop(column for column, kind in schema.items() if kind == pl.Binary)
    rows = of_datasets(frame.drop(_LEFT_OUT_COLUMNS, strict=False), datasets).collect()
    if name == "overlays":
        flagged = pl.col("possible_identifying").fill_null(True)
        rows = rows.with_columns(pl.when(~flagged).then(pl.col(column)).alias(column) for column in ("text", "term"))
    elif "overlay_text" in schema:
        rows = without_names(rows, terms_of(cell.project))
    if name == "runs":
        rows = without_places(rows)
    if name == "images" and pictures:
        rows = _covered_alone(cell, rows)
    # In the order of the rows, so that the same results are the same files.
    order = [column for column in ("dataset", "encoder", "row", "image_id", "asset", "finished_at") if column in rows]
    return rows.sort(order, maintain_order=True)


def _covered_alone(cell: Cell, images: pl.DataFrame) -> pl.DataFrame:
    """Return the images without the thumbnails of those of which it is not known what to cover."""
    known = searched(cell.warehouse).with_columns(searched=pl.lit(True)).collect()
    marked = images.join(known, on=["dataset", "image_id"], how="left", maintain_order="left")
    return marked.with_columns(pl.when("searched").then("thumbnail").alias("thumbnail")).drop("searched")


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame for CSV, which has no lists and no bytes: the ones as JSON, the others not at all."""
    frame = frame.drop(name for name, kind in frame.schema.items() if kind == pl.Binary)
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(name, [None if cell is None else json.dumps(cell) for cell in frame[name].to_list()], pl.String)
        for name in nested
    )


def _readme(written: Sequence[tuple[str, int]], columns: pl.DataFrame) -> str:
    lines = [
        "# Results of a counterstain warehouse",
        "",
        "Every table is there twice: `parquet/<table>.parquet`, with types, and `csv/<table>.csv`, where lists are "
        "JSON and an empty cell is null. `columns.csv` holds what follows as a table. Rows are tidy: one value each, "
        "with its interval (95 %), support and seed beside it. Words burned into images that may identify someone are "
        "left out, and so are captions and the folders that files lie in. File names (`uri`), `patient`, `slide` and "
        "`attributes` are as the data set gives them: look at these before you pass the files on.",
    ]
    for name, rows in written:
        lines += ["", f"## {name}", "", f"{rows:,} rows; one is {row_meaning(name) or 'not described'}.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        of_table = columns.filter(table=name).select("column", "type", "meaning").iter_rows()
        lines += [f"| {column} | {kind} | {words.replace('|', '/')} |" for column, kind, words in of_table]
    return "\n".join(lines) + "\n"
