"""Layouts of a grid under way, kept on disk: a run that was killed goes on from what was laid out."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assets.step import Cell
from store.schema import check_dataset_name

_ATTEMPTS = 5


class KeptLayouts:
    """A folder in the warehouse's cache, of the rows of one grid made from one state of the vectors.

    Parameters
    ----------
    cell
        Whose layouts they are.
    made_from
        All that they depend on; with anything else they are not found again.
    shape
        ``(min_dist, n, 2)`` of every row.
    """

    def __init__(self, cell: Cell, made_from: Mapping[str, object], shape: tuple[int, int, int]):
        digest = hashlib.sha256(json.dumps(dict(made_from), sort_keys=True).encode()).hexdigest()[:32]
        self._folder = cell.warehouse.cache_dir / "layouts" / cell.encoder / check_dataset_name(cell.dataset) / digest
        self._shape = shape

    def read(self) -> dict[int, NDArray[np.float32]]:
        """Return what is kept, by n_neighbors ``(min_dist, n, 2)``; what the cell's layouts were made from before goes.

        A file that cannot be read, as after the machine went down, is left out, and so made again.
        """
        for other in self._folder.parent.glob("*"):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        rows = {int(path.stem): self._row(path) for path in sorted(self._folder.glob("*.npy"))}
        return {size: row for size, row in rows.items() if row is not None}

    def _row(self, path: Path) -> NDArray[np.float32] | None:
        try:
            row: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        whole = row.shape == self._shape and row.dtype == np.float32 and bool(np.isfinite(row).all())
        return row if whole else None

    def add(self, n_neighbors: int, layouts: NDArray[np.float32]) -> None:
        """Keep a row; one that was half written is never read."""
        for attempt in range(_ATTEMPTS):
            try:
                self._write(self._folder / f"{n_neighbors}.npy", layouts)
                return
            except FileNotFoundError:
                # Another run of the same grid has come to its end, and has dropped the folder in between.
                if attempt == _ATTEMPTS - 1:
                    raise

    def _write(self, path: Path, layouts: NDArray[np.float32]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, layouts, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def drop(self) -> None:
        """Let go of all that is kept, once it is in the store."""
        # Moved away first: what another run adds meanwhile is then added to a new folder.
        away = self._folder.with_name(f"{self._folder.name}.{uuid.uuid4().hex}")
        try:
            self._folder.rename(away)
        except FileNotFoundError:
            return
        shutil.rmtree(away, ignore_errors=True)
