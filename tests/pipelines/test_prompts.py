"""Prompt sets: those that come along, and a user's own."""

from pathlib import Path

import pytest

from pipelines.prompts import prompt_sets
from store.schema import CounterstainError


def test_the_sets_that_come_along_ask_for_each_class_in_words() -> None:
    sets = prompt_sets()
    assert {"bare", "medical", "chest_radiograph"} <= set(sets)
    bare = [(p.text, p.negative) for p in sets["bare"].prompts(["left_lung", "normal"])]
    assert bare == [("left lung", False), ("no left lung", True), ("normal", False), ("abnormal", True)]
    assert len(list(sets["medical"].prompts(["benign"]))) == 6
    assert sets["bare"].is_for("any", "folder")
    chest = sets["chest_radiograph"]
    assert chest.is_for("any", "iuxray")
    assert not chest.is_for("any", "folder")
    assert "a chest radiograph with an abnormal finding" in {p.text for p in chest.prompts(["some"])}


def test_a_users_own_set_has_names_and_a_version(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('templates = ["slide of {}", "{} tissue"]\n[names]\nm = ["cancer", "a tumour"]\n')
    mine = prompt_sets(tmp_path)["mine"]
    assert [p.text for p in mine.prompts(["m", "b"])] == [
        "slide of cancer", "slide of a tumour", "cancer tissue", "a tumour tissue", "slide of b", "b tissue",
    ]  # fmt: skip
    assert [p.template for p in mine.prompts(["b"])] == ["slide of {}", "{} tissue"]
    before = mine.version
    file.write_text("# said otherwise, and the same\n" + file.read_text())
    assert prompt_sets(tmp_path)["mine"].version == before
    file.write_text('templates = ["slide of {}"]\n')
    assert prompt_sets(tmp_path)["mine"].version != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("templates = ['a photo']", "must have one place {} for the class"),
        ("templates = ['{} and {}']", "must have one place"),
        ("templates = []", "needs templates"),
        ("template = ['{}']", "unknown 'template'"),
        ("templates = 'a {}'", "templates must be a list of texts"),
        ("templates = ['{}']\nnames = ['x']", "names and negatives are tables"),
        ("templates = ['{}']\n[names]\nm = 'x'", "names.m must be a list of texts"),
        ("templates = ['{}']\n[names]\nm = ['']", "names.m must be a list of texts that are not empty"),
        ("templates = ", "cannot read the prompt set"),
        (b"\xff", "cannot read the prompt set"),
    ],
)
def test_what_is_no_prompt_set_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CounterstainError, match=r"mine\.toml") as raised:
        prompt_sets(tmp_path)
    assert message in str(raised.value)


def test_a_name_that_is_taken_and_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.toml").write_text('templates = ["{}"]')
    with pytest.raises(CounterstainError, match="there is a prompt set 'bare' already"):
        prompt_sets(tmp_path)
    with pytest.raises(CounterstainError, match=r"COUNTERSTAIN_PROMPT_DIR=.* is not a folder"):
        prompt_sets(tmp_path / "absent")
