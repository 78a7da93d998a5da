"""A data set as the explorer shows it: images as rows, and layouts, neighbours and predictions of each encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from analysis.layouts import nearness_to_reference
from assets.backgrounds import known_background
from assets.explorer.columns import HIDDEN, PROBE_COLUMN, THUMBNAIL_COLUMN, Column, charts, shown_columns
from assets.project import Project
from assets.step import Cell
from store import Warehouse
from store.sandbox import Sandbox
from store.schema import CounterstainError

# Of a label probe, the predictions shown: no patient or slide is on both sides.
_PROTOCOL = "grouped"


@dataclass(frozen=True, order=True)
class Setting:
    """A setting of UMAP."""

    n_neighbors: int
    min_dist: float

    def __str__(self) -> str:
        return f"{self.n_neighbors},{self.min_dist:g}"


@dataclass(frozen=True)
class Map:
    """Columns that hold a layout of an encoder, and its neighbours; None where none are stored.

    Attributes
    ----------
    x, y, neighbors
        Names of the columns.
    extent
        Least x and y, greatest x and y.
    """

    x: str
    y: str
    neighbors: str | None
    extent: tuple[float, float, float, float]


def mapped_data_sets(warehouse: Warehouse) -> dict[str, dict[str, list[Setting]]]:
    """Return the settings of each encoder of each data set that has layouts, nearest to umap-learn's defaults first."""
    columns = ["dataset", "encoder", "n_neighbors", "min_dist"]
    keys = warehouse.frame("layouts").select(columns).unique().collect().sort(columns)
    found: dict[str, dict[str, list[Setting]]] = {}
    for dataset, encoder, n_neighbors, min_dist in keys.rows():
        found.setdefault(dataset, {}).setdefault(encoder, []).append(Setting(n_neighbors, min_dist))
    for encoders in found.values():
        for settings in encoders.values():
            settings.sort(key=lambda setting: nearness_to_reference(setting.n_neighbors, setting.min_dist))
    return found


