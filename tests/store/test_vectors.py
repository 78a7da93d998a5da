"""A partition's vectors are one memory-mapped matrix, and never one from before the table changed."""

import shutil

import numpy as np
import polars as pl
import pytest

from store import embeddings, open_warehouse
from store.embeddings import EmbeddingPartition, import_embeddings
from store.images import write_images
from store.schema import METADATA_COLUMNS, CounterstainError
from tests.store.rows import DIMENSION, embed, image_ids, images, vectors


@pytest.fixture
def no_reading(monkeypatch):
    """Call it, and from then on the table's vectors must not be read."""

    def refuse(*args, **kwargs):
        raise AssertionError("the table was read")

    return lambda: monkeypatch.setattr(embeddings, "_read_sorted", refuse)


def cached(warehouse):
    return sorted((warehouse.cache_dir / "enc" / "d").iterdir())


def test_equals_what_was_staged_in_any_order(warehouse):
    write_images(warehouse, "d", images("d", 40).to_batches())
    values = vectors(40)
    partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "f")
    for rows in np.random.default_rng(5).permutation(40).reshape(4, 10):
        partition.stage([image_ids(40)[i] for i in rows], values[rows])
    partition.commit()
    matrix = warehouse.vectors("enc", "d")
    assert isinstance(matrix.vectors, np.memmap)
    assert matrix.vectors.dtype == np.float32
    assert matrix.images.columns == ["image_id", *METADATA_COLUMNS]
    assert matrix.images["image_id"].to_list() == image_ids(40)
    assert matrix.images["label"].to_list() == ["a", "b"] * 20
    np.testing.assert_array_equal(matrix.vectors, values)
    with pytest.raises(ValueError, match="read-only"):
        matrix.vectors[0, 0] = 0


def test_opened_again_without_reading_the_table(warehouse, no_reading):
    values = embed(warehouse)
    warehouse.vectors("enc", "d")
    files = {path: path.stat().st_mtime_ns for path in cached(warehouse)}
    no_reading()
    matrix = open_warehouse(warehouse.uri).vectors("enc", "d")
    np.testing.assert_array_equal(matrix.vectors, values)
    assert matrix.images.height == len(values)
    assert {path: path.stat().st_mtime_ns for path in cached(warehouse)} == files


def test_changed_table_gives_a_new_matrix_and_old_files_go(warehouse):
    embed(warehouse)
    warehouse.vectors("enc", "d")
    old = cached(warehouse)
    values = embed(warehouse, count=15, seed=1)
    np.testing.assert_array_equal(warehouse.vectors("enc", "d").vectors, values)
    assert len(cached(warehouse)) == 2
    assert not set(old) & set(cached(warehouse))


def test_open_matrix_outlives_its_file(warehouse):
    values = embed(warehouse)
    matrix = warehouse.vectors("enc", "d")
    embed(warehouse, seed=1)
    warehouse.vectors("enc", "d")
    np.testing.assert_array_equal(matrix.vectors, values)


@pytest.mark.parametrize("lost", ["both", ".npy", ".parquet"])
def test_deleted_cache_is_built_again(warehouse, lost):
    values = embed(warehouse)
    warehouse.vectors("enc", "d")
    for path in cached(warehouse):
        if lost in ("both", path.suffix):
            path.unlink()
    np.testing.assert_array_equal(warehouse.vectors("enc", "d").vectors, values)
    assert [path.suffix for path in cached(warehouse)] == [".npy", ".parquet"]


def test_failing_build_leaves_no_file(warehouse, no_reading):
    embed(warehouse)
    no_reading()
    with pytest.raises(AssertionError):
        warehouse.vectors("enc", "d")
    assert cached(warehouse) == []


def test_table_made_anew_is_not_answered_from_the_old_matrix(warehouse):
    embed(warehouse)
    warehouse.vectors("enc", "d")
    versions = warehouse.versions()
    shutil.rmtree(f"{warehouse.uri}/embeddings__enc.lance")
    shutil.rmtree(f"{warehouse.uri}/images.lance")
    shutil.rmtree(f"{warehouse.uri}/staging__enc.lance")
    values = embed(warehouse, seed=1)
    assert warehouse.versions() == versions
    np.testing.assert_array_equal(warehouse.vectors("enc", "d").vectors, values)


