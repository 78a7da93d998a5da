"""A project on which the main job was run once, and a fresh one."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from assets import materializing
from assets.demo import draw_phantoms
from assets.project import Project
from assets.registry import add_dataset
from pipelines.overlays import detect
from pipelines.overlays.item import Item, Pixels
from pipelines.overlays.terms import Terms
from pipelines.sources import DataSet

ENCODER = "efficientnet_lite0"
IMAGES = 96


@dataclass(frozen=True)
class Ran:
    """A project, and what the main job made in it."""

    project: Project
    made: list[tuple[str, str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the test that happens to run the main job first the time for it, on a busy machine too."""
    for item in items:
        if "ran" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def _own_dagster_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each project keeps its Dagster instance in its own warehouse."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("COUNTERSTAIN_WAREHOUSE", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _searched_once() -> Iterator[None]:
    """Look for overlays on each picture once, however many warehouses it is read into: a quarter of a second each."""
    found: dict[tuple[bytes, tuple[int, ...], str], list[Item]] = {}
    search = detect.find_items

    def remembered(pixels: Pixels, terms: Terms) -> list[Item]:
        key = (hashlib.sha256(pixels.tobytes()).digest(), pixels.shape, terms.version)
        if key not in found:
            found[key] = search(pixels, terms)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "find_items", remembered)
        yield


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ultrasound phantoms whose words and callipers go with the label."""
    folder = tmp_path_factory.mktemp("phantoms")
    draw_phantoms(folder, "ultrasound", IMAGES, 1.0, 0.9, seed=1)
    return folder


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, phantom_folder: Path) -> Ran:
    """Run the main job: phantoms through the pretrained encoder, every asset."""
    project = Project(warehouse=str(tmp_path_factory.mktemp("ran") / "warehouse"))
    add_dataset(project.open(), DataSet("phantoms", "manifest", phantom_folder))
    with materializing.dagster_instance(project) as instance:
        made = materializing.materialize(project, instance, ["phantoms"], [ENCODER])
    return Ran(project, made)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(warehouse=str(tmp_path / "warehouse"))


@pytest.fixture
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of the empty project."""
    with materializing.dagster_instance(project) as instance:
        yield instance
