import shutil
from pathlib import Path

import numpy as np
import pytest

from assets import kept_layouts as module
from assets.kept_layouts import KeptLayouts
from assets.project import Project
from assets.step import Cell

SHAPE = (2, 5, 2)
ROW = np.arange(20, dtype=np.float32).reshape(SHAPE)


def kept_of(project: Project, *, vectors: str = "a", dataset: str = "mine") -> KeptLayouts:
    return KeptLayouts(Cell(project, project.open(), dataset, "vit"), {"vectors": vectors}, SHAPE)


def files(project: Project) -> list[Path]:
    return sorted(path for path in (project.open().cache_dir / "layouts").rglob("*") if path.is_file())


def test_what_is_kept_is_found_again(project: Project) -> None:
    kept_of(project).add(15, ROW)
    [(size, row)] = kept_of(project).read().items()
    assert size == 15
    np.testing.assert_array_equal(row, ROW)


@pytest.mark.parametrize("damage", ["empty", "torn", "text", "shape", "dtype", "nan"])
def test_a_damaged_file_is_made_again(project: Project, damage: str) -> None:
    kept = kept_of(project)
    kept.add(15, ROW)
    kept.add(50, ROW)
    path = next(path for path in files(project) if path.stem == "15")
    whole = path.read_bytes()
    arrays = {"shape": ROW[:, 1:], "dtype": ROW.astype(np.float64), "nan": np.full_like(ROW, np.nan)}
    if damage in arrays:
        np.save(path, arrays[damage])
    else:
        path.write_bytes({"empty": b"", "torn": whole[:-7], "text": b"no array"}[damage])
    assert list(kept.read()) == [50]
    kept.add(15, ROW)
    assert list(kept.read()) == [15, 50]


def test_what_other_vectors_gave_goes(project: Project) -> None:
    kept_of(project, vectors="old").add(15, ROW)
    kept_of(project, dataset="other").add(15, ROW)
    new = kept_of(project, vectors="new")
    assert new.read() == {}
    new.add(50, ROW)
    assert [path.stem for path in files(project)] == ["50", "15"]
    assert list(kept_of(project, dataset="other").read()) == [15]


def test_a_row_is_on_disk_before_it_counts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(module.os, "fsync", lambda _: seen.append([path.suffix for path in files(project)]))
    kept_of(project).add(15, ROW)
    assert seen == [[".part"]]


def test_adding_outlives_another_runs_end(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, other, save = kept_of(project), kept_of(project), np.save
    dropped: list[bool] = []

    def drops_first(*arguments: object, **options: bool) -> None:
        save(*arguments, **options)  # type: ignore[call-overload]
        if not dropped:
            dropped.append(True)
            other.drop()

    monkeypatch.setattr(module.np, "save", drops_first)
    kept.add(15, ROW)
    assert list(kept.read()) == [15]


def test_dropping_spares_what_is_added_meanwhile(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, other, remove = kept_of(project), kept_of(project), shutil.rmtree
    kept.add(15, ROW)

    def adds_first(*arguments: object, **options: bool) -> None:
        other.add(50, ROW)
        remove(*arguments, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", adds_first)
        kept.drop()
    assert list(other.read()) == [50]
    other.drop()
    other.drop()
    assert files(project) == []