def test_past_and_present_keep_their_matrices(warehouse, no_reading):
    old = embed(warehouse)
    warehouse.tag("then")
    new = embed(warehouse, seed=1)
    past = open_warehouse(warehouse.uri, as_of="then")
    warehouse.vectors("enc", "d")
    past.vectors("enc", "d")
    no_reading()
    np.testing.assert_array_equal(warehouse.vectors("enc", "d").vectors, new)
    np.testing.assert_array_equal(past.vectors("enc", "d").vectors, old)


def test_compaction_and_other_data_sets_change_nothing(warehouse):
    values = embed(warehouse)
    other = embed(warehouse, "e", seed=1)
    warehouse.maintain()
    np.testing.assert_array_equal(warehouse.vectors("enc", "d").vectors, values)
    np.testing.assert_array_equal(warehouse.vectors("enc", "e").vectors, other)


def test_cache_folder_of_ones_own(warehouse, tmp_path):
    embed(warehouse)
    elsewhere = open_warehouse(warehouse.uri, cache_dir=tmp_path / "cache")
    elsewhere.vectors("enc", "d")
    assert len(list((tmp_path / "cache" / "enc" / "d").iterdir())) == 2
    assert not warehouse.cache_dir.exists()


@pytest.mark.parametrize(("encoder", "dataset"), [("nope", "d"), ("enc", "nope")])
def test_without_vectors(warehouse, encoder, dataset):
    embed(warehouse)
    with pytest.raises(CounterstainError, match=f"no {encoder} vectors of data set '{dataset}': run `counterstain"):
        warehouse.vectors(encoder, dataset)


@pytest.mark.parametrize("dataset", ["../d", "/etc", "a b", ""])
def test_name_that_is_no_folders(warehouse, dataset):
    embed(warehouse)
    with pytest.raises(CounterstainError, match="cannot name a data set"):
        warehouse.vectors("enc", dataset)


# ---- staging ------------------------------------------------------------------------------------------------------


def broken(value):
    values = vectors(3)
    values[1] = value
    return values


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e30, 1e-30], ids=str)
def test_vector_that_a_search_would_lose_is_refused(warehouse, value):
    partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "f")
    with pytest.raises(CounterstainError, match="1 vectors are zero or not finite, first that of image i001"):
        partition.stage(image_ids(3), broken(value))
    assert partition.encoded_ids() == set()


@pytest.mark.parametrize("values", [vectors(3, dimension=9), vectors(2), vectors(3)[0]], ids=["wide", "few", "flat"])
def test_vectors_of_another_shape_are_refused(warehouse, values):
    partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "f")
    with pytest.raises(CounterstainError, match="gave vectors of shape"):
        partition.stage(image_ids(3), values)


def test_staging_nothing(warehouse):
    partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "f")
    partition.stage([], vectors(0))
    assert partition.encoded_ids() == set()


def test_encoder_whose_dimension_changed(warehouse):
    embed(warehouse)
    partition = EmbeddingPartition(warehouse, "enc", "d", 9, "f")
    with pytest.raises(CounterstainError, match="another layout"):
        partition.stage(image_ids(3), vectors(3, dimension=9))


def test_vectors_of_another_fingerprint_are_not_reused(warehouse):
    embed(warehouse)
    other = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "other's")
    assert other.encoded_ids() == set()
    with pytest.raises(CounterstainError, match=r"12 of 12 images of 'd' have no enc vector yet, first: \['i000'"):
        other.commit()
    assert warehouse.vectors("enc", "d").images.height == 12


def test_commit_takes_staged_and_stored_and_drops_images_that_are_gone(warehouse):
    embed(warehouse, count=12)
    partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "made with 0")
    assert partition.encoded_ids() == set(image_ids(12))
    write_images(warehouse, "d", images("d", 15).slice(2).to_batches())
    partition.stage(image_ids(15)[12:], vectors(3, 7))
    assert partition.encoded_ids() == set(image_ids(15))
    partition.commit()
    matrix = warehouse.vectors("enc", "d")
    assert matrix.images["image_id"].to_list() == image_ids(15)[2:]
    np.testing.assert_array_equal(matrix.vectors, np.vstack([vectors(12)[2:], vectors(3, 7)]))


def test_staged_twice_is_stored_once(warehouse):
    write_images(warehouse, "d", images("d", 5).to_batches())
    partition = EmbeddingPartition(warehouse, "enc", "d", DIMENSION, "f")
    partition.stage(image_ids(5), vectors(5))
    partition.stage(image_ids(5)[3:], vectors(5)[3:])
    partition.commit()
    assert warehouse.frame("embeddings__enc").collect().height == 5


