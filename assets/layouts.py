"""Layouts for a reader: figures as files, and new images placed among those laid out."""

from pathlib import Path
from typing import get_args

import polars as pl

from analysis.figures import encoders_figure, layout_figure
from analysis.figures.layouts import Form
from analysis.layouts import nearness_to_reference
from analysis.placing import place
from analysis.report.pictures import attribute_values
from assets import umap_layouts
from assets.backgrounds import terms_of, without_names
from assets.project import Project
from assets.searching import encode_image
from assets.step import Cell
from store import Warehouse
from store.schema import CounterstainError


def draw_grid(project: Project, dataset: str, encoder: str, *, colour_by: str, out: Path) -> Path:
    """Draw all layouts of a cell to a PNG, SVG or PDF file.

    Raises
    ------
    CounterstainError
        If there are no such layouts or no such column, or the file's name has another ending.
    """
    form = _form(out)
    warehouse = project.open()
    points = _layouts(warehouse, dataset).filter(pl.col("encoder") == encoder).collect()
    if points.is_empty():
        raise CounterstainError(f"{dataset} x {encoder} has no layouts: materialize umap_layouts.")
    drawn = _coloured(project, dataset, points, colour_by)
    title = f"{dataset}, {encoder}, by {colour_by}"
    _write(out, layout_figure(drawn, colour_by=colour_by, title=title, form=form))
    return out


def draw_encoders(
    project: Project, dataset: str, *, colour_by: str, out: Path, n_neighbors: int | None, min_dist: float | None
) -> Path:
    """Draw the layouts of all encoders at one setting to a PNG, SVG or PDF file.

    Unless given, the setting is the nearest to umap-learn's defaults of those that all encoders have.

    Raises
    ------
    CounterstainError
        As `draw_grid`; or if no setting fits.
    """
    form = _form(out)
    warehouse = project.open()
    layouts = _layouts(warehouse, dataset)
    keys = layouts.select("encoder", "n_neighbors", "min_dist").unique().collect()
    setting = common_setting(keys, n_neighbors, min_dist)
    if setting is None:
        raise CounterstainError(
            f"{dataset} has no layouts of n_neighbors {n_neighbors or 'any'}, min_dist "
            f"{'any' if min_dist is None else min_dist} of all its encoders: "
            '`counterstain sql "SELECT DISTINCT encoder, n_neighbors, min_dist FROM layouts"` lists them.'
        )
    size, distance = setting
    points = layouts.filter((pl.col("n_neighbors") == size) & (pl.col("min_dist") == distance)).collect()
    drawn = _coloured(project, dataset, points, colour_by)
    title = f"{dataset}, n_neighbors {size}, min_dist {distance:g}, by {colour_by}"
    _write(out, encoders_figure(drawn, colour_by=colour_by, title=title, form=form))
    return out


def common_setting(
    keys: pl.DataFrame, n_neighbors: int | None = None, min_dist: float | None = None
) -> tuple[int, float] | None:
    """Return the setting nearest to umap-learn's defaults that every encoder of the frame has, or None."""
    wanted = keys
    if n_neighbors is not None:
        wanted = wanted.filter(n_neighbors=n_neighbors)
    if min_dist is not None:
        wanted = wanted.filter(min_dist=min_dist)
    of_all = (
        wanted.group_by("n_neighbors", "min_dist")
        .agg(pl.col("encoder").n_unique())
        .filter(pl.col("encoder") == keys["encoder"].n_unique())
    )
    settings = of_all.select("n_neighbors", "min_dist").rows()
    return min(settings, key=lambda setting: nearness_to_reference(*setting)) if settings else None


def place_image(
    project: Project, image: str, encoder: str, dataset: str, *, n_neighbors: int, min_dist: float
) -> tuple[float, float]:
    """Return x and y of a new image in a stored layout.

    Raises
    ------
    CounterstainError
        If there is no such layout, or it is not of the vectors as they are; or as `encode_image` says.
    """
    warehouse = project.open()
    setting = (pl.col("n_neighbors") == n_neighbors) & (pl.col("min_dist") == min_dist)
    points = _layouts(warehouse, dataset).filter(setting, pl.col("encoder") == encoder).collect()
    if points.is_empty():
        raise CounterstainError(
            f"{dataset} x {encoder} has no layout of n_neighbors {n_neighbors}, min_dist {min_dist}: "
            '`counterstain sql "SELECT DISTINCT n_neighbors, min_dist FROM layouts"` lists them.'
        )
    # The same images may have other vectors by now: among these the layout says nothing of a new one.
    if umap_layouts.STEP.state(Cell(project, warehouse, dataset, encoder)) != "current":
        raise CounterstainError(
            f"the layouts of {dataset} x {encoder} were made from other vectors or with other settings: run "
            f"`counterstain materialize --dataset {dataset} --encoder {encoder} --asset umap_layouts`."
        )
    matrix = warehouse.vectors(encoder, dataset)
    placed = matrix.images.select("image_id").join(points, on="image_id", how="left", maintain_order="left")
    if placed["x"].null_count():
        raise CounterstainError(
            f"{dataset} x {encoder} has images that are not in the layout: materialize umap_layouts again."
        )
    vector = encode_image(project, encoder, Path(image))
    [(x, y)] = place(
        vector[None],
        matrix.vectors,
        placed.select("x", "y").to_numpy(),
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        seed=project.seed,
    )
    return float(x), float(y)


def _write(out: Path, picture: bytes) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(picture)
    except OSError as error:
        raise CounterstainError(f"{out} cannot be written: {error.strerror}.") from error


def _form(out: Path) -> Form:
    for form in get_args(Form):
        if out.suffix.lower() == f".{form}":
            return form  # type: ignore[no-any-return]  # of the alias's own values
    raise CounterstainError(f"{out}: write to a file that ends in .png, .svg or .pdf.")


def _layouts(warehouse: Warehouse, dataset: str) -> pl.LazyFrame:
    layouts = warehouse.frame("layouts").filter(pl.col("dataset") == dataset)
    quality = warehouse.frame("layout_quality").filter(
        (pl.col("dataset") == dataset) & (pl.col("metric") == "trustworthiness")
    )
    keys = ["encoder", "n_neighbors", "min_dist"]
    trust = quality.unique(keys).select(*keys, trustworthiness="value")
    return layouts.join(trust, on=keys, how="left", maintain_order="left")


def _coloured(project: Project, dataset: str, points: pl.DataFrame, colour_by: str) -> pl.DataFrame:
    images = project.open().frame("images").drop("thumbnail").filter(pl.col("dataset") == dataset).collect()
    values = attribute_values(without_names(images, terms_of(project)), colour_by)
    if values[colour_by].null_count() == values.height:
        raise CounterstainError(f"{dataset} has no column or attribute {colour_by!r} to colour by.")
    return points.join(values, on="image_id", how="left", maintain_order="left")
