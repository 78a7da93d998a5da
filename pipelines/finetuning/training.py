"""The training itself: one optimiser, one schedule, early stopping, and checkpoints from which it goes on unchanged."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.finetuning import checkpoints
from pipelines.finetuning.recipe import Recipe
from store.schema import CounterstainError

# A training that is killed loses no more than this; there is also a checkpoint at the end of every epoch.
SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass(frozen=True)
class Examples:
    """What is trained on, and what training is judged by.

    Attributes
    ----------
    inputs
        ``(n, d)`` vectors for a linear head, or ``(n, 3, h, w)`` preprocessed images; float32, may be memory-mapped.
    targets
        ``(n,)`` class codes, or for several labels ``(n, classes)`` zeros and ones.
    classes
        How many.
    train, validation
        Rows of `inputs`.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.int64]
    classes: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean losses, `train_loss` while the weights moved, and the learning rate of its last step."""

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes
    ----------
    history
        Every epoch, in order.
    best_epoch
        That of the lowest validation loss, counted from 1, whose weights these are.
    model
        Tower and head.
    logits
        ``(n, classes)`` float32 of every image.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    model: "Classifier"
    logits: NDArray[np.float32]


class Watcher(Protocol):
    """Is told how far training is."""

    def begin(self, epoch: int, images: int) -> None:
        """Hear that epoch `epoch`, from 1, begins, with so many images to go."""

    def advance(self, images: int) -> None:
        """Hear that so many more images were trained on."""

    def end(self, epoch: Epoch) -> None:
        """Hear what an epoch came to."""


class Classifier(torch.nn.Module):
    """An image tower and a linear layer behind it; for vectors that are there already, the tower is the identity."""

    def __init__(self, tower: torch.nn.Module, dimension: int, classes: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = torch.nn.Linear(dimension, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(b, classes)`` float32 of inputs ``(b, …)``."""
        logits: torch.Tensor = self.head(self.tower(inputs))
        return logits.float()


@dataclass
class _Standing:
    """Where a training stands: what, with the weights, is all that its further course depends on."""

    epoch: int = 0  # whole ones behind it
    step: int = 0  # of the present epoch
    loss_sum: float = 0.0  # over the images of the present epoch
    best_epoch: int | None = None
    best_loss: float = math.inf
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    tower: torch.nn.Module,
    dimension: int,
    examples: Examples,
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    watcher: Watcher,
) -> Trained:
    """Train a classifier, from the newest checkpoint in a folder if there is one.

    Whether and how often a training was killed changes nothing: on one machine, with as many threads and on its
    processor, it ends in the same weights to the last bit.

    Parameters
    ----------
    tower
        From inputs to ``(b, dimension)``; trained in place unless the mode is linear.
    dimension
        Of its vectors.
    examples
        Inputs and targets.
    recipe
        Hyper-parameters.
    folder
        Of this one training: other examples, tower or recipe need another.
    device
        Torch device.
    watcher
        Is told how far it is.

    Raises
    ------
    CounterstainError
        If the loss is not finite, or a checkpoint is damaged.
    """
    place = torch.device(device)
    with torch.random.fork_rng([place] if place.type == "cuda" else []), _repeatable(place):
        torch.manual_seed(recipe.seed)
        model = Classifier(tower, dimension, examples.classes).to(place).to(memory_format=torch.channels_last)
        return _Training(model, examples, recipe, folder, place, watcher).run()


def cosine_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step, of `steps` in the whole run: half a cosine from the first rate to 0.

    Loshchilov & Hutter, arXiv:1608.03983, without restarts.
    """
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def batches(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Cut rows into batches; a last one of a single image, which has no variance to be normalised by, is left out."""
    cut = [rows[start : start + size] for start in range(0, len(rows), size)]
    return cut[:-1] if len(cut) > 1 and len(cut[-1]) == 1 else cut


