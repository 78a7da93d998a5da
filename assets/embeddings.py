"""``embeddings``: an encoder's vector of every image of a data set, joined with what is known of the image."""

import hashlib
import json
import time
from functools import lru_cache
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.components import principal_components
from analysis.figures import encoders_figure
from assets import display
from assets.progress import Progress
from assets.registry import get_dataset
from assets.step import Cell, Check, Made, Step
from assets.training_sets import trained_on
from pipelines.batch_size import find_batch_size
from pipelines.encode import encode
from pipelines.encoder import Encoder, LoadOptions
from pipelines.encoders import load_encoder
from pipelines.readers import reader_of
from pipelines.wanted import Wanted
from store.embeddings import EmbeddingMatrix, EmbeddingPartition
from store.images import read_metadata, refresh_metadata
from store.maintenance import build_indexes
from store.runs import data_version, latest_run
from store.schema import EMBEDDINGS_PREFIX, CounterstainError

# What a slow encoder has done is staged this often, however little it is.
SECONDS_BETWEEN_STAGES = 15.0
MAX_NORM_DRIFT = 0.05
IMAGES_DRAWN = 800


# A backfill goes encoder by encoder: the next data set finds the model loaded.
@lru_cache(maxsize=1)
def _loaded(name: str, options: LoadOptions, _revision: str | None) -> Encoder:
    """Load an encoder; one that was fine-tuned anew meanwhile has another revision."""
    return load_encoder(name, options)


def loaded_encoder(cell: Cell) -> Encoder:
    """Return a cell's encoder, from memory if it was the last one used."""
    return _loaded(cell.encoder, cell.project.load_options(), cell.project.encoder_specs()[cell.encoder].revision)


def _inputs(cell: Cell) -> dict[str, str]:
    # Vectors depend on the pixels alone; whoever changes what is known of the images tells every encoder's table.
    inputs = {"images": data_version(cell.warehouse, "images", columns=["content_hash"], dataset=cell.dataset)}
    specs = cell.project.encoder_specs()
    if cell.encoder not in specs:
        table = EMBEDDINGS_PREFIX + cell.encoder
        inputs["vectors"] = data_version(cell.warehouse, table, columns=["fingerprint"], dataset=cell.dataset)
    else:
        inputs |= checkpoint_state(cell)
    return inputs


def checkpoint_state(cell: Cell) -> dict[str, str]:
    """Return a digest of the files of a registered encoder's local checkpoint, as an input; none for the hub's."""
    folder = cell.project.load_options().local_checkpoint(cell.project.encoder_specs()[cell.encoder])
    if folder is None:
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return {"checkpoint": hashlib.sha256(repr(states).encode()).hexdigest()[:32]}


def _parameters(cell: Cell) -> dict[str, object]:
    spec = cell.project.encoder_specs().get(cell.encoder)
    if spec is None:
        return {"imported": True}
    precision = cell.project.precision
    return {
        "architecture": spec.architecture,
        "checkpoint": spec.checkpoint,
        "revision": spec.revision,
        "feature": spec.feature,
        "arguments": repr(sorted(spec.arguments.items())),
        **({} if precision == "float32" else {"precision": precision}),
    }


def _make(cell: Cell) -> Made:
    about: dict[str, object] = {}
    if cell.encoder in cell.project.encoder_specs():
        encoder = loaded_encoder(cell)
        fingerprint, encoded = encoder.fingerprint, _encode(cell, encoder)
        about = {"cosine to float32": encoder.fidelity}
        if encoder.files:
            about["weights"] = display.table(_weights(encoder))
        known = read_metadata(cell.warehouse, cell.dataset)["image_id"]
        if seen := len(trained_on(cell) & set(known)):
            about["of these images, trained on"] = seen
    else:
        if not _inputs(cell)["vectors"]:
            raise CounterstainError(
                f"{cell.encoder!r} has no vectors of data set {cell.dataset!r}: bring them in with "
                "`counterstain embeddings import`."
            )
        # Its vectors came with their own fingerprint; only what is known of the images can have changed.
        refresh_metadata(cell.warehouse, cell.encoder, cell.dataset)
        fingerprint, encoded = "imported", {}
    table = EMBEDDINGS_PREFIX + cell.encoder
    build_indexes(cell.warehouse, table)
    matrix = cell.warehouse.vectors(cell.encoder, cell.dataset)
    norms = np.linalg.norm(matrix.vectors, axis=1)
    constant = float((matrix.vectors.std(axis=0) == 0).mean())
    before = latest_run(cell.warehouse, "embeddings", cell.dataset, cell.encoder)
    expected = read_metadata(cell.warehouse, cell.dataset).height
    classes = matrix.images["label"].value_counts(sort=True)
    return Made(
        rows=len(matrix.vectors),
        data_version=data_version(cell.warehouse, table, dataset=cell.dataset),
        tables=(table,),
        summary={**encoded, "dimension": matrix.vectors.shape[1], "mean norm": float(norms.mean())},
        metadata={"first look": _first_look(cell, matrix), "classes": display.table(classes), **about},
        checks={
            "every_image_has_a_vector": Check(
                len(matrix.vectors) == expected, f"{len(matrix.vectors)} vectors of {expected} images"
            ),
            "vectors_vary": Check(constant < 0.5, f"{constant:.1%} of the dimensions are constant"),
            "norms_steady": _norm_check(float(norms.mean()), before),
        },
        fingerprint=fingerprint,
    )


