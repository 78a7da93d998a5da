"""What all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> None:
    """No test may ask a model hub."""
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_secret(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test may make or use the secret of whoever runs it."""
    os.environ["COUNTERSTAIN_PSEUDONYM_KEY"] = str(tmp_path_factory.mktemp("secret") / "pseudonyms.key")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real image sets; the test is skipped where it is absent."""
    folder = os.environ.get("COUNTERSTAIN_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no real image sets: set COUNTERSTAIN_REAL_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def trained_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small CLIP on phantoms, once (about a minute), and return the folder that holds ``phantom_clip/``."""
    from tests.trained_clip import NAME, train

    folder = tmp_path_factory.mktemp("checkpoints")
    train(folder / NAME)
    return folder


@pytest.fixture
def phantom_clip(
    trained_clip: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Register the small CLIP as an installed distribution would, and return the folder of its checkpoint's folder."""
    from pipelines.encoders import encoder_specs
    from tests.trained_clip import lay_down_entry_point

    site = tmp_path_factory.mktemp("site")
    lay_down_entry_point(site)
    monkeypatch.syspath_prepend(site)
    encoder_specs.cache_clear()
    yield trained_clip
    encoder_specs.cache_clear()
