"""Warehouses as old releases wrote them can still be read: one per schema version, in ``tests/archives``.

When `SCHEMA_VERSION` is raised, the next one is derived in the same way, once, and the old ones are never touched::

    from datetime import timedelta
    from store import open_warehouse
    from store.schema import IMAGES, SCHEMA_VERSION, embeddings_table
    from tests.store.test_archives import archived_embeddings, archived_images

    warehouse = open_warehouse(f"tests/archives/v{SCHEMA_VERSION}")
    warehouse.replace_partition(IMAGES, archived_images(), dataset="d")
    warehouse.replace_partition(embeddings_table("enc", 4), archived_embeddings(), dataset="d")
    for name in warehouse.tables():
        # A small commit in place of the replacement's, which comes with 64 KB of key filter.
        warehouse.open_table(name).delete("false")
    warehouse.maintain(older_than=timedelta(0))
"""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from store import open_warehouse
from store.schema import IMAGES, METADATA_COLUMNS, SCHEMA_VERSION, embeddings_table

ARCHIVES = Path(__file__).parents[1] / "archives"
VECTORS = np.array([[1, 0, 0, 0], [2, 1, 0, 0], [0, 0, 3, 0], [0.5, 0, 0, -0.25]], np.float32)


def archived_images():
    rows = [
        {
            "dataset": "d",
            "image_id": f"i{i}",
            "content_hash": f"hash{i}",
            "uri": f"folder/i{i}.png",
            "width_px": 64,
            "height_px": 48 + i,
            "lesion_box": [1, 2, 3, i] if i else None,
            "overlay_boxes": [[0, 0, i, i]] * i,
            "thumbnail": b"\xff\x00" * i,
            "label": "ab"[i % 2],
            "text_overlay": (True, False, None)[i % 3],
            "text_overlay_source": (None, "detected", None, "corrected")[i],
            "annotation_kinds": ["arrow", "it's"][: i % 3],
            "attributes": json.dumps({"é": str(i)}, ensure_ascii=False),
        }
        for i in range(4)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES.schema)


def archived_embeddings():
    known = archived_images().select(["dataset", "image_id", *METADATA_COLUMNS]).to_pylist()
    rows = [{**row, "vector": vector, "fingerprint": "f"} for row, vector in zip(known, VECTORS, strict=True)]
    return pa.Table.from_pylist(rows, schema=embeddings_table("enc", 4).schema)


def test_every_schema_version_has_an_archive():
    assert {path.name for path in ARCHIVES.iterdir()} == {f"v{i + 1}" for i in range(SCHEMA_VERSION)}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_is_read_as_it_was_written(version, tmp_path):
    warehouse = open_warehouse(shutil.copytree(ARCHIVES / f"v{version}", tmp_path / "warehouse"))
    assert warehouse.tables() == ["embeddings__enc", "images"]
    for name, rows in (("images", archived_images()), ("embeddings__enc", archived_embeddings())):
        stored = warehouse.frame(name).sort("image_id").collect()
        assert stored.equals(pl.DataFrame(rows).select(stored.columns))
        assert warehouse.sql(f"SELECT * FROM {name} ORDER BY image_id").equals(stored)
    found = warehouse.search("enc", "i0", where="label = 'b'")
    assert found["image_id"].to_list() == ["i1", "i3"]
    np.testing.assert_allclose(found["distance"], 1 - 2 / np.sqrt(5), atol=1e-6)
    np.testing.assert_array_equal(warehouse.vectors("enc", "d").vectors, VECTORS)
