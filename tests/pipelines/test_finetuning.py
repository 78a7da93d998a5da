"""Training by gradient: against a plain loop, stopped at any step, and as an encoder of its own."""

import hashlib
import json
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import pipelines.encoders
from pipelines.encoder import Encoder, EncoderSpec, LoadOptions
from pipelines.encoders import available_specs, encoder_specs, load_encoder
from pipelines.finetuning import checkpoints, training
from pipelines.finetuning.pixels import preprocessed
from pipelines.finetuning.recipe import Recipe
from pipelines.finetuning.training import Classifier, Examples, Trained, batches, cosine_rate, train
from pipelines.finetuning.tuned import MODEL_FILE, RECORD_FILE, Training, history_of, publish, read_logits
from pipelines.sources import Source
from pipelines.wanted import Wanted
from store.schema import CounterstainError
from tests.tiny_encoder import DIMENSION, tiny_specs, tiny_tower

SIDE = 16


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Quiet:
    """Hears everything, and stops the training at one image count as a kill would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left = stop_after
        self.epochs: list[int] = []

    def begin(self, epoch: int, images: int) -> None:
        self.epochs.append(epoch)

    def advance(self, images: int) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def end(self, epoch: object) -> None:
        pass


def examples(*, multi_label: bool = False, n: int = 30, vectors: bool = False) -> Examples:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (n, 3)) if multi_label else rng.integers(0, 3, n)
    shape = (n, DIMENSION) if vectors else (n, 3, SIDE, SIDE)
    signal = (targets[:, 0] if multi_label else targets).reshape(-1, *[1] * (len(shape) - 1))
    inputs = (rng.normal(size=shape) + signal).astype(np.float32)
    return Examples(inputs, targets, 3, np.arange(n - 10), np.arange(n - 10, n))


def run(folder: Path, recipe: Recipe, given: Examples, watcher: Quiet | None = None) -> Trained:
    tower = torch.nn.Identity() if given.inputs.ndim == 2 else tiny_tower()
    return train(tower, DIMENSION, given, recipe, folder, watcher=watcher or Quiet())


def same(one: Trained, other: Trained) -> bool:
    weights, others = one.model.state_dict(), other.model.state_dict()
    equal = all(torch.equal(weights[name], others[name]) for name in weights | others)
    return equal and one.history == other.history and np.array_equal(one.logits, other.logits)


# --- the recipe and the loop


def test_the_defaults_are_the_studys() -> None:
    linear, full = Recipe("linear"), Recipe("full")
    assert (linear.learning_rate, full.learning_rate) == (1e-4, 1e-5)
    assert (full.epochs, full.patience, full.batch_size, full.weight_decay) == (10, 5, 24, 1e-2)
    assert Recipe("full", learning_rate=0.5).learning_rate == 0.5


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"patience": 0}, {"batch_size": 1}, {"learning_rate": -1.0}])
def test_a_recipe_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CounterstainError, match="of a training must be"):
        Recipe("full", **wrong)


def test_the_schedule_is_torchs_cosine_over_the_whole_run() -> None:
    recipe = Recipe("full", learning_rate=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    for step in range(7):
        assert cosine_rate(recipe, step, 7) == pytest.approx(schedule.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        schedule.step()


def test_a_last_batch_of_one_image_is_left_out() -> None:
    assert [len(batch) for batch in batches(np.arange(9), 4)] == [4, 4]
    assert [len(batch) for batch in batches(np.arange(10), 4)] == [4, 4, 2]
    assert [len(batch) for batch in batches(np.arange(1), 4)] == [1]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("mode", ["linear", "full"])
def test_a_training_is_that_of_a_plain_loop(tmp_path: Path, mode: Any, multi_label: bool) -> None:
    given = examples(multi_label=multi_label)
    recipe = Recipe(mode, multi_label, epochs=3, batch_size=8, learning_rate=1e-2, seed=3)
    trained = run(tmp_path, recipe, given)

    torch.manual_seed(3)
    # Dropout is drawn in the order of memory.
    model = Classifier(tiny_tower(), DIMENSION, 3).to(memory_format=torch.channels_last)
    parameters = model.head.parameters() if mode == "linear" else model.requires_grad_(True).parameters()
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    inputs, targets = torch.from_numpy(given.inputs), torch.from_numpy(given.targets)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        logits = model(inputs[rows].to(memory_format=torch.channels_last))
        if multi_label:
            return torch.nn.BCEWithLogitsLoss()(logits, targets[rows].float())
        return torch.nn.CrossEntropyLoss()(logits, targets[rows])

    validation, best, kept = [], math.inf, {}
    for epoch in range(3):
        model.train(mode == "full")
        for rows in torch.from_numpy(np.random.default_rng([3, epoch]).permutation(20)).split(8):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            validation.append(loss(torch.arange(20, 30)).item())
        if validation[-1] < best:
            best, kept = validation[-1], {name: weight.clone() for name, weight in model.state_dict().items()}
    assert [epoch.validation_loss for epoch in trained.history] == pytest.approx(validation, rel=1e-4)
    assert trained.best_epoch == 1 + int(np.argmin(validation))
    for name, weight in trained.model.state_dict().items():
        torch.testing.assert_close(weight, kept[name], rtol=1e-3, atol=1e-5)


def test_a_linear_head_leaves_the_tower_as_it_was(tmp_path: Path) -> None:
    recipe = Recipe("linear", epochs=2, batch_size=8, learning_rate=0.1)
    trained = run(tmp_path / "linear", recipe, examples())
    before = tiny_tower().state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in trained.model.tower.state_dict().items())
    full = run(tmp_path / "full", replace(recipe, mode="full"), examples())
    assert not torch.equal(full.model.tower.state_dict()["0.weight"], before["0.weight"])
    # Vectors that are there already give the same head as the tower that makes them.
    with torch.no_grad():
        vectors = tiny_tower()(torch.from_numpy(examples().inputs)).numpy()
    on_vectors = run(tmp_path / "vectors", recipe, replace(examples(), inputs=vectors))
    np.testing.assert_allclose(on_vectors.logits, trained.logits, rtol=1e-3, atol=1e-4)


def test_training_ends_early_and_keeps_the_best(tmp_path: Path) -> None:
    given = examples(vectors=True)
    given = replace(given, targets=np.random.default_rng(1).permutation(given.targets))
    recipe = Recipe("linear", epochs=50, patience=2, batch_size=4, learning_rate=0.3)
    trained = run(tmp_path, recipe, given)
    losses = [epoch.validation_loss for epoch in trained.history]
    assert len(losses) == trained.best_epoch + 2 < 50
    assert losses[trained.best_epoch - 1] == min(losses)
    rows = given.validation
    again = torch.nn.functional.cross_entropy(
        torch.from_numpy(trained.logits[rows]), torch.from_numpy(given.targets[rows])
    )
    assert again.item() == pytest.approx(min(losses), rel=1e-6)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    given = examples(vectors=True)
    given.inputs[0] = np.inf
    with pytest.raises(CounterstainError, match=r"diverged.*lower learning rate"):
        run(tmp_path, Recipe("linear", epochs=1, batch_size=8), given)


def test_in_bfloat16_weights_stay_float32(tmp_path: Path) -> None:
    recipe = Recipe("full", epochs=2, batch_size=8, learning_rate=1e-2)
    exact = run(tmp_path / "float32", recipe, examples())
    reduced = run(tmp_path / "bfloat16", replace(recipe, precision="bfloat16"), examples())
    assert {weight.dtype for weight in reduced.model.parameters()} == {torch.float32}
    assert not np.array_equal(reduced.logits, exact.logits)
    np.testing.assert_allclose(reduced.logits, exact.logits, atol=0.2)


# --- stopped and gone on with


@pytest.mark.parametrize("seconds", [0, 3600])
def test_stopped_at_any_step_it_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    recipe = Recipe("full", epochs=4, batch_size=8, learning_rate=1e-2, seed=5)
    whole = run(tmp_path / "whole", recipe, examples())
    assert {epoch.epoch for epoch in whole.history} == {1, 2, 3, 4}
    for steps in (1, 2, 3, 4, 5, 8):
        folder = tmp_path / f"{steps}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, recipe, examples(), Quiet(stop_after=steps))
        torch.manual_seed(99)  # of the process that goes on
        watcher = Quiet()
        assert same(run(folder, recipe, examples(), watcher), whole)
        # What was whole is not done again.
        assert min(watcher.epochs) == 1 + steps // 3 - (steps % 3 == 0)
        assert same(run(folder, recipe, examples(), watcher), whole)


def test_training_leaves_the_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    run(tmp_path, Recipe("full", epochs=1, batch_size=8), examples())
    assert torch.equal(torch.rand(1), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_only_the_newest_checkpoint_stays(tmp_path: Path) -> None:
    run(tmp_path, Recipe("full", epochs=2, batch_size=8, learning_rate=1e-2), examples())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-00002.safetensors", "checkpoint-00002-0000000"]


def test_what_was_half_written_is_not_read(tmp_path: Path) -> None:
    state = {"best_epoch": None, "epoch": 0, "step": 1}
    checkpoints.save(tmp_path, 0, 1, {"w": torch.ones(2)}, state)
    partial = tmp_path / "checkpoint-00000-0000002.partial"
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(b"half")
    weights, read = checkpoints.newest(tmp_path, "cpu") or ({}, {})
    assert torch.equal(weights["w"], torch.ones(2))
    assert read == state
    checkpoints.save(tmp_path, 0, 2, weights, state)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000-0000002"]


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize("file", ["weights.safetensors", "state.pt"])
def test_a_damaged_checkpoint_is_an_error_and_nothing_is_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    checkpoints.save(tmp_path, 0, 1, {"w": torch.ones(2)}, {"best_epoch": None})
    path = tmp_path / "checkpoint-00000-0000001" / file
    path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(CounterstainError, match=r"is damaged.*delete it"):
        checkpoints.newest(tmp_path, "cpu")
    assert "executed" not in capsys.readouterr().out


# --- images, decoded once


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> EncoderSpec:
    """An encoder of some hundred weights, registered beside the others."""
    registered = encoder_specs() | tiny_specs()
    monkeypatch.setattr(pipelines.encoders, "encoder_specs", lambda: registered)
    return registered["tiny"]


@pytest.fixture
def sources(encoded: Callable[..., bytes]) -> tuple[list[Source], dict[str, Wanted]]:
    files = {f"{number}.png": encoded(number) for number in range(5)}
    found = [Source(uri, lambda payload=payload: payload) for uri, payload in files.items()]
    wanted = {uri: Wanted(uri, hashlib.sha256(payload).hexdigest()) for uri, payload in reversed(files.items())}
    return found, wanted


def test_images_are_preprocessed_once_in_the_order_asked_for(
    tiny: EncoderSpec, sources: tuple[list[Source], dict[str, Wanted]], tmp_path: Path, pixels: Callable[..., Any]
) -> None:
    found, wanted = sources
    encoder = load_encoder("tiny", LoadOptions())
    del wanted["2.png"]
    counted: list[int] = []
    path = tmp_path / "new" / "pixels.npy"
    made = preprocessed(encoder, found, wanted, path, workers=2, advance=counted.append)
    expected = [encoder.preprocess(Image.fromarray(pixels(number))).numpy() for number in (4, 3, 1, 0)]
    np.testing.assert_array_equal(made, np.stack(expected))
    assert not made.flags.writeable
    assert sum(counted) == 4
    again = preprocessed(encoder, [], wanted, path, workers=2, advance=counted.append)
    np.testing.assert_array_equal(again, made)
    assert sum(counted) == 4


def test_two_trainings_at_once_do_not_write_into_one_file(
    tiny: EncoderSpec, sources: tuple[list[Source], dict[str, Wanted]], tmp_path: Path
) -> None:
    found, wanted = sources
    encoder = load_encoder("tiny", LoadOptions())
    path = tmp_path / "pixels.npy"
    half, other_done = threading.Event(), threading.Event()

    def slow(source: Source) -> Source:
        if source.uri == "3.png":
            half.set()
            other_done.wait(0.5)
        return source

    def first() -> Any:
        return preprocessed(encoder, map(slow, found), wanted, path, workers=1, advance=lambda _: None)

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(first)
        half.wait()
        counted: list[int] = []
        two = preprocessed(encoder, found, wanted, path, workers=1, advance=counted.append)
        other_done.set()
        np.testing.assert_array_equal(one.result(), two)
    assert not counted


def test_images_that_are_gone_changed_or_of_another_size_are_errors(
    tiny: EncoderSpec, sources: tuple[list[Source], dict[str, Wanted]], tmp_path: Path
) -> None:
    found, wanted = sources
    encoder = load_encoder("tiny", LoadOptions())
    path = tmp_path / "pixels.npy"

    def attempt(encoder: Encoder, found: list[Source], wanted: dict[str, Wanted]) -> None:
        preprocessed(encoder, found, wanted, path, workers=1, advance=lambda _: None)

    with pytest.raises(CounterstainError, match="2 images are no longer where they were"):
        attempt(encoder, found[2:], wanted)
    with pytest.raises(CounterstainError, match="has changed since"):
        attempt(encoder, found, wanted | {"1.png": Wanted("1.png", "other")})
    sizes = iter((8, 9, 8, 8, 8))
    uneven = replace(encoder, preprocess=lambda _: torch.zeros(3, next(sizes), 8))
    with pytest.raises(CounterstainError, match="one size"):
        attempt(uneven, found, wanted)
    assert not path.exists()


def test_a_full_disk_is_said_before_anything_is_written(
    tiny: EncoderSpec, sources: tuple[list[Source], dict[str, Wanted]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, wanted = sources
    monkeypatch.setattr("pipelines.finetuning.pixels.SPARE_BYTES", 2**62)
    with pytest.raises(CounterstainError, match="make room"):
        preprocessed(
            load_encoder("tiny", LoadOptions()), found, wanted, tmp_path / "p.npy", workers=1, advance=lambda _: None
        )
    assert not (tmp_path / "p.npy").exists()


# --- an encoder of its own


def tune(folder: Path, name: str, base: str = "tiny", **changes: Any) -> Trained:
    """Train an encoder for an epoch and publish what came of it."""
    encoder = load_encoder(base, LoadOptions(finetuned_dir=folder))
    recipe = Recipe("full", epochs=1, batch_size=8, learning_rate=0.05)
    trained = train(encoder.forward, DIMENSION, examples(), recipe, folder / ".work" / name, watcher=Quiet())
    facts: dict[str, Any] = {
        "name": name, "base": base, "base_fingerprint": encoder.fingerprint,
        "dataset": "mine", "exposed": ("mine", "breastus"), "mode": "full", "digest": "d", "classes": ("a", "b", "c"),
        "best_epoch": trained.best_epoch, "history": history_of(trained), "sha256": {},
    }  # fmt: skip
    publish(folder, Training(**facts | changes), trained)
    return trained


def test_a_fine_tuned_encoder_is_registered_and_gives_what_was_trained(tiny: EncoderSpec, tmp_path: Path) -> None:
    trained = tune(tmp_path, "tiny__mine_full")
    spec = available_specs(tmp_path)["tiny__mine_full"]
    assert spec.variant_of == "tiny"
    assert spec.exposure == {"breastus": "data set", "mine": "data set"}
    assert not spec.text_side
    assert "mine" in spec.pretrained_on
    options = LoadOptions(finetuned_dir=tmp_path)
    encoder = load_encoder("tiny__mine_full", options)
    batch = torch.from_numpy(examples().inputs)
    with torch.no_grad():
        logits = trained.model.head(torch.from_numpy(encoder.encode(batch))).numpy()
    np.testing.assert_allclose(logits, trained.logits, rtol=1e-4, atol=1e-5)
    assert encoder.fingerprint != load_encoder("tiny", options).fingerprint
    assert encoder.files == {MODEL_FILE: spec.sha256[MODEL_FILE]}
    assert "tiny__mine_full" not in available_specs(None)
    stored = json.loads((tmp_path / "tiny__mine_full" / RECORD_FILE).read_text())
    assert stored["best_epoch"] == 1


def test_a_fine_tuned_encoder_can_be_fine_tuned(tiny: EncoderSpec, tmp_path: Path) -> None:
    tune(tmp_path, "b_first")
    tune(tmp_path, "a_second", base="b_first", exposed=("other",))
    spec = available_specs(tmp_path)["a_second"]
    assert set(spec.exposure) == {"breastus", "mine", "other"}
    assert spec.variant_of == "b_first"
    load_encoder("a_second", LoadOptions(finetuned_dir=tmp_path))


def test_one_of_an_encoder_that_is_not_here_is_left_out(tiny: EncoderSpec, tmp_path: Path) -> None:
    tune(tmp_path, "tuned")
    record = tmp_path / "tuned" / RECORD_FILE
    record.write_text(record.read_text().replace('"tiny"', '"gone"'))
    assert "tuned" not in available_specs(tmp_path)


def test_a_linear_head_makes_no_encoder(tiny: EncoderSpec, tmp_path: Path) -> None:
    tune(tmp_path, "head", mode="linear")
    assert "head" not in available_specs(tmp_path)
    assert not (tmp_path / "head" / MODEL_FILE).exists()


def test_weights_that_are_not_those_recorded_are_refused(tiny: EncoderSpec, tmp_path: Path) -> None:
    tune(tmp_path, "tuned")
    options = LoadOptions(finetuned_dir=tmp_path)
    path = tmp_path / "tuned" / MODEL_FILE
    weights = load_file(path)
    save_file({name: weight + 1 for name, weight in weights.items()}, path)
    with pytest.raises(CounterstainError, match="is not the published file"):
        load_encoder("tuned", options)
    # A record that vouches for weights of another architecture does not make them fit.
    save_file({"other": torch.zeros(1)}, path)
    record = tmp_path / "tuned" / RECORD_FILE
    stored = json.loads(record.read_text())
    stored["sha256"][MODEL_FILE] = hashlib.sha256(path.read_bytes()).hexdigest()
    record.write_text(json.dumps(stored))
    with pytest.raises(CounterstainError, match="cannot load"):
        load_encoder("tuned", options)


def test_another_base_is_refused(tiny: EncoderSpec, tmp_path: Path) -> None:
    tune(tmp_path, "tuned", base_fingerprint="another")
    with pytest.raises(CounterstainError, match="other weights of tiny"):
        load_encoder("tuned", LoadOptions(finetuned_dir=tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "tuned"}', "null"])
def test_a_record_that_cannot_be_read_says_what_to_do(tiny: EncoderSpec, tmp_path: Path, text: str) -> None:
    tune(tmp_path, "tuned")
    (tmp_path / "tuned" / RECORD_FILE).write_text(text)
    with pytest.raises(CounterstainError, match=r"cannot be read.*train again"):
        available_specs(tmp_path)


def test_logits_come_back_as_they_were_or_not_at_all(tiny: EncoderSpec, tmp_path: Path) -> None:
    trained = tune(tmp_path, "tuned")
    stored = json.loads((tmp_path / "tuned" / RECORD_FILE).read_text())
    record = Training(**stored)
    np.testing.assert_array_equal(read_logits(tmp_path, record), trained.logits)
    (tmp_path / "tuned" / "logits.safetensors").write_bytes(b"")
    with pytest.raises(CounterstainError, match="train again"):
        read_logits(tmp_path, record)


def test_a_training_of_the_same_name_replaces_the_first(tiny: EncoderSpec, tmp_path: Path) -> None:
    tune(tmp_path, "tuned")
    first = available_specs(tmp_path)["tuned"].revision
    tune(tmp_path, "tuned", base="tiny", digest="other")
    assert available_specs(tmp_path)["tuned"].revision == first  # of the same weights
    assert json.loads((tmp_path / "tuned" / RECORD_FILE).read_text())["digest"] == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".work", "tuned"]