class _Training:
    def __init__(
        self,
        model: Classifier,
        examples: Examples,
        recipe: Recipe,
        folder: Path,
        device: torch.device,
        watcher: Watcher,
    ) -> None:
        self.model, self.examples, self.recipe = model, examples, recipe
        self.folder, self.device, self.watcher = folder, device, watcher
        trained = model.head if recipe.mode == "linear" else model
        trained.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(trained.parameters(), weight_decay=recipe.weight_decay)
        self.standing = _Standing()
        self.steps_an_epoch = len(batches(examples.train, recipe.batch_size))
        self.targets = torch.from_numpy(examples.targets)

    def run(self) -> Trained:
        self._resume()
        while not self._over():
            self._train_epoch()
            self._judge_epoch()
            self._save()
        best = self.standing.best_epoch
        assert best is not None  # an epoch was judged, and its loss was finite
        self.model.load_state_dict(checkpoints.read_tensors(checkpoints.best_path(self.folder, best)))
        logits = self._logits(np.arange(len(self.examples.inputs)))
        history = tuple(Epoch(number, **each) for number, each in enumerate(self.standing.history, 1))
        return Trained(history, best, self.model, logits.numpy())

    def _over(self) -> bool:
        at = self.standing
        return at.epoch == self.recipe.epochs or at.epoch - (at.best_epoch or 0) >= self.recipe.patience

    def _train_epoch(self) -> None:
        at, recipe = self.standing, self.recipe
        # The order follows from seed and epoch, so that an epoch begun before a kill goes on in it.
        order = np.random.default_rng([recipe.seed, at.epoch]).permutation(self.examples.train)
        cut = batches(order, recipe.batch_size)
        self.watcher.begin(at.epoch + 1, sum(map(len, cut[at.step :])))
        self.model.train(recipe.mode == "full")
        saved = time.monotonic()
        for rows in cut[at.step :]:
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate()
            loss = self._loss(self._forward(rows), rows)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            at.loss_sum += self._finite(loss.item()) * len(rows)
            at.step += 1
            self.watcher.advance(len(rows))
            if at.step < len(cut) and time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
                saved = time.monotonic()

    def _judge_epoch(self) -> None:
        at = self.standing
        rows = self.examples.validation
        loss = self._finite(self._loss(self._logits(rows), rows, "cpu").item())
        images = sum(map(len, batches(self.examples.train, self.recipe.batch_size)))
        rate = float(self.optimizer.param_groups[0]["lr"])
        at.history.append({"train_loss": at.loss_sum / images, "validation_loss": loss, "learning_rate": rate})
        at.epoch, at.step, at.loss_sum = at.epoch + 1, 0, 0.0
        if loss < at.best_loss:
            at.best_epoch, at.best_loss = at.epoch, loss
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoints.write_tensors(checkpoints.best_path(self.folder, at.epoch), self.model.state_dict())
        self.watcher.end(Epoch(at.epoch, **at.history[-1]))

    def _rate(self) -> float:
        done = self.standing.epoch * self.steps_an_epoch + self.standing.step
        return cosine_rate(self.recipe, done, self.recipe.epochs * self.steps_an_epoch)

    def _forward(self, rows: NDArray[np.int64]) -> torch.Tensor:
        inputs = torch.from_numpy(self.examples.inputs[rows]).to(self.device)
        if inputs.ndim == 4:
            inputs = inputs.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision != "float32"):
            logits: torch.Tensor = self.model(inputs)
        return logits

    def _logits(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return the logits ``(len(rows), classes)`` of a model at rest, in main memory."""
        self.model.eval()
        size = self.recipe.batch_size
        with torch.no_grad():
            parts = [self._forward(rows[start : start + size]).cpu() for start in range(0, len(rows), size)]
        return torch.cat(parts)

    def _loss(self, logits: torch.Tensor, rows: NDArray[np.int64], device: str | None = None) -> torch.Tensor:
        targets = self.targets[torch.from_numpy(rows)].to(device or self.device)
        if self.recipe.multi_label:
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.float())
        return torch.nn.functional.cross_entropy(logits, targets)

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise CounterstainError(
                f"the training diverged (a loss of {loss} in epoch {self.standing.epoch + 1}): take a lower learning "
                f"rate than {self.recipe.learning_rate:g}."
            )
        return loss

    def _save(self) -> None:
        at = self.standing
        state: dict[str, Any] = {**vars(at), "optimizer": self.optimizer.state_dict(), "rng": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["device_rng"] = torch.cuda.get_rng_state(self.device)
        checkpoints.save(self.folder, at.epoch, at.step, self.model.state_dict(), state)

    def _resume(self) -> None:
        found = checkpoints.newest(self.folder, "cpu")
        if found is None:
            return
        weights, state = found
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(state.pop("optimizer"))
        torch.set_rng_state(state.pop("rng"))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state.pop("device_rng"), self.device)
        self.standing = _Standing(**state)


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Have the processor compute the same sums in the same order each time; on other devices that is not promised."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device.type == "cpu" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
