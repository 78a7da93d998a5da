import pytest

from store import open_warehouse


@pytest.fixture
def warehouse(tmp_path):
    return open_warehouse(tmp_path / "warehouse")
