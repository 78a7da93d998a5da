"""The nearest images by cosine, among those a filter leaves."""

import numpy as np
import polars as pl
import pytest

from store.embeddings import EmbeddingPartition
from store.images import write_images
from store.maintenance import build_indexes
from store.schema import METADATA_COLUMNS, CounterstainError
from tests.store.rows import DIMENSION, embed, image_ids, images, vectors

COUNT = 300


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A warehouse that is only read: 300 images of data set d, 20 of e."""
    from store import open_warehouse

    warehouse = open_warehouse(tmp_path_factory.mktemp("search"))
    embed(warehouse, "d", COUNT, slide=lambda i: f"s{i // 10}")
    embed(warehouse, "e", 20, seed=1)
    return warehouse


def by_cosine(query, values):
    """Distances and order, as NumPy has them in double precision."""
    query, values = query.astype(float), values.astype(float)
    distances = 1 - values @ query / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
    return distances, np.argsort(distances)


def test_agrees_with_numpy(stored):
    values = vectors(COUNT)
    for query in (vectors(1, seed=9)[0], values[17] * 100, vectors(1, seed=10)[0].astype(np.float64)):
        distances, order = by_cosine(query, values)
        found = stored.search("enc", query, dataset="d", k=COUNT)
        assert found["image_id"].to_list() == [image_ids(COUNT)[i] for i in order]
        np.testing.assert_allclose(found["distance"], distances[order], atol=1e-5)
        assert stored.search("enc", query, dataset="d", k=7).equals(found.head(7))


def test_answer_says_what_is_known(stored):
    found = stored.search("enc", vectors(COUNT)[4], k=1)
    assert found.columns == ["dataset", "image_id", "distance", "uri", *METADATA_COLUMNS]
    row = found.row(0, named=True)
    assert (row["dataset"], row["image_id"], row["uri"]) == ("d", "i004", "d/i004.png")
    assert (row["label"], row["slide"], row["text_overlay"]) == ("a", "s0", False)


def test_stored_image_is_left_out(stored):
    _, order = by_cosine(vectors(COUNT)[17], vectors(COUNT))
    found = stored.search("enc", "i017", dataset="d", k=COUNT)
    assert found["image_id"].to_list() == [image_ids(COUNT)[i] for i in order if i != 17]


def test_data_set(stored):
    assert set(stored.search("enc", vectors(1)[0], dataset="e", k=99)["dataset"]) == {"e"}
    assert stored.search("enc", vectors(1)[0], dataset="e", k=99).height == 20
    assert stored.search("enc", vectors(1)[0], k=999).height == COUNT + 20


def test_filter_comes_first(stored):
    """Five images fit; none of them is among the nearest five of all."""
    _, order = by_cosine(vectors(COUNT)[0], vectors(COUNT))
    far = [image_ids(COUNT)[i] for i in order[-5:]]
    where = " OR ".join(f"image_id = '{image_id}'" for image_id in far)
    assert stored.search("enc", vectors(COUNT)[0], dataset="d", where=where, k=10)["image_id"].to_list() == far
    assert stored.search("enc", "i000", dataset="d", where="slide = 's3'", k=99).height == 10
    assert stored.search("enc", "i000", where="label = 'none such'").is_empty()
    assert stored.search("enc", "i000", dataset="e", where="label = 'a' -- half", k=99).height == 9


def test_unknown_flags_are_not_matched(stored):
    flags = [(True, False, None)[i % 3] for i in range(COUNT)]
    for where, flag in (("text_overlay", True), ("NOT text_overlay", False), ("text_overlay IS NULL", None)):
        found = stored.search("enc", vectors(1)[0], dataset="d", where=where, k=COUNT)
        assert found.height == flags.count(flag)
        assert found["text_overlay"].unique().to_list() == [flag]


def test_filter_cannot_leave_its_data_set(stored):
    assert set(stored.search("enc", "i000", dataset="e", where="label = 'a' OR label = 'b'", k=99)["dataset"]) == {"e"}
    for where in ("label = 'a') OR (label = 'b'", "true) OR (true", "true) -- ", "true) x (true"):
        with pytest.raises(CounterstainError, match="filter"):
            stored.search("enc", "i000", dataset="e", where=where)


def test_quotes_in_names(warehouse):
    embed(warehouse, "it's", 5, image_id=lambda i: f"i00{i}")
    name = "a' OR '1'='1"
    write_images(warehouse, "q", images("q", 3, image_id=lambda i: (name, "i001", "i002")[i]).to_batches())
    partition = EmbeddingPartition(warehouse, "enc", "q", DIMENSION, "f")
    partition.stage([name, "i001", "i002"], vectors(3, seed=3))
    partition.commit()
    assert sorted(warehouse.search("enc", name, k=99)["image_id"]) == sorted([*image_ids(5), "i001", "i002"])
    assert warehouse.search("enc", "i000", dataset="it's", k=99).height == 4
    assert warehouse.search("enc", "i000", dataset="it's", where="label = 'it''s'").is_empty()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": "nope = 1"}, "(?s)filter 'nope = 1': .*nope.*Columns: dataset, image_id, label"),
        ({"where": "label = "}, "filter"),
        ({"where": "label"}, "filter"),
        ({"where": "label = 'a' AN text_overlay"}, "filter"),
        ({"where": "label = 'a' nonsense"}, "filter"),
        ({"where": "label, view"}, "filter"),
        ({"where": "true FROM images"}, "filter"),
        ({"where": "label = 'a'; DROP TABLE images"}, "filter"),
        ({"encoder": "nope"}, "no vectors of encoder 'nope'; encoders with vectors: enc"),
        ({"query": "nope"}, "embeddings__enc has no image 'nope'"),
        ({"query": "nope", "dataset": "e"}, "embeddings__enc has no image 'nope'"),
        ({"query": np.ones(DIMENSION + 1)}, "one finite, non-zero vector of 8 values, got shape .9,"),
        ({"query": np.ones((1, DIMENSION))}, "got shape"),
        ({"query": np.zeros(DIMENSION)}, "non-zero"),
        ({"query": np.full(DIMENSION, np.nan)}, "finite"),
        ({"query": np.full(DIMENSION, 1e300)}, "finite"),
        ({"k": 0}, "k is 0: ask for at least one"),
        ({"k": -1}, "k is -1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refused(stored, arguments, message):
    with pytest.raises(CounterstainError, match=message):
        stored.search(**{"encoder": "enc", "query": "i000", **arguments})


def test_indexes_change_no_answer(warehouse):
    values = embed(warehouse, "d", COUNT, slide=lambda i: f"s{i // 10}")
    queries = [
        {"query": "i005"},
        {"query": vectors(1, seed=9)[0], "where": "slide = 's7'"},
        {"query": vectors(1, seed=9)[0], "where": "text_overlay AND label = 'a'", "dataset": "d"},
        {"query": "i005", "where": "text_overlay IS NULL"},
        {"query": "i005", "where": "NOT text_overlay"},
    ]
    before = [warehouse.search("enc", **query, k=20) for query in queries]
    assert build_indexes(warehouse, "embeddings__enc") == []
    scalar = ["annotation", "dataset", "image_id", "label", "patient", "slide", "text_overlay"]
    assert build_indexes(warehouse, "embeddings__enc", scalar_rows=COUNT) == scalar
    assert build_indexes(warehouse, "embeddings__enc", scalar_rows=COUNT, vector_rows=COUNT) == [*scalar, "vector"]
    for query, found in zip(queries, before, strict=True):
        after = warehouse.search("enc", **query, k=20)
        assert after.drop("distance").equals(found.drop("distance"))
        np.testing.assert_allclose(after["distance"], found["distance"], atol=1e-6)
    # Rows that came after the index, and a correction.
    embed(warehouse, "e", 30, seed=4)
    warehouse.correct("d", pl.DataFrame({"image_id": ["i000"], "label": ["new"]}))
    for _ in range(2):
        assert warehouse.search("enc", vectors(1, seed=9)[0], where="label = 'new'")["image_id"].to_list() == ["i000"]
        assert warehouse.search("enc", vectors(1)[0], dataset="e", k=99).height == 30
        _, order = by_cosine(values[5], values)
        found = warehouse.search("enc", values[5], dataset="d", k=COUNT)
        assert found["image_id"].to_list() == [image_ids(COUNT)[i] for i in order]
        build_indexes(warehouse, "embeddings__enc", scalar_rows=COUNT, vector_rows=COUNT)


def test_several_data_sets(stored):
    both = stored.search("enc", vectors(1)[0], dataset=["e", "d"], k=999)
    assert both.equals(stored.search("enc", vectors(1)[0], k=999))
    assert set(stored.search("enc", vectors(1)[0], dataset=["e"], k=99)["dataset"]) == {"e"}
    with pytest.raises(
        CounterstainError, match="no enc vectors of data set 'f': `counterstain materialize --dataset f"
    ):
        stored.search("enc", vectors(1)[0], dataset=["e", "f"])


def test_a_stored_image_is_looked_for_where_searched_and_else_anywhere(stored):
    """Both data sets have an i003, with another vector each; i299 is of d alone."""
    for dataset, values in (("d", vectors(COUNT)), ("e", vectors(20, seed=1))):
        nearest = by_cosine(values[3], values)[1][1]
        assert stored.search("enc", "i003", dataset=dataset, k=1)["image_id"].item() == image_ids(COUNT)[nearest]
    expected = image_ids(20)[by_cosine(vectors(COUNT)[299], vectors(20, seed=1))[1][0]]
    assert stored.search("enc", "i299", dataset="e", k=1).row(0)[:2] == ("e", expected)


def test_what_is_left_out_makes_room(stored):
    query = vectors(1, seed=9)[0]
    found = stored.search("enc", query, k=12)
    left_out = found.head(5).select("dataset", "image_id")
    assert stored.search("enc", query, k=7, leave_out=left_out).equals(found.tail(7))
    # Of the other data set, of the same name.
    other = left_out.with_columns(pl.lit("none").alias("dataset"))
    assert stored.search("enc", query, k=12, leave_out=other).equals(found)


def test_centroid_is_the_mean_direction(stored):
    values = vectors(COUNT).astype(float)
    rows = [i for i in range(COUNT) if i % 2 == 0 and i // 10 in (3, 4)]
    centroid = stored.centroid("enc", "label = 'a' AND slide IN ('s3', 's4')", dataset="d")
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    np.testing.assert_allclose(centroid.vector, units[rows].mean(axis=0), rtol=1e-6)
    assert centroid.images.rows() == [("d", image_ids(COUNT)[i]) for i in rows]
    assert centroid.concentration == pytest.approx(np.linalg.norm(units[rows].mean(axis=0)), rel=1e-6)
    one = stored.centroid("enc", "image_id = 'i004'", dataset="d")
    assert one.concentration == pytest.approx(1)
    assert stored.search("enc", one.vector, dataset="d", k=1)["image_id"].item() == "i004"


def test_centroid_over_all_data_sets(stored):
    assert stored.centroid("enc", "label = 'a'").images["dataset"].value_counts(sort=True).rows() == [
        ("d", COUNT // 2),
        ("e", 10),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": "label = 'none such'"}, "no image of enc fits"),
        ({"where": "nope = 1"}, "filter 'nope = 1'"),
        ({"where": "true) OR (true"}, "filter"),
        ({"encoder": "nope"}, "no vectors of encoder 'nope'"),
        ({"dataset": "f"}, "no enc vectors of data set 'f'"),
    ],
    ids=str,
)
def test_no_centroid(stored, arguments, message):
    with pytest.raises(CounterstainError, match=message):
        stored.centroid(**{"encoder": "enc", "where": "label = 'a'", **arguments})


def test_vectors_that_cancel_have_no_centroid(warehouse):
    write_images(warehouse, "d", images("d", 2).to_batches())
    partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "f")
    partition.stage(image_ids(2), np.eye(DIMENSION, dtype=np.float32)[:1] * np.float32([[1], [-2]]))
    partition.commit()
    with pytest.raises(CounterstainError, match="cancel out"):
        warehouse.centroid("enc", "true")
