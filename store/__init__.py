"""The warehouse: rows in LanceDB, and the ways to read them (SQL, polars, vector search)."""

from store.warehouse import Warehouse, open_warehouse

__all__ = ["Warehouse", "open_warehouse"]
