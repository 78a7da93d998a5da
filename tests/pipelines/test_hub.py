"""Where checkpoints come from: a folder, or the hub, which is asked for as little as will do."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from pipelines.encoder import EncoderSpec, LoadOptions
from pipelines.encoders import encoder_specs, load_encoder
from pipelines.hub import open_checkpoint
from pipelines.weights import read_weights
from store.schema import CounterstainError

CLIP = encoder_specs()["clip_vit_b16"]
PINNED = replace(CLIP, revision="0" * 40, sha256={})
NOT_THERE: Any = errors.RemoteEntryNotFoundError(
    "404", response=type("Response", (), {"headers": {}, "request": None, "status_code": 404})()
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str, str]]]:
    """Have the hub hand out the files of a folder, and return what it is asked for; some may be cached before."""

    def make(folder: Path, cached: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
        asked: list[tuple[str, str, str]] = []

        def download(repository: str, name: str, revision: str) -> str:
            asked.append((repository, name, revision))
            if not (folder / name).exists():
                raise NOT_THERE
            return str(folder / name)

        def look(repository: str, name: str, revision: str) -> str | None:
            return str(folder / name) if name in cached else None

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", look)
        return asked

    return make


def test_the_hub_is_asked_for_the_pinned_revision_and_for_no_file_more(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("")
    asked = hub(tmp_path)
    assert open_checkpoint(PINNED, LoadOptions()).find("a", "b", "c") == tmp_path / "b"
    assert asked == [(PINNED.checkpoint, "a", "0" * 40), (PINNED.checkpoint, "b", "0" * 40)]
    assert open_checkpoint(PINNED, LoadOptions()).find("d") is None


def test_what_was_downloaded_before_is_not_asked_for_again_unless_the_revision_may_have_moved(
    hub: Any, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("")
    asked = hub(tmp_path, cached=("b",))
    assert open_checkpoint(PINNED, LoadOptions()).find("a", "b") == tmp_path / "b"
    assert asked == []
    moving = replace(PINNED, revision=None)
    assert open_checkpoint(moving, LoadOptions()).find("a", "b") == tmp_path / "a"
    assert asked == [(PINNED.checkpoint, "a", None)]


def test_a_folder_goes_before_the_hub(hub: Any, tmp_path: Path) -> None:
    asked = hub(tmp_path)
    (tmp_path / PINNED.name).mkdir()
    (tmp_path / PINNED.name / "a").write_text("")
    checkpoint = open_checkpoint(PINNED, LoadOptions(tmp_path))
    assert checkpoint.find("b", "a") == tmp_path / PINNED.name / "a"
    assert checkpoint.find("b") is None
    assert asked == []


def test_a_pooled_feature_is_of_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / CLIP.name).mkdir()
    pooled = encoder_specs()["clip_vit_b16_pooled"]
    assert open_checkpoint(pooled, LoadOptions(tmp_path)).folder == tmp_path / CLIP.name


@pytest.mark.parametrize("refusal", ["proxy", "gated", "disk", "absent"])
def test_whatever_the_hub_answers_is_told_as_one_kind_of_error(refusal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    http: Any = errors.HTTPError  # type: ignore[attr-defined]
    response: Any = type("Response", (), {"headers": {}, "request": None, "status_code": 403})()
    fault = {
        "proxy": http("407 Proxy Authentication Required"),
        "gated": errors.GatedRepoError("accept the terms", response=response),
        "disk": OSError(28, "No space left on device"),
        "absent": errors.LocalEntryNotFoundError("not cached"),
    }[refusal]

    def answer(*_: object, **__: object) -> str:
        raise fault

    monkeypatch.setattr("huggingface_hub.hf_hub_download", answer)
    with pytest.raises(CounterstainError, match=type(fault).__name__) as error:
        load_encoder(CLIP.name, LoadOptions())
    assert "COUNTERSTAIN_CHECKPOINT_DIR" in str(error.value)
    assert error.value.__cause__ is fault


@pytest.mark.parametrize(
    "name", sorted(name for name, spec in encoder_specs().items() if spec.checkpoint and "lite" not in name)
)
def test_without_files_and_network_every_encoder_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    # Whoever imported the library first decided this for all tests.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))

    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    spec = encoder_specs()[name]
    folder = f"{tmp_path}/{spec.variant_of or name}/ and set COUNTERSTAIN_CHECKPOINT_DIR={tmp_path}."
    with pytest.raises(CounterstainError) as refusal:
        load_encoder(name, LoadOptions(tmp_path))
    assert folder in str(refusal.value)
    assert ("HF_TOKEN" in str(refusal.value)) == spec.gated
    if spec.gated:
        assert f"accept its terms on https://huggingface.co/{spec.checkpoint} " in str(refusal.value)


def test_only_the_shards_that_hold_the_tower_are_asked_for(hub: Any, tmp_path: Path) -> None:
    save_file({"tower.a": torch.ones(2), "lm.x": torch.zeros(1)}, tmp_path / "2.safetensors")
    save_file({"tower.b": torch.ones(3)}, tmp_path / "3.safetensors")
    places = {"lm.y": "1.safetensors", "lm.x": "2.safetensors", "tower.a": "2.safetensors", "tower.b": "3.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    asked = hub(tmp_path)
    weights = read_weights(open_checkpoint(PINNED, LoadOptions()), parts=("tower.",))
    assert set(weights.tensors) == {"tower.a", "tower.b"}
    assert set(weights.files) == {"2.safetensors", "3.safetensors"}
    assert [name for _, name, _ in asked] == [
        "model.safetensors", "model.safetensors.index.json", "2.safetensors", "3.safetensors",
    ]  # fmt: skip


def _folder(tmp_path: Path, spec: EncoderSpec = PINNED) -> Path:
    folder = tmp_path / spec.name
    folder.mkdir()
    return folder


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "sub/one.safetensors", ".."])
def test_a_shard_outside_of_the_folder_is_refused(tmp_path: Path, shard: str) -> None:
    folder = _folder(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CounterstainError, match="names a shard outside of its folder"):
        read_weights(open_checkpoint(PINNED, LoadOptions(tmp_path)))


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    places = {"weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (_folder(tmp_path) / "model.safetensors.index.json").write_text(json.dumps(places))
    with pytest.raises(CounterstainError, match=r"it needs model-00002-of-00002\.safetensors"):
        read_weights(open_checkpoint(PINNED, LoadOptions(tmp_path)))


def test_another_file_than_the_published_one_is_refused(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "model.safetensors"
    save_file({"a": torch.ones(2)}, file)
    digest = read_weights(open_checkpoint(PINNED, LoadOptions(tmp_path))).files["model.safetensors"]
    declared = replace(PINNED, sha256={"model.safetensors": digest})
    assert read_weights(open_checkpoint(declared, LoadOptions(tmp_path))).tensors["a"].tolist() == [1, 1]
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(CounterstainError, match=rf"is not the published file: its SHA-256 is [0-9a-f]+, not {digest}"):
        read_weights(open_checkpoint(declared, LoadOptions(tmp_path)))


def test_a_file_of_another_name_does_not_pass_for_the_published_one(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, _folder(tmp_path) / "model.safetensors")
    declared = replace(PINNED, sha256={"pytorch_model.bin": "0" * 64})
    with pytest.raises(
        CounterstainError, match=r"not that of any file it is published in. Download pytorch_model\.bin"
    ):
        read_weights(open_checkpoint(declared, LoadOptions(tmp_path)))


def test_weights_of_parts_that_nobody_named_are_refused(tmp_path: Path) -> None:
    names = ("visual.a", "text.b", "logit_scale")
    save_file({name: torch.ones(1) for name in names}, _folder(tmp_path) / "model.safetensors")
    checkpoint = open_checkpoint(PINNED, LoadOptions(tmp_path))
    assert set(read_weights(checkpoint, parts=("visual.",)).tensors) == {"visual.a"}
    assert set(read_weights(checkpoint, parts=("visual.",), others=("text.", "logit_scale")).tensors) == {"visual.a"}
    with pytest.raises(CounterstainError, match="holds unexpected weights: logit_scale"):
        read_weights(checkpoint, parts=("visual.",), others=("text.",))
    with pytest.raises(CounterstainError, match=r"holds no weight that begins with 'vision\.'"):
        read_weights(checkpoint, parts=("vision.",))
