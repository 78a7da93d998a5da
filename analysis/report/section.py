"""What a file of `analysis.report.sections` declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from analysis.report.blocks import Block
    from analysis.report.tables import ReportTables

ImageKey = tuple[str, str]


def _no_images(tables: ReportTables) -> Iterable[ImageKey]:
    return ()


@dataclass(frozen=True)
class CellPlace:
    """A data set × encoder, and its standing among those of the report.

    Attributes
    ----------
    dataset, encoder
        The cell.
    severity
        0 for the cell that backgrounds lead most. What is large, such as a sheet of photographs, is shown of the
        first few alone.
    cells
        How many there are.
    """

    dataset: str
    encoder: str
    severity: int = 0
    cells: int = 1

    def __str__(self) -> str:
        return f"{self.dataset}, {self.encoder}"


@dataclass(frozen=True)
class Section:
    """A chapter of the report, over all cells.

    Attributes
    ----------
    name
        Lower-case, for links.
    title
        Its heading.
    place
        Sections stand in this order; the cells come at `CELLS_PLACE`.
    make
        Returns its blocks; none where its tables have no rows.
    tables
        Names of the tables it reads; they reach `make` through `ReportTables`.
    asset
        What makes them. Where `make` returns nothing the report names it as missing; empty for none.
    what
        What is missing then, as in "No … yet".
    requested
        The asset is made only where it is asked for by name: the report is silent where there is none of it.
    images
        Returns data set and id of the images whose thumbnails `make` draws.
    """

    name: str
    title: str
    place: int
    make: Callable[[ReportTables], Sequence[Block]]
    tables: tuple[str, ...] = ()
    asset: str = ""
    what: str = ""
    requested: bool = False
    images: Callable[[ReportTables], Iterable[ImageKey]] = _no_images


@dataclass(frozen=True)
class Part:
    """A part of every data set × encoder; attributes as for `Section`, in an order of their own."""

    name: str
    title: str
    place: int
    make: Callable[[ReportTables, CellPlace], Sequence[Block]]
    tables: tuple[str, ...] = ()
    asset: str = ""
    what: str = ""
    requested: bool = False
    images: Callable[[ReportTables], Iterable[ImageKey]] = _no_images


CELLS_PLACE = 50
