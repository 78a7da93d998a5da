"""What the explorer answers a page: data sets, maps, queries, thumbnails and named views."""

import threading
from dataclasses import asdict
from typing import Any

import polars as pl

from assets.explorer.columns import VIEW_COLUMN
from assets.explorer.maps import DataSetMaps, Setting, mapped_data_sets
from assets.project import Project
from store.sandbox import QueryError
from store.schema import CounterstainError
from store.views import save_view, view_members, view_names


class Explorer:
    """The data sets of a warehouse that have layouts; each is read when first opened.

    Parameters
    ----------
    project
        The project.
    address
        Of the server, such as ``http://127.0.0.1:5055``: thumbnails are found there.
    dataset, encoder, setting
        What is shown first; else the first there is.

    Raises
    ------
    CounterstainError
        If there are no such layouts.
    """

    def __init__(
        self,
        project: Project,
        address: str,
        *,
        dataset: str | None = None,
        encoder: str | None = None,
        setting: Setting | None = None,
    ):
        self._project = project
        self._warehouse = project.open()
        self._address = address
        self._mapped = mapped_data_sets(self._warehouse)
        self._maps: dict[str, DataSetMaps] = {}
        self._reading = threading.RLock()
        self._start = self._found(dataset, encoder, setting)

    def _found(self, dataset: str | None, encoder: str | None, setting: Setting | None) -> dict[str, Any]:
        """Return what is shown first, with the first there is of what was not said."""
        if not self._mapped:
            raise CounterstainError(
                "there are no layouts to explore yet: `counterstain materialize`, or `counterstain demo`."
            )
        dataset = dataset or next(iter(self._mapped))
        encoders = self._mapped.get(dataset)
        if encoders is None:
            raise CounterstainError(
                f"data set {dataset!r} has no layouts yet: `counterstain materialize --dataset {dataset} "
                f"--asset umap_layouts`; those with layouts: {', '.join(self._mapped)}."
            )
        encoder = encoder or next(iter(encoders))
        if encoder not in encoders:
            raise CounterstainError(
                f"{dataset} has no layouts of encoder {encoder!r}; encoders with layouts: {', '.join(encoders)}."
            )
        if setting is not None and setting not in encoders[encoder]:
            known = "; ".join(map(str, sorted(encoders[encoder])))
            raise CounterstainError(f"{dataset} x {encoder} has no layout {setting}; n_neighbors,min_dist: {known}.")
        return {"dataset": dataset, "encoder": encoder, "setting": str(setting or encoders[encoder][0])}

    def catalogue(self) -> dict[str, Any]:
        """Return every data set's encoders and their settings, and what is shown first."""
        data_sets = {
            dataset: {encoder: [str(setting) for setting in settings] for encoder, settings in encoders.items()}
            for dataset, encoders in self._mapped.items()
        }
        return {"data_sets": data_sets, "start": self._start}

    def open_data_set(self, dataset: str) -> dict[str, Any]:
        """Return a data set's columns, encoders' probes, named views, and how many images are shown and left out."""
        with self._reading:
            maps = self._opened(dataset)
            views = self._add_views(maps, view_names(self._warehouse, dataset))
        return {
            "columns": [asdict(column) for column in maps.columns],
            "probes": maps.probes,
            "views": views,
            "images": len(maps.image_ids),
            "left_out": maps.left_out,
        }

    def open_map(self, dataset: str, encoder: str, setting: str) -> dict[str, Any]:
        """Return the columns of a layout and of its encoder's neighbours."""
        with self._reading:
            return asdict(self._opened(dataset).open_map(encoder, parse_setting(setting)))

    def count(self, dataset: str, predicate: str) -> dict[str, int]:
        """Return how many images a predicate chooses."""
        return {"images": len(self._chosen(dataset, predicate))}

    def query(self, dataset: str, sql: str) -> bytes:
        """Answer the viewer's SQL with an Arrow stream."""
        try:
            return self._opened(dataset).sandbox.answer(sql)
        except QueryError as error:
            raise CounterstainError(f"SQL: {error}") from error

    def save_view(self, dataset: str, name: str, predicate: str) -> dict[str, Any]:
        """Keep the images that a predicate chooses under a name; return the predicate that now chooses them."""
        count = save_view(self._warehouse, name, dataset, self._chosen(dataset, predicate), predicate)
        with self._reading:
            return {"images": count, "predicate": self._add_views(self._opened(dataset), [name])[name]}

    def thumbnail(self, dataset: str, row: int) -> bytes | None:
        """Return the JPEG of a row's image; None where there is none."""
        maps = self._opened(dataset) if dataset in self._mapped else None
        if maps is None or not 0 <= row < len(maps.image_ids):
            return None
        of_image = (pl.col("dataset") == dataset) & (pl.col("image_id") == maps.image_ids[row])
        found = self._warehouse.frame("images").filter(of_image).select("thumbnail").collect()
        return found["thumbnail"][0] if found.height else None

    def _chosen(self, dataset: str, predicate: str) -> list[str]:
        try:
            image_ids: list[str] = self._opened(dataset).sandbox.chosen("image_id", predicate)
        except QueryError as error:
            raise CounterstainError(f"SQL: {error}") from error
        return image_ids

    def _opened(self, dataset: str) -> DataSetMaps:
        if dataset not in self._mapped:
            raise CounterstainError(f"no data set {dataset!r} here.")
        with self._reading:
            if dataset not in self._maps:
                thumbnails = f"{self._address}/thumbnails/{dataset}"
                self._maps[dataset] = DataSetMaps(self._project, dataset, self._mapped[dataset], thumbnails)
            return self._maps[dataset]

    def _add_views(self, maps: DataSetMaps, names: list[str]) -> dict[str, str]:
        """Put into the table which images each view has, to colour by; return the predicates that choose them."""
        columns = {name: VIEW_COLUMN.format(name) for name in names}
        image_id = pl.col("image_id")
        membership = []
        for name, column in columns.items():
            _, members = view_members(self._warehouse, name)
            chosen = image_id.is_in(pl.Series(members).implode())
            membership.append(pl.when(chosen).then(pl.lit("in")).otherwise(pl.lit("out")).alias(column))
        if membership:  # the table is made anew, so once for all
            maps.sandbox.add_columns(pl.DataFrame({"image_id": maps.image_ids}).select(membership))
        return {name: f"\"{column}\" = 'in'" for name, column in columns.items()}


def parse_setting(text: str) -> Setting:
    """Return a setting written as ``n_neighbors,min_dist``.

    Raises
    ------
    CounterstainError
        If it is not.
    """
    try:
        n_neighbors, min_dist = text.split(",")
        return Setting(int(n_neighbors), float(min_dist))
    except ValueError as error:
        raise CounterstainError(f"{text!r} is no layout: write n_neighbors,min_dist, such as 15,0.1.") from error