def _first_look(cell: Cell, matrix: EmbeddingMatrix) -> dg.MarkdownMetadataValue:
    """Draw some of the vectors along their first two principal components, by label."""
    chosen = np.random.default_rng(cell.project.seed).permutation(len(matrix.vectors))[:IMAGES_DRAWN]
    places = principal_components(matrix.vectors[np.sort(chosen)])
    known = matrix.images[np.sort(chosen)].select("image_id", "label")
    drawn = known.with_columns(x=pl.Series(places[:, 0]), y=pl.Series(places[:, 1]), encoder=pl.lit(cell.encoder))
    title = f"{cell.dataset}: principal components"
    return display.picture(encoders_figure(drawn, colour_by="label", title=title), "Vectors by label")


def _encode(cell: Cell, encoder: Encoder) -> dict[str, int]:
    """Encode what is missing, stage it as it comes, and commit the partition; return what was done, in numbers."""
    images = read_metadata(cell.warehouse, cell.dataset)
    spec = encoder.spec
    partition = EmbeddingPartition(cell.warehouse, spec.name, cell.dataset, spec.dimension, encoder.fingerprint)
    dataset = get_dataset(cell.warehouse, cell.dataset)
    batch_size = cell.project.batch_size
    encoded = 0
    # Another run of the same partition may commit, and clear what was staged, while this one encodes.
    while missing := set(images["image_id"]) - partition.encoded_ids():
        rows = images.filter(pl.col("image_id").is_in(list(missing))).select("uri", "image_id", "content_hash")
        wanted = {uri: Wanted(image_id, content) for uri, image_id, content in rows.iter_rows()}
        batch_size = batch_size or find_batch_size(encoder, cell.project.workers, at_most=len(missing))
        progress = Progress(f"{cell.encoder}: images encoded", len(wanted))
        staged = time.monotonic()
        ids: list[str] = []
        vectors: list[NDArray[np.float32]] = []
        sources = reader_of(dataset).read(dataset)
        for batch_ids, batch in encode(encoder, sources, wanted, batch_size=batch_size, workers=cell.project.workers):
            ids += batch_ids
            vectors.append(batch)
            progress.advance(len(batch_ids))
            if len(ids) >= cell.project.stage_size or time.monotonic() - staged > SECONDS_BETWEEN_STAGES:
                partition.stage(ids, np.concatenate(vectors))
                ids, vectors, staged = [], [], time.monotonic()
        if ids:
            partition.stage(ids, np.concatenate(vectors))
        if not progress.done:
            raise CounterstainError(
                f"{len(missing)} images of {cell.dataset!r} are no longer where they were read from, first "
                f"{min(wanted)!r}: materialize `images` again."
            )
        encoded += progress.done
    partition.commit()
    # The last digits of a vector depend on how many images it was computed with.
    return {"encoded now": encoded} | ({"images per forward pass": batch_size} if encoded else {})


def _weights(encoder: Encoder) -> pl.DataFrame:
    """Return which weight files were read, with the digests that their publisher shows too."""
    return pl.DataFrame(list(encoder.files.items()), schema=["file", "sha256"], orient="row")


def _norm_check(mean_norm: float, before: dict[str, Any] | None) -> Check:
    """Compare the mean norm with that of the run before: weights or preprocessing that changed show here."""
    earlier = json.loads(before["summary"]).get("mean norm") if before else None
    if not earlier:
        return Check(True, f"mean norm {mean_norm:.4g}; no earlier run to compare with")
    drift = abs(mean_norm / earlier - 1)
    return Check(drift <= MAX_NORM_DRIFT, f"mean norm {mean_norm:.4g}, {drift:.1%} from the run before")


STEP = Step(
    name="embeddings",
    description="Each image's vector from one encoder, unnormalised, joined with the metadata that searches filter on.",
    group="features",
    kinds=frozenset({"pytorch", "lancedb"}),
    scope="cell",
    upstream=("images",),
    code_version="1",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={
        "every_image_has_a_vector": "As many vectors as images.",
        "vectors_vary": "Most dimensions differ between images.",
        "norms_steady": f"The mean norm is within {MAX_NORM_DRIFT:.0%} of the run before.",
    },
)
