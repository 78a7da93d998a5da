"""Layouts of a grid under way, kept on disk: a run that was killed goes on from what was laid out."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from assets.step import Cell


class KeptLayouts:
    """A folder in the warehouse's cache, of the rows of one grid made from one state of the vectors.

    Parameters
    ----------
    cell
        Whose layouts they are.
    made_from
        All that they depend on; with anything else they are not found again.
    """

    def __init__(self, cell: Cell, made_from: Mapping[str, object]):
        named = {"dataset": cell.dataset, "encoder": cell.encoder, **made_from}
        digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:32]
        self._folder = cell.warehouse.cache_dir / "layouts" / digest

    def read(self) -> dict[int, NDArray[np.float32]]:
        """Return what is kept: by n_neighbors ``(min_dist, n, 2)``."""
        return {int(path.stem): np.load(path, allow_pickle=False) for path in sorted(self._folder.glob("*.npy"))}

    def add(self, n_neighbors: int, layouts: NDArray[np.float32]) -> None:
        """Keep a row; one that was half written is never read."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f"{n_neighbors}.{os.getpid()}.part"
        with part.open("wb") as file:
            np.save(file, layouts, allow_pickle=False)
        part.replace(self._folder / f"{n_neighbors}.npy")

    def drop(self) -> None:
        """Let go of all that is kept, once it is in the store."""
        shutil.rmtree(self._folder, ignore_errors=True)
