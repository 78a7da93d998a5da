"""What all tests share."""

import os
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
