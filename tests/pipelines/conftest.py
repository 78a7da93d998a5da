"""Small images, and the certainty that no test asks the network."""

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

# Read once, when the hub's client is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def pixels() -> Callable[..., Any]:
    """Return smooth random pixels, ``(h, w, 3)`` uint8, another picture for each seed."""

    def make(seed: int = 0, width: int = 40, height: int = 30) -> Any:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    return make


@pytest.fixture
def encoded(pixels: Callable[..., Any]) -> Callable[..., bytes]:
    """Return an image file's bytes; without an image, of random pixels."""

    def make(image: Image.Image | int = 0, kind: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        (Image.fromarray(pixels(image)) if isinstance(image, int) else image).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


@pytest.fixture
def image_folder(tmp_path: Path, encoded: Callable[..., bytes]) -> Callable[..., Path]:
    """Write ``root/<class>/<number>.png``, `per_class` images in each of `classes`, all different."""

    def make(classes: tuple[str, ...] = ("benign", "malignant"), per_class: int = 4) -> Path:
        root = tmp_path / "images"
        for i, label in enumerate(classes):
            (root / label).mkdir(parents=True)
            for j in range(per_class):
                (root / label / f"{j}.png").write_bytes(encoded(100 * i + j))
        return root

    return make