# ---- vectors computed elsewhere -----------------------------------------------------------------------------------


def save(tmp_path, values, **options):
    np.save(tmp_path / "v.npy", values, **options)
    return tmp_path / "v.npy"


@pytest.mark.parametrize("named_by", ["image_id", "uri"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_import(warehouse, tmp_path, named_by, kind):
    write_images(warehouse, "d", images("d", 12).to_batches())
    order = np.random.default_rng(1).permutation(12)
    values = vectors(12).astype(kind)
    names = [image_ids(12)[i] if named_by == "image_id" else f"d/{image_ids(12)[i]}.png" for i in order]
    path = save(tmp_path, values[order])
    assert import_embeddings(warehouse, "theirs", "d", path, pl.DataFrame({named_by: names})) == 12
    matrix = warehouse.vectors("theirs", "d")
    assert matrix.vectors.dtype == np.float32
    np.testing.assert_array_equal(matrix.vectors, values.astype(np.float32))
    assert matrix.images["label"].to_list() == ["a", "b"] * 6
    row = warehouse.frame("imported_encoders").collect().row(0, named=True)
    assert (row["encoder"], row["dimension"], row["source"]) == ("theirs", DIMENSION, str(path))


def test_import_again_replaces(warehouse, tmp_path):
    write_images(warehouse, "d", images("d", 5).to_batches())
    manifest = pl.DataFrame({"image_id": image_ids(5)})
    for seed in (0, 1):
        import_embeddings(warehouse, "theirs", "d", save(tmp_path, vectors(5, seed)), manifest)
    np.testing.assert_array_equal(warehouse.vectors("theirs", "d").vectors, vectors(5, 1))
    assert warehouse.frame("imported_encoders").collect().height == 1


@pytest.fixture(scope="module")
def five_images(tmp_path_factory):
    """A warehouse in which nothing must be stored."""
    warehouse = open_warehouse(tmp_path_factory.mktemp("five"))
    write_images(warehouse, "d", images("d", 5).to_batches())
    yield warehouse
    assert warehouse.tables(staging=True) == ["images"]


def huge(value):
    values = vectors(5).astype(np.float64)
    values[3] = value
    return values


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (vectors(4), image_ids(5), "has 4 rows, the manifest 5"),
        (vectors(4), image_ids(4), "leaves out 1 images of data set 'd', first: .'i004'"),
        (vectors(5), [*image_ids(4), "zz"], "name no image"),
        (vectors(5), [*image_ids(4), "i000"], "'i000' is named by more than one row"),
        (huge(np.nan), image_ids(5), "first that of image i003"),
        (huge(0), image_ids(5), "first that of image i003"),
        (huge(1e300), image_ids(5), "first that of image i003"),
        (huge(1e-300), image_ids(5), "first that of image i003"),
        (np.ones((5, 8), int), image_ids(5), "one .n, d. matrix of floats"),
        (np.ones(5), image_ids(5), "one .n, d. matrix of floats"),
        (np.ones((5, 0)), image_ids(5), "one .n, d. matrix of floats"),
        (np.array([[object()] * 8] * 5), image_ids(5), "cannot read"),
    ],
)
def test_import_refused_whole(five_images, tmp_path, values, names, message):
    with pytest.raises(CounterstainError, match=message):
        import_embeddings(five_images, "theirs", "d", save(tmp_path, values), pl.DataFrame({"image_id": names}))
    assert five_images.tables(staging=True) == ["images"]


@pytest.mark.parametrize("content", [b"", b"not an array", b"PK\x03\x04", b"\x93NUMPY\x01\x00", None], ids=repr)
def test_import_of_no_array(five_images, tmp_path, content):
    path = tmp_path / "v.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CounterstainError, match="cannot read"):
        import_embeddings(five_images, "theirs", "d", path, pl.DataFrame({"image_id": image_ids(5)}))


def test_import_under_a_name_that_is_none(five_images, tmp_path):
    with pytest.raises(CounterstainError, match="cannot name an encoder"):
        import_embeddings(
            five_images, "The'irs", "d", save(tmp_path, vectors(5)), pl.DataFrame({"image_id": image_ids(5)})
        )
