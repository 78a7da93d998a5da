"""What another process does to a warehouse: called in spawned processes, as Lance does not survive a fork."""

import time

import numpy as np

from store import open_warehouse
from store.embeddings import EmbeddingPartition
from store.schema import REJECTS, CounterstainError
from tests.store.rows import DIMENSION, image_ids, rejects, vectors


def ready():
    """Import what the work needs, so that two workers begin it at once."""
    open_warehouse("memory://").tables()


def wait_until(moment):
    time.sleep(max(0, moment - time.time()))


def replace(uri, dataset, counts, start):
    """Replace one partition of ``rejects`` by so many rows, and so many, …"""
    warehouse = open_warehouse(uri)
    wait_until(start)
    for count in counts:
        warehouse.replace_partition(REJECTS, rejects(dataset, count, str(count)), dataset=dataset)


def embed(uri, dataset, count, fingerprints, start):
    """Encode a data set once per fingerprint, as a run does: what is missing, in batches, until it is whole.

    Returns how often a commit found something missing.
    """
    wait_until(start)
    refused = 0
    for fingerprint in fingerprints:
        partition = EmbeddingPartition(open_warehouse(uri), "enc", dataset, DIMENSION, fingerprint)
        while True:
            encoded = partition.encoded_ids()
            missing = [i for i, image_id in enumerate(image_ids(count)) if image_id not in encoded]
            for batch in np.array_split(missing, -(-len(missing) // 20)) if missing else []:
                partition.stage([image_ids(count)[i] for i in batch], vectors(count)[batch])
            try:
                partition.commit()
                break
            except CounterstainError:
                refused += 1
    return refused


def replace_and_hang(uri, dataset, started):
    """Stop in the middle of a partition."""

    def rows():
        yield from rejects(dataset, 7, "new").to_batches()
        started.send(1)
        time.sleep(3600)

    open_warehouse(uri).replace_partition(REJECTS, rows(), dataset=dataset)


def stage_and_replace(uri, dataset, count, fingerprint, started):
    """Stage image i and replace one partition of ``rejects`` by generation i, which has 20 + i % 7 rows, for each i.

    Says how many images are staged for certain.
    """
    warehouse = open_warehouse(uri)
    partition = EmbeddingPartition(warehouse, "enc", dataset, DIMENSION, fingerprint)
    for i, image_id in enumerate(image_ids(count)):
        partition.stage([image_id], vectors(count)[i : i + 1])
        started.send(i + 1)
        warehouse.replace_partition(REJECTS, rejects(dataset, 20 + i % 7, str(i)), dataset=dataset)
    time.sleep(3600)
