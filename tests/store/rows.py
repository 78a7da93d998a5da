"""Small rows to store: every value follows from the name of a data set and the number of a row."""

import numpy as np
import pyarrow as pa

from store.embeddings import EmbeddingPartition
from store.images import write_images
from store.schema import IMAGES, REJECTS

DIMENSION = 8


def rejects(dataset, count, reason=""):
    rows = [{"dataset": dataset, "uri": f"u{i}", "reason": reason} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=REJECTS.schema)


def image_ids(count):
    return [f"i{i:03}" for i in range(count)]


def images(dataset, count, **columns):
    """`columns` are functions of a row's number."""
    rows = [
        {
            "dataset": dataset,
            "image_id": image_id,
            "content_hash": image_id,
            "uri": f"{dataset}/{image_id}.png",
            "label": "ab"[i % 2],
            "text_overlay": (True, False, None)[i % 3],
            "text_overlay_source": None if i % 3 == 2 else "detected",
            "thumbnail": bytes([i % 256]),
            **{name: value(i) for name, value in columns.items()},
        }
        for i, image_id in enumerate(image_ids(count))
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES.schema)


def vectors(count, seed=0, dimension=DIMENSION):
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def embed(warehouse, dataset="d", count=12, *, encoder="enc", seed=0, dimension=DIMENSION, **columns):
    """Write `count` images and a vector of each; return the vectors, by image id."""
    write_images(warehouse, dataset, images(dataset, count, **columns).to_batches())
    values = vectors(count, seed, dimension)
    partition = EmbeddingPartition(warehouse, encoder, dataset, dimension, f"made with {seed}")
    partition.stage(image_ids(count), values)
    partition.commit()
    return values
