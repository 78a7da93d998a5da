"""Vector search as the command line asks for it, answered as rows and as a contact sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.figures import SearchHit, SearchQuery, search_page, search_sheet
from assets.backgrounds import image_groups
from assets.project import Project
from assets.searching import encode_image
from pipelines.decoding import content_hash, open_image, thumbnail, to_rgb
from pipelines.encoders import load_text_encoder
from pipelines.sources import UnreadableImageError, read_file
from store import Warehouse
from store.images import read_metadata
from store.schema import CounterstainError
from store.views import within_view

# More make a picture nobody looks at; a page is scrolled through.
PICTURES = 120
KEYS = ["dataset", "image_id"]
# Columns that fit a terminal.
SHOWN = ("dataset", "image_id", "distance", "label", "text_overlay", "overlay_text", "annotation", "uri")


@dataclass(frozen=True)
class Asked:
    """What is looked for: just one of these.

    Attributes
    ----------
    image
        An image file, or the id of a stored image.
    text
        Words, encoded by the text side of the encoder.
    centroid_of
        SQL filter over the metadata columns, ``dataset`` among them: the mean direction of the images that fit.
    centroid_of_view
        A named view: the mean direction of its images.
    """

    image: str | None = None
    text: str | None = None
    centroid_of: str | None = None
    centroid_of_view: str | None = None


@dataclass(frozen=True)
class Found:
    """The answer as `Warehouse.search` gives it, and what was looked for in words and as a picture."""

    query: SearchQuery
    rows: pl.DataFrame


@dataclass(frozen=True)
class _Query:
    """A vector or the id of a stored image; the stored images it is made of; and what it is."""

    vector: str | NDArray[np.float32]
    own: pl.DataFrame
    words: str
    image: bytes | None = None
    label: str | None = None
    flags: tuple[str, ...] = ()


def find(
    project: Project,
    encoder: str,
    asked: Asked,
    *,
    datasets: Sequence[str] = (),
    where: str | None = None,
    view: str | None = None,
    k: int = 10,
    exclude_same_group: bool = False,
) -> Found:
    """Return the stored images nearest to what is asked for, nearest first.

    Parameters
    ----------
    project
        Where the warehouse is, and how images are encoded.
    encoder
        Whose idea of nearness.
    asked
        What is looked for.
    datasets
        Search these only; none: all.
    where
        SQL filter over the metadata columns, applied before the search.
    view
        Search the images of this named view only.
    k
        Images at most.
    exclude_same_group
        Leave out the stored images that the query is made of, and all of their groups: of the same patient, slide or
        registered group, duplicates, and copies in any data set.

    Raises
    ------
    CounterstainError
        If not just one thing is asked for, the file cannot be read, or as `Warehouse.search` and `Warehouse.centroid`
        say.
    """
    warehouse = project.open()
    query = _resolve(project, warehouse, encoder, asked, datasets)
    leave_out = group_mates(project, query.own) if exclude_same_group else None
    among = where if view is None else within_view(warehouse, view, where)
    rows = warehouse.search(encoder, query.vector, dataset=datasets or None, where=among, k=k, leave_out=leave_out)
    place = f" in {', '.join(datasets)}" if datasets else ""
    place += f" of view {view}" if view else ""
    place += f" where {where}" if where else ""
    place += ", other groups only" if exclude_same_group else ""
    words = f"Nearest to {query.words}\n{rows.height} images by {encoder}{place}"
    return Found(SearchQuery(words, query.image, query.label, query.flags), rows)


def group_mates(project: Project, images: pl.DataFrame) -> pl.DataFrame:
    """Return stored images with all that are of a group with one of them, and their copies in any data set.

    Parameters
    ----------
    project
        Whose warehouse it is.
    images
        Stored images, by ``dataset`` and ``image_id``.
    """
    warehouse = project.open()
    mates = [images.select(KEYS)]
    hashes = []
    for (name,), of_set in images.group_by("dataset", maintain_order=True):
        dataset = str(name)
        known = read_metadata(warehouse, dataset)
        try:
            groups = image_groups(warehouse, dataset, known)
        except ValueError as error:
            raise CounterstainError(f"data set {dataset!r}: {error}") from error
        with_groups = known.select(pl.lit(dataset).alias("dataset"), "image_id", "content_hash", group=groups)
        own = with_groups.filter(pl.col("image_id").is_in(of_set["image_id"].to_list()))
        of_groups = with_groups.filter(pl.col("group").is_in(own["group"].to_list()))
        mates.append(of_groups.select(KEYS))
        hashes += of_groups["content_hash"].to_list()
    copies = warehouse.frame("images").filter(pl.col("content_hash").is_in(hashes)).select(KEYS).collect()
    return pl.concat([*mates, copies]).unique(maintain_order=True)


def write_sheet(warehouse: Warehouse, found: Found, out: Path) -> Path:
    """Write an answer as a picture (.png) or a page (.html) and return the file.

    Raises
    ------
    CounterstainError
        If the answer is empty, the file ends otherwise or cannot be written.
    """
    if found.rows.is_empty():
        raise CounterstainError("no image was found, so there is none to draw.")
    hits = _hits(warehouse, found.rows)
    match out.suffix.lower():
        case ".png":
            content = search_sheet(found.query, hits[:PICTURES])
        case ".html" | ".htm":
            content = search_page(found.query, hits).encode()
        case _:
            raise CounterstainError(f"{out}: a contact sheet ends in .png or .html.")
    try:
        out.write_bytes(content)
    except OSError as error:
        raise CounterstainError(f"cannot write {out}: {error}") from error
    return out


def _resolve(project: Project, warehouse: Warehouse, encoder: str, asked: Asked, datasets: Sequence[str]) -> _Query:
    given = [each for each in (asked.image, asked.text, asked.centroid_of, asked.centroid_of_view) if each is not None]
    if len(given) != 1:
        raise CounterstainError(
            "name one thing to look for: an image file, the id of a stored image, --text, --centroid-of or "
            "--centroid-of-view."
        )
    if asked.text is not None:
        return _text(project, encoder, asked.text)
    if asked.centroid_of is not None:
        return _centroid(warehouse, encoder, asked.centroid_of, f"where {asked.centroid_of}")
    if asked.centroid_of_view is not None:
        members = within_view(warehouse, asked.centroid_of_view)
        return _centroid(warehouse, encoder, members, f"in view {asked.centroid_of_view}")
    assert asked.image is not None
    path = Path(asked.image)
    return _file(project, encoder, path) if path.is_file() else _stored(warehouse, asked.image, datasets)


def _text(project: Project, encoder: str, text: str) -> _Query:
    vectors = load_text_encoder(encoder, project.load_options()).encode_texts([text])
    return _Query(vectors[0], pl.DataFrame(schema={"dataset": pl.String, "image_id": pl.String}), f"the text {text!r}")


def _centroid(warehouse: Warehouse, encoder: str, where: str, which: str) -> _Query:
    centroid = warehouse.centroid(encoder, where)
    names = ", ".join(centroid.images["dataset"].unique().sort())
    words = (
        f"the centroid of {centroid.images.height} images of {names} {which} "
        f"(concentration {centroid.concentration:.2f})"
    )
    return _Query(centroid.vector, centroid.images, words)


def _file(project: Project, encoder: str, path: Path) -> _Query:
    """Encode an image file; stored copies of it are its own images, and say what is known of it."""
    vector = encode_image(project, encoder, path)
    try:
        payload = read_file(path)
        picture = thumbnail(to_rgb(open_image(payload)))
    except UnreadableImageError as error:
        raise CounterstainError(f"{path}: {error}") from error
    copies = project.open().frame("images").filter(pl.col("content_hash") == content_hash(payload)).collect()
    if copies.is_empty():
        return _Query(vector, copies.select(KEYS), str(path), picture)
    first = copies.row(0, named=True)
    label = first["label"] if copies["label"].n_unique() == 1 else None
    return _Query(vector, copies.select(KEYS), str(path), picture, label, _flags(first))


def _stored(warehouse: Warehouse, image_id: str, datasets: Sequence[str]) -> _Query:
    """Look up a stored image, in the data sets searched where one of them has it."""
    known = warehouse.frame("images").filter(pl.col("image_id") == image_id).collect()
    if known.is_empty():
        raise CounterstainError(f"{image_id!r} is neither a file nor the id of a stored image.")
    searched = known.filter(pl.col("dataset").is_in(datasets)) if datasets else known
    first = (known if searched.is_empty() else searched).row(0, named=True)
    own = known.filter(dataset=first["dataset"]).select(KEYS)
    words = f"{first['dataset']} / {first['uri']}"
    return _Query(image_id, own, words, first["thumbnail"], first["label"], _flags(first))


def _hits(warehouse: Warehouse, rows: pl.DataFrame) -> list[SearchHit]:
    pictures = warehouse.frame("images").filter(pl.col("image_id").is_in(rows["image_id"].to_list()))
    joined = rows.join(
        pictures.select(*KEYS, "thumbnail").collect(), on=KEYS, how="left", maintain_order="left", nulls_equal=False
    )
    return [
        SearchHit(
            row["thumbnail"] or b"",
            row["distance"],
            row["label"],
            _flags(row),
            row["dataset"],
            row["uri"] or row["image_id"],
        )
        for row in joined.iter_rows(named=True)
    ]


def _flags(row: dict[str, object]) -> tuple[str, ...]:
    """Say what is known of an image's background, in a few words each."""
    words = f"words: {row['overlay_text']}" if row["overlay_text"] else "words"
    kinds = row["annotation_kinds"]
    marks = ", ".join(map(str, kinds)) if isinstance(kinds, list) and kinds else "marks"
    view = str(row["view"]) if row["view"] else ""
    return tuple(
        each for each in (words if row["text_overlay"] else "", marks if row["annotation"] else "", view) if each
    )