class DataSetMaps:
    """A data set as a table that the viewer queries; what is of an encoder joins it when first asked for.

    Parameters
    ----------
    project
        The project.
    dataset
        A data set.
    encoders
        Its encoders, and the settings of their layouts. Images that the first layout of any lacks are left out.
    thumbnails
        Address of the thumbnails: they are served at this, a slash and the row's number.

    Attributes
    ----------
    sandbox
        The table.
    columns
        Its columns that are shown, but for thumbnails.
    probes
        Of each encoder with a label probe, the column that tells which images at least half of its splits got right.
    image_ids
        The image of each row.
    left_out
        Images without a place.

    Raises
    ------
    CounterstainError
        If no image has a place in the layouts of all encoders.
    """

    def __init__(self, project: Project, dataset: str, encoders: Mapping[str, list[Setting]], thumbnails: str):
        self._warehouse = project.open()
        self._dataset = dataset
        self._encoders = encoders
        self._maps: dict[tuple[str, Setting], Map] = {}
        self._neighbors: dict[str, str | None] = {}
        images = self._rows("images").drop("thumbnail").collect().sort("image_id")
        kept = images.filter(pl.col("image_id").is_in(self._placed().implode()))
        if kept.is_empty():
            raise CounterstainError(
                f"no image of {dataset!r} has a place in the layouts of all of {', '.join(encoders)}: materialize "
                "umap_layouts again."
            )
        self.image_ids: list[str] = kept["image_id"].to_list()
        self.left_out = images.height - kept.height
        probed = self._by_row(self._probed())
        self.probes = {encoder: PROBE_COLUMN.format(encoder) for encoder in probed.columns}
        known, detected = known_background(Cell(project, self._warehouse, dataset, ""), kept)
        taken = [THUMBNAIL_COLUMN, *self.probes.values()]
        shown = shown_columns(known, detected, taken).with_columns(probed.rename(self.probes))
        self.columns: list[Column] = charts(shown)
        addresses = [f"{thumbnails}/{row}" for row in range(kept.height)]
        self.sandbox = Sandbox(shown.select(pl.Series(THUMBNAIL_COLUMN, addresses), pl.all()))

    def _rows(self, table: str, encoder: str | None = None) -> pl.LazyFrame:
        rows = self._warehouse.frame(table).filter(pl.col("dataset") == self._dataset)
        return rows if encoder is None else rows.filter(pl.col("encoder") == encoder)

    def _layout(self, encoder: str, setting: Setting) -> pl.LazyFrame:
        return self._rows("layouts", encoder).filter(
            pl.col("n_neighbors") == setting.n_neighbors, pl.col("min_dist") == setting.min_dist
        )

    def _placed(self) -> pl.Series:
        """Return the images with a place in the first layout of every encoder."""
        firsts = pl.concat(
            [self._layout(encoder, settings[0]).select("image_id") for encoder, settings in self._encoders.items()]
        )
        counts = firsts.group_by("image_id").len().collect()
        return counts.filter(pl.col("len") == len(self._encoders))["image_id"]

    def open_map(self, encoder: str, setting: Setting) -> Map:
        """Return the columns of a layout, which are put into the table the first time.

        Raises
        ------
        CounterstainError
            If there is no such layout, or it lacks an image.
        """
        if setting not in self._encoders.get(encoder, []):
            raise CounterstainError(
                f"{self._dataset} x {encoder} has no layout of n_neighbors,min_dist {setting}; it has: "
                f"{'; '.join(map(str, self._encoders.get(encoder, []))) or 'none'}."
            )
        if (encoder, setting) not in self._maps:
            if encoder not in self._neighbors:
                self._neighbors[encoder] = self._add_neighbors(encoder)
            self._maps[encoder, setting] = self._add_layout(encoder, setting, self._neighbors[encoder])
        return self._maps[encoder, setting]

    def _add_layout(self, encoder: str, setting: Setting, neighbors: str | None) -> Map:
        x, y = (f"{HIDDEN}{axis} {encoder} {setting}" for axis in "xy")
        places = self._layout(encoder, setting).select("image_id", pl.col("x").alias(x), pl.col("y").alias(y)).collect()
        added = self._by_row(places)
        if added[x].null_count():
            raise CounterstainError(
                f"{self._dataset} x {encoder}: the layout {setting} lacks images that others have: materialize "
                "umap_layouts again."
            )
        self.sandbox.add_columns(added)
        low, high = added.min().row(0), added.max().row(0)
        return Map(x, y, neighbors, (*low, *high))

    def _add_neighbors(self, encoder: str) -> str | None:
        """Add an encoder's neighbours; returns their column, None where none are stored."""
        stored = self._rows("neighbors", encoder).select("image_id", "rank", "neighbor_id", "distance").collect()
        if stored.is_empty():
            return None
        name = f"{HIDDEN}neighbors {encoder}"
        lists = neighbor_lists(stored, self.image_ids).rename({"neighbors": name})
        self.sandbox.add_columns(lists)
        return name

    def _probed(self) -> pl.DataFrame:
        """Return, of every encoder with a label probe, which images at least half of its splits got right."""
        predictions = self._rows("probe_predictions").filter(
            pl.col("target") == "label", pl.col("protocol") == _PROTOCOL, pl.col("split") == "cv"
        )
        right = pl.when(pl.col("correct").mean() >= 0.5).then(pl.lit("right")).otherwise(pl.lit("wrong"))
        votes = predictions.group_by("encoder", "image_id").agg(right.alias("probe")).collect()
        return votes.pivot("encoder", index="image_id", values="probe", sort_columns=True)

    def _by_row(self, values: pl.DataFrame) -> pl.DataFrame:
        """Return values by ``image_id`` in the order of the rows, null where there are none."""
        rows = pl.DataFrame({"image_id": self.image_ids})
        return rows.join(values, on="image_id", how="left", maintain_order="left").drop("image_id")


def neighbor_lists(neighbors: pl.DataFrame, image_ids: Sequence[str]) -> pl.DataFrame:
    """Return the column ``neighbors``: of each row, its neighbours' row numbers and distances, nearest first.

    Parameters
    ----------
    neighbors
        ``image_id``, ``rank``, ``neighbor_id``, ``distance``; those of other images are left out.
    image_ids
        ``(n,)``, the image of each row.
    """
    rows = pl.DataFrame({"image_id": image_ids}).with_row_index("row")
    numbered = neighbors.join(rows.rename({"image_id": "neighbor_id"}), on="neighbor_id").sort("rank")
    lists = numbered.group_by("image_id").agg(pl.col("row").cast(pl.Int32).alias("ids"), pl.col("distance"))
    joined = rows.join(lists, on="image_id", how="left", maintain_order="left")
    # The viewer reads a list of every row.
    filled = [pl.col("ids").fill_null([]), pl.col("distance").fill_null([]).alias("distances")]
    return joined.select(pl.struct(filled).alias("neighbors"))
