"""``finetuning``: a linear head on an encoder, or the encoder too, trained by gradient, scored on held-out images."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from filelock import FileLock
from numpy.typing import NDArray

from analysis.arrays import Categories, encode
from analysis.figures import learning_curve_figure
from analysis.metadata import attribute_columns
from analysis.splits import Parts, training_parts, training_parts_of_sets
from analysis.training_scores import prior_loss, score_parts
from analysis.zero_shot.evaluate import read_label_sets
from assets import display
from assets.features import Features, embeddings_version, group_parameters, read_features, user_errors
from assets.partitions import known_encoders
from assets.progress import Progress
from assets.project import Project, finetuned_dir
from assets.registry import get_dataset
from assets.step import Cell, Check, Made, Step, log
from assets.training_sets import trained_on
from pipelines.encoder import Encoder
from pipelines.encoders import load_encoder
from pipelines.finetuning.recipe import Recipe
from pipelines.finetuning.tuned import Training, history_of, publish, read_logits, read_training
from pipelines.precision import Precision
from pipelines.readers import reader_of
from pipelines.wanted import Wanted
from store.images import read_metadata
from store.results import write_results
from store.runs import data_version
from store.schema import (
    ALL_LABELS,
    EMBEDDINGS_PREFIX,
    FINETUNING_EPOCHS,
    FINETUNING_IMAGES,
    FINETUNING_SCORES,
    LABEL_SEPARATOR,
    CounterstainError,
    check_encoder_name,
)

if TYPE_CHECKING:
    from pipelines.finetuning.training import Epoch

# Trainings that are not finished; encoders' names do not begin with a dot.
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Task:
    """What is to be learned: labels as written, the same as targets ``(n,)`` or ``(n, classes)``, and rows of parts."""

    labels: list[str | None]
    targets: NDArray[np.int64]
    classes: tuple[str, ...]
    parts: Parts


def recipe_of(project: Project) -> Recipe:
    """Return the hyper-parameters that the settings ask for."""
    return Recipe(
        mode=project.finetune_mode,
        multi_label=project.finetune_multi_label,
        epochs=project.finetune_epochs,
        patience=project.finetune_patience,
        batch_size=project.finetune_batch_size,
        learning_rate=project.finetune_learning_rate,
        weight_decay=project.finetune_weight_decay,
        precision=_precision(project),
        seed=project.seed,
    )


def _precision(project: Project) -> Precision:
    if project.finetune_precision != "auto":
        return project.finetune_precision
    if project.finetune_mode == "linear" or not project.device.startswith("cuda"):
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"


def training_name(project: Project, dataset: str, encoder: str) -> str:
    """Return the name of a training, and of the encoder it makes: the one asked for, else one that says what it is.

    Raises
    ------
    CounterstainError
        If it cannot name an encoder.
    """
    if project.finetune_name:
        return check_encoder_name(project.finetune_name)
    words = "".join(character if character.isalnum() else "_" for character in dataset.lower())
    seed = f"_seed{project.seed}" if project.seed else ""
    name = f"{encoder}__{words}_{project.finetune_mode}{seed}"
    try:
        return check_encoder_name(name)
    except CounterstainError as error:
        raise CounterstainError(f"{error} Give the training a name of your own (--name).") from error


def _parameters(cell: Cell) -> dict[str, object]:
    name = training_name(cell.project, cell.dataset, cell.encoder)
    return {**asdict(recipe_of(cell.project)), "name": name, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    recipe = recipe_of(cell.project)
    features = read_features(cell)
    with user_errors(cell):
        task = _task(features, recipe)
    training, logits = _trained(cell, features, task, recipe)
    parts = dict(zip(("train", "validation", "test"), task.parts, strict=True))
    scores = score_parts(task.targets, logits, features.groups, parts, task.classes, seed=cell.project.seed)
    names = {"dataset": cell.dataset, "encoder": cell.encoder, "training": training.name}
    epochs = pl.DataFrame(list(training.history)).with_columns(
        pl.col("epoch").cast(pl.Int32), kept=pl.col("epoch") == training.best_epoch
    )
    write_results(cell.warehouse, FINETUNING_EPOCHS, epochs, **names)
    write_results(cell.warehouse, FINETUNING_IMAGES, _images(features, task, logits), **names)
    mode = pl.lit(recipe.mode).alias("mode")
    write_results(cell.warehouse, FINETUNING_SCORES, scores.with_columns(mode), **names)
    whole = scores.filter(pl.col("label").is_null())
    guessing = prior_loss(task.targets, len(task.classes), task.parts.train, task.parts.validation)
    lowest = float(epochs["validation_loss"].min())  # type: ignore[arg-type]  # a number
    tested = set(features.images["image_id"].gather(task.parts.test))
    seen = len(trained_on(cell) & tested)
    curve = learning_curve_figure(epochs, guessing=guessing, title=f"{cell.dataset}, {training.name}")
    return Made(
        rows=scores.height,
        data_version=data_version(cell.warehouse, "finetuning_scores", **names),
        tables=("finetuning_epochs", "finetuning_images", "finetuning_scores"),
        summary={
            f"test {metric}": value
            for metric, value in whole.filter(part="test").select("metric", "value").iter_rows()
            if value is not None
        },
        metadata={
            "training": training.name,
            "held-out scores": display.table(scores.filter(part="test").drop("part", "seed"), 200),
            "scores of all parts": display.table(whole.drop("label", "seed")),
            "learning curve": display.picture(curve, "Learning curve"),
        },
        checks={
            "learned": Check(
                lowest < guessing,
                f"lowest validation loss {lowest:.4f}; the labels' frequencies alone give {guessing:.4f}",
            ),
            "unseen": Check(
                not seen,
                f"{cell.encoder} was itself fine-tuned on {seen} of the {len(tested)} images of the test part"
                + (": train it with the seed of that training" if seen else ""),
            ),
        },
        fingerprint=training.digest,
    )


def _task(features: Features, recipe: Recipe) -> Task:
    if recipe.multi_label:
        # A reader that knows all labels of an image says them beside the one that it takes for its class.
        labels = attribute_columns(features.images).get(ALL_LABELS, features.labels)
        there, member, names = read_label_sets(labels)
        if not names:
            raise ValueError("no image has a label: there is nothing to learn")
        known = np.flatnonzero(there)
        parts = training_parts_of_sets(features.groups[known], seed=recipe.seed)
        targets = member.astype(np.int64)
    else:
        labels = features.labels
        codes = encode(features.labels, what="labels")
        known = np.flatnonzero(codes.known)
        labelled = Categories(codes.codes[known], codes.names)
        parts = training_parts(labelled, features.groups[known], seed=recipe.seed)
        targets, names = codes.codes, codes.names
    return Task(labels, targets, names, Parts(*(known[rows] for rows in parts)))


def _trained(cell: Cell, features: Features, task: Task, recipe: Recipe) -> tuple[Training, NDArray[np.float32]]:
    """Return a training and the logits of every image: one that is there already, or one made now."""
    folder = finetuned_dir(cell.warehouse)
    name = training_name(cell.project, cell.dataset, cell.encoder)
    digest = _digest(cell, features, task, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        found = read_training(folder, name)
        if found is not None and (found.base, found.dataset) != (cell.encoder, cell.dataset):
            raise CounterstainError(
                f"{name!r} is a training of {found.base} on {found.dataset}: give this one another name (--name)."
            )
        if found is None and name in known_encoders(cell.warehouse):
            raise CounterstainError(f"{name!r} is an encoder already: give the training another name (--name).")
        if found is None or found.digest != digest:
            found = _train(cell, features, task, recipe, name, digest)
        return found, read_logits(folder, found)


def _train(cell: Cell, features: Features, task: Task, recipe: Recipe, name: str, digest: str) -> Training:
    import torch

    from pipelines.finetuning.training import Examples, train

    folder = finetuned_dir(cell.warehouse)
    # Of this name alone: another process may train the same under another.
    work = folder / UNFINISHED / name
    pixels: Path | None = None
    inputs = features.vectors
    tower: torch.nn.Module = torch.nn.Identity()
    base_fingerprint = ""
    if recipe.mode == "full":
        encoder = _load_base(cell)
        pixels = _pixels_path(cell, encoder, features)
        inputs = _preprocess(cell, encoder, features, pixels)
        tower, base_fingerprint = encoder.forward, encoder.fingerprint
    trained = train(
        tower,
        features.vectors.shape[1],
        Examples(inputs, task.targets, len(task.classes), task.parts.train, task.parts.validation),
        recipe,
        work / digest,
        device=cell.project.device,
        watcher=Watch(name, recipe.epochs),
    )
    dataset = get_dataset(cell.warehouse, cell.dataset)
    of_one_set = reader_of(dataset).about is not None
    training = Training(
        name=name,
        base=cell.encoder,
        base_fingerprint=base_fingerprint,
        dataset=cell.dataset,
        exposed=tuple({cell.dataset, *([dataset.reader] if of_one_set else [])}),
        mode=recipe.mode,
        digest=digest,
        classes=task.classes,
        best_epoch=trained.best_epoch,
        history=history_of(trained),
        sha256={},
    )
    whole = publish(folder, training, trained)
    shutil.rmtree(work)
    if pixels is not None:
        pixels.unlink(missing_ok=True)
    return whole


def _load_base(cell: Cell) -> Encoder:
    """Load an encoder of its own for training: the weights of one kept in memory for other steps must not change."""
    if cell.encoder not in cell.project.encoder_specs():
        raise CounterstainError(
            f"{cell.encoder!r} was imported: it has vectors and no weights, so that only a linear head can be trained "
            "on it (--mode linear)."
        )
    return load_encoder(cell.encoder, replace(cell.project.load_options(), precision="float32"))


def _preprocess(cell: Cell, encoder: Encoder, features: Features, path: Path) -> NDArray[np.float32]:
    from pipelines.finetuning.pixels import preprocessed

    uris = read_metadata(cell.warehouse, cell.dataset).select("image_id", "uri")
    rows = features.images.join(uris, on="image_id", how="left", maintain_order="left")
    wanted = {
        uri: Wanted(image_id, content)
        for uri, image_id, content in rows.select("uri", "image_id", "content_hash").iter_rows()
    }
    dataset = get_dataset(cell.warehouse, cell.dataset)
    progress = Progress("images preprocessed", len(wanted))
    return preprocessed(
        encoder,
        reader_of(dataset).read(dataset),
        wanted,
        path,
        workers=cell.project.workers,
        advance=progress.advance,
    )


def _pixels_path(cell: Cell, encoder: Encoder, features: Features) -> Path:
    """Return where preprocessed images are kept while they are trained on: beside the matrices that may be deleted."""
    made_of = [encoder.fingerprint, *features.images.select("image_id", "content_hash").rows()]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return cell.warehouse.cache_dir / "preprocessed" / f"{digest[:32]}.npy"


def _digest(cell: Cell, features: Features, task: Task, recipe: Recipe) -> str:
    """Return a digest of all that a training follows from."""
    table = EMBEDDINGS_PREFIX + cell.encoder
    made_of = {
        "recipe": asdict(recipe),
        "vectors": data_version(cell.warehouse, table, columns=["fingerprint"], dataset=cell.dataset),
        "images": features.images.select("image_id", "content_hash").rows(),
        "targets": task.targets.tolist(),
        "classes": task.classes,
        "parts": [rows.tolist() for rows in task.parts],
    }
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


class Watch:
    """Tells in the log how far a training is."""

    def __init__(self, name: str, epochs: int) -> None:
        self._name = name
        self._epochs = epochs
        self._progress = Progress(name)

    def begin(self, epoch: int, images: int) -> None:
        """Count from anew."""
        self._progress = Progress(f"{self._name}: epoch {epoch} of at most {self._epochs}, images", images)

    def advance(self, images: int) -> None:
        """Count images."""
        self._progress.advance(images)

    def end(self, epoch: "Epoch") -> None:
        """Say what the epoch came to."""
        log.info(
            "  %s: epoch %d of at most %d, training loss %.4f, validation loss %.4f",
            self._name, epoch.epoch, self._epochs, epoch.train_loss, epoch.validation_loss,
        )  # fmt: skip


def _images(features: Features, task: Task, logits: NDArray[np.float32]) -> pl.DataFrame:
    """Return the part of every image and what was predicted for it."""
    part: list[str | None] = [None] * len(task.labels)
    for name, rows in zip(("train", "validation", "test"), task.parts, strict=True):
        for row in rows.tolist():
            part[row] = name
    margin: list[float | None]
    if task.targets.ndim == 2:
        margin = [None] * len(part)
        predicted = [
            LABEL_SEPARATOR.join(name for name, there in zip(task.classes, row, strict=True) if there)
            for row in (logits > 0).tolist()
        ]
        right = ((logits > 0) == task.targets.astype(np.bool_)).all(axis=1).tolist()
    else:
        predicted = [task.classes[code] for code in logits.argmax(axis=1).tolist()]
        margin = _margins(task.targets, logits)
        right = (logits.argmax(axis=1) == task.targets).tolist()
    known = [label is not None for label in task.labels]
    return pl.DataFrame(
        {
            "image_id": features.images["image_id"],
            "part": pl.Series(part, dtype=pl.String),
            "truth": pl.Series(task.labels, dtype=pl.String),
            "predicted": predicted,
            "margin": pl.Series(margin, dtype=pl.Float64),
            "correct": [each if there else None for each, there in zip(right, known, strict=True)],
        }
    )


def _margins(targets: NDArray[np.int64], logits: NDArray[np.float32]) -> list[float | None]:
    """Return the logit of each image's class less the best other; None where its class is unknown."""
    rows = np.arange(len(targets))
    others = logits.astype(np.float64)
    own = others[rows, targets].copy()
    others[rows, targets] = -np.inf
    margin = own - others.max(axis=1)
    return [value if target >= 0 else None for value, target in zip(margin.tolist(), targets.tolist(), strict=True)]


STEP = Step(
    name="finetuning",
    description="A linear head on an encoder's vectors, or the encoder with such a head, trained by gradient as in the "
    "second study (multi-label or single-label), with patients kept together, early stopping and a part held out; a "
    "fine-tuned encoder is then one of the encoders.",
    group="analysis",
    kinds=frozenset({"torch", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings"),
    code_version="1",
    inputs=embeddings_version,
    parameters=_parameters,
    make=_make,
    checks={
        "learned": "The validation loss fell below what the frequencies of the labels alone give.",
        "unseen": "The encoder it began with was not fine-tuned on images of the test part.",
    },
    on_request=True,
    adds_encoders=True,
)
