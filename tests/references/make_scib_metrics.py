"""Compute what scib-metrics 0.5.10 says of the worlds.

``PYTHONPATH=.:tests python tests/references/make_scib_metrics.py > tests/references/scib_metrics.json``

Run in an environment of its own (``pip install scib-metrics==0.5.10``): scib-metrics needs pandas below 3 and JAX,
which the tests' environment does without. It is handed this project's neighbour lists, so that the metrics are compared
and not the searches.
"""

import json
import sys

import numpy as np
from scib_metrics import bras, clisi_knn, ilisi_knn, kbet, silhouette_batch
from scib_metrics.nearest_neighbors import NeighborsResults
from scib_metrics.utils import principal_component_regression
from worlds import WORLDS, make_world

from analysis.neighbors import cosine_neighbors, unit_vectors

CASES = {name: WORLDS[name]() for name in ("null", "lesion_only", "background_only", "mixed", "duplicates")} | {
    "uneven": make_world(lesion=3, background=4, n=300, d=24, group_size=3, seed=7)
}


def measure(world: object) -> dict[str, object]:
    """Return every metric of one world."""
    neighbors = cosine_neighbors(world.vectors, 90, groups=world.groups)

    def lists(k: int) -> NeighborsResults:
        first = neighbors.first(k)
        return NeighborsResults(indices=first.indices, distances=first.distances)

    unit = unit_vectors(world.vectors)
    acceptance, _, p_values = kbet(lists(50), world.confounder)
    return {
        "ilisi": float(ilisi_knn(lists(90), world.confounder)),
        "clisi": float(clisi_knn(lists(90), world.labels)),
        "kbet": float(acceptance),
        "kbet_p_values": [round(float(p), 6) for p in np.asarray(p_values)[:40]],
        "batch_silhouette": float(
            silhouette_batch(unit, world.labels, world.confounder, metric="cosine", between_cluster_distances="nearest")
        ),
        "bras": float(bras(unit, world.labels, world.confounder)),
        "pcr": float(principal_component_regression(unit, world.confounder, categorical=True)),
    }


if __name__ == "__main__":
    json.dump({name: measure(world) for name, world in CASES.items()}, sys.stdout, indent=1)
