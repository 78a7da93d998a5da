"""A warehouse to explore without encoding anything: two clusters of images, and words no page should believe."""

import io

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image

from store import Warehouse
from store.images import write_images
from store.results import write_results
from store.schema import IMAGES, LAYOUTS, NEIGHBORS, PROBE_PREDICTIONS

DATASET = "mapped"
ENCODERS = ("encoder_a", "encoder_b")
HOSTILE = '<img src=x onerror="window.hacked=1">\'"; DROP TABLE dataset; --'
ELSEWHERE = "http://elsewhere.invalid/a.png"
NAMED = "MUELLER, HANS 12.03.1961"
IMAGES_EACH = 20
K = 3


def image_ids() -> list[str]:
    return [f"{i:064x}" for i in range(2 * IMAGES_EACH)]


def write_mapped(warehouse: Warehouse) -> None:
    """Write images, layouts and neighbours.

    ``encoder_a`` lays out the first half around (-1, 0) and the rest around (1, 0); ``encoder_b`` mixes them. The
    neighbours of an image are the next `K` by number.
    """
    ids = image_ids()
    rows = [
        {
            "dataset": DATASET,
            "image_id": image_id,
            "content_hash": image_id,
            "uri": f"images/{i}<script>.png",
            "thumbnail": _thumbnail(i),
            "label": HOSTILE if i < IMAGES_EACH else "benign",
            "text_overlay": i % 2 == 0,
            "overlay_text": NAMED if i == 4 else "AXILLA" if i % 4 == 0 else "BREAST" if i % 2 == 0 else None,
            "view": (ELSEWHERE, "data:image/png;base64,AAAA", None)[i % 3],
            "annotation_kinds": ["calliper", "arrow"] if i % 2 else [],
            "attributes": f'{{"size\\"] <b>": "{i / 7:.3f}", "Label": "{"yn"[i % 2]}", "__hidden": "{"pq"[i % 2]}"}}',
        }
        for i, image_id in enumerate(ids)
    ]
    write_images(warehouse, DATASET, [pa.RecordBatch.from_pylist(rows, schema=IMAGES.schema)])
    rng = np.random.default_rng(0)
    for encoder in ENCODERS:
        side = np.repeat([-1.0, 1.0], IMAGES_EACH) if encoder == ENCODERS[0] else np.tile([-1.0, 1.0], IMAGES_EACH)
        settings = [(15, 0.1), (50, 0.1)] if encoder == ENCODERS[0] else [(15, 0.1)]
        layouts = [
            pl.DataFrame(
                {
                    "n_neighbors": pl.Series([n_neighbors] * len(ids), dtype=pl.Int32),
                    "min_dist": min_dist,
                    "image_id": ids,
                    "x": (side + rng.normal(scale=0.005, size=len(ids))).astype(np.float32),
                    "y": rng.normal(scale=0.005, size=len(ids)).astype(np.float32),
                }
            )
            for n_neighbors, min_dist in settings
        ]
        write_results(warehouse, LAYOUTS, pl.concat(layouts), dataset=DATASET, encoder=encoder)
    pairs = [(i, rank) for i in range(len(ids)) for rank in range(1, K + 1)]
    neighbors = pl.DataFrame(
        {
            "image_id": [ids[i] for i, _ in pairs],
            "rank": pl.Series([rank for _, rank in pairs], dtype=pl.Int32),
            "neighbor_id": [ids[(i + rank) % len(ids)] for i, rank in pairs],
            "distance": pl.Series([rank / 10 for _, rank in pairs], dtype=pl.Float32),
            "same_label": True,
        }
    ).with_columns(pl.lit([], pl.List(pl.String)).alias("same_background"))
    write_results(warehouse, NEIGHBORS, neighbors, dataset=DATASET, encoder=ENCODERS[0])
    predictions = pl.DataFrame(
        {
            "image_id": ids * 3, "target": "label", "protocol": "grouped", "split": "cv",
            "fold": pl.Series([0] * 3 * len(ids), dtype=pl.Int32), "truth": "t", "predicted": "p", "margin": 0.0,
            # The first image is right in one of three splits, the others in two.
            "correct": [split == 0 if i == 0 else split < 2 for split in range(3) for i in range(len(ids))],
            "seed": 0,
        }
    )  # fmt: skip
    write_results(warehouse, PROBE_PREDICTIONS, predictions, dataset=DATASET, encoder=ENCODERS[0])


def _thumbnail(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (number * 6, 80, 120)).save(buffer, "JPEG")
    return buffer.getvalue()
