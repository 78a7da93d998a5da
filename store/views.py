"""Named views: images that a person selected, kept under a name that SQL and searches understand."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from store.schema import NAMED_VIEWS, TABLES, CounterstainError
from store.warehouse import equals, quote

if TYPE_CHECKING:
    from store.warehouse import Warehouse

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def save_view(warehouse: "Warehouse", name: str, dataset: str, image_ids: Sequence[str], predicate: str) -> int:
    """Keep images of a data set under a name; returns how many they are.

    Parameters
    ----------
    warehouse
        The warehouse.
    name
        Lower-case letters, digits and ``_``: SQL reads it as a table.
    dataset
        Data set of the images.
    image_ids
        The images, each once or more often.
    predicate
        What chose them, for a reader.

    Raises
    ------
    CounterstainError
        If the name is taken or could not be a table's, there is no image, or one is not in the data set.
    """
    import polars as pl

    _check_name(name)
    if warehouse.frame("named_views").filter(pl.col("name") == name).select("name").collect().height:
        raise CounterstainError(f"there is a view {name!r} already: choose another name, or remove that one.")
    members = sorted(set(image_ids))
    if not members:
        raise CounterstainError(f"view {name!r}: no image is selected.")
    images = warehouse.frame("images").filter(pl.col("dataset") == dataset)
    stored = set(images.select("image_id").collect()["image_id"])
    if missing := [image_id for image_id in members if image_id not in stored]:
        raise CounterstainError(f"view {name!r}: data set {dataset!r} has no image {missing[0]!r}.")
    row = {
        "name": name,
        "dataset": dataset,
        "image_ids": members,
        "predicate": predicate,
        "saved_at": datetime.now(UTC),
    }
    warehouse.upsert(NAMED_VIEWS, [row])
    return len(members)


def remove_view(warehouse: "Warehouse", name: str) -> None:
    """Forget a name; the images stay.

    Raises
    ------
    CounterstainError
        If there is no such view.
    """
    view_members(warehouse, name)
    warehouse.replace_partition(NAMED_VIEWS, NAMED_VIEWS.schema.empty_table(), name=name)


def view_names(warehouse: "Warehouse", dataset: str) -> list[str]:
    """Return the names of the views of a data set that SQL reads, sorted."""
    import polars as pl

    views = warehouse.frame("named_views").filter(pl.col("dataset") == dataset)
    names = views.select("name").collect()["name"].sort()
    return [name for name in names if _NAME.fullmatch(name)]


def view_members(warehouse: "Warehouse", name: str) -> tuple[str, list[str]]:
    """Return the data set of a view and the ids of its images.

    Raises
    ------
    CounterstainError
        If there is no such view.
    """
    import polars as pl

    views = warehouse.frame("named_views")
    found = views.filter(pl.col("name") == name).select("dataset", "image_ids").collect()
    if found.is_empty():
        known = ", ".join(sorted(views.select("name").collect()["name"])) or "none yet"
        raise CounterstainError(f"no view {name!r}; views: {known}.")
    dataset, members = found.row(0)
    return dataset, members


def within_view(warehouse: "Warehouse", name: str, where: str | None = None) -> str:
    """Return the filter on metadata that selects a view's images, and of these those that fit `where`.

    Raises
    ------
    CounterstainError
        If there is no such view, or `where` is not one condition.
    """
    dataset, members = view_members(warehouse, name)
    conditions = [equals({"dataset": dataset}), f"image_id IN ({', '.join(map(quote, members))})"]
    if where:
        check_condition(where)
        conditions.append(f"({where}\n)")
    return " AND ".join(conditions)


def check_condition(where: str) -> None:
    """Refuse what would leave its parentheses when joined with other conditions, such as ``a) OR (b``.

    Raises
    ------
    CounterstainError
        If `where` is not one condition by SQL's grammar.
    """
    import duckdb

    try:
        statements = duckdb.extract_statements(f"SELECT {where}")
    except duckdb.Error as error:
        raise CounterstainError(f"filter {where!r}: {error}") from error
    if len(statements) != 1:
        raise CounterstainError(f"filter {where!r} is more than one condition.")


def view_queries(warehouse: "Warehouse") -> dict[str, str]:
    """Return, by the name of each view, the query for its rows of ``images``."""
    names = warehouse.frame("named_views").select("name").collect()["name"].sort()
    return {
        name: "SELECT images.* FROM images SEMI JOIN (SELECT dataset, unnest(image_ids) AS image_id FROM named_views "
        f"WHERE {equals({'name': name})}) AS members USING (dataset, image_id)"
        for name in names
        if _NAME.fullmatch(name)
    }


def _check_name(name: str) -> None:
    import duckdb

    if not _NAME.fullmatch(name) or "__" in name:
        raise CounterstainError(
            f"{name!r} cannot name a view: use 1 to 63 lower-case letters, digits or single '_', "
            "beginning with a letter."
        )
    with duckdb.connect() as connection:
        reserved = "SELECT count(*) FROM duckdb_keywords() WHERE keyword_category != 'unreserved' AND keyword_name = ?"
        [(taken,)] = connection.execute(reserved, [name]).fetchall()
    if taken or name in TABLES:
        raise CounterstainError(f"{name!r} cannot name a view: SQL has that word already.")
