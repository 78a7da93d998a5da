"""A process that is killed leaves what was, and a second try resumes."""

import multiprocessing
import random
import time

import numpy as np
import polars as pl

from store import open_warehouse
from store.embeddings import EmbeddingPartition
from store.images import write_images
from store.schema import REJECTS
from tests.store import worker
from tests.store.rows import DIMENSION, embed, image_ids, images, rejects, vectors

spawn = multiprocessing.get_context("spawn")


class Victim:
    """A process that reports over a pipe, until it is killed."""

    def __init__(self, work, *args):
        self.reports, sent = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=work, args=(*args, sent), daemon=True)
        self.process.start()
        sent.close()

    def kill_after(self, seconds):
        """Kill it so long after its first report, and return its last one."""
        last = self.reports.recv()
        time.sleep(seconds)
        self.process.kill()
        self.process.join()
        try:
            while True:
                last = self.reports.recv()
        except EOFError:
            return last


def test_killed_in_the_middle_of_a_partition(warehouse):
    warehouse.replace_partition(REJECTS, rejects("a", 5, "old"), dataset="a")
    before = warehouse.versions()
    Victim(worker.replace_and_hang, warehouse.uri, "a").kill_after(0.1)
    assert warehouse.versions() == before
    assert warehouse.frame("rejects").collect()["reason"].to_list() == ["old"] * 5
    warehouse.replace_partition(REJECTS, rejects("a", 7, "new"), dataset="a")
    assert warehouse.frame("rejects").collect()["reason"].to_list() == ["new"] * 7


def test_killed_at_any_moment_of_staging_and_replacing(tmp_path):
    count = 300
    moments = random.Random(20240611)
    victims = {}
    for name in ("one", "two", "three"):
        warehouse = open_warehouse(tmp_path / name)
        embed(warehouse, "d", 12)
        write_images(warehouse, "d", images("d", count).to_batches())
        warehouse.replace_partition(REJECTS, rejects("d", 20, "0"), dataset="d")
        victims[name] = Victim(worker.stage_and_replace, warehouse.uri, "d", count, "second try")
    for name, victim in victims.items():
        staged = victim.kill_after(moments.uniform(0, 0.4))
        warehouse = open_warehouse(tmp_path / name)

        frame = warehouse.frame("rejects").collect()
        (generation,) = frame["reason"].unique()
        assert frame.height == frame["uri"].n_unique() == 20 + int(generation) % 7
        warehouse.replace_partition(REJECTS, rejects("d", 3, "again"), dataset="d")
        assert warehouse.frame("rejects").collect()["reason"].to_list() == ["again"] * 3

        assert warehouse.frame("embeddings__enc").select(pl.len()).collect().item() == 12
        partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "second try")
        encoded = partition.encoded_ids()
        # The last one may have been stored and not reported.
        assert set(image_ids(staged)) <= encoded <= set(image_ids(staged + 1))
        missing = [i for i, image_id in enumerate(image_ids(count)) if image_id not in encoded]
        partition.stage([image_ids(count)[i] for i in missing], vectors(count)[missing])
        partition.commit()
        matrix = warehouse.vectors("enc", "d")
        assert matrix.images["image_id"].to_list() == image_ids(count)
        np.testing.assert_array_equal(matrix.vectors, vectors(count))
        assert warehouse.dataset("staging__enc").count_rows() == 0
