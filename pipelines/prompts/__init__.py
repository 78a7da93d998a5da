"""Prompt sets: sentences with a place for a class, one TOML file per set here and in a folder of the user's.

A file, whose name is the set's::

    templates = ["an image of {}", "{} presented in image"]
    negative_templates = ["an image without {}"]  # optional: what says that the class is not there
    only_for = ["iuxray"]                         # optional: data sets or readers; else any

    [names]                                       # optional: what a label is called; else itself, "_" read as a blank
    no_finding = ["no finding", "a normal chest"]

    [negatives]                                   # optional: the whole text, where templates would read badly
    no_finding = ["an abnormal chest"]
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.schema import CounterstainError

PLACE = "{}"


@dataclass(frozen=True)
class PromptSet:
    """A prompt set as its file says it; `version` is a digest of what it says."""

    name: str
    version: str
    templates: tuple[str, ...]
    negative_templates: tuple[str, ...] = ()
    only_for: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    negatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def is_for(self, dataset: str, reader: str) -> bool:
        """Whether the set is for a data set, by its name or that of its reader."""
        return not self.only_for or bool({dataset, reader} & set(self.only_for))

    def prompts(self, labels: Sequence[str]) -> "Iterator[Prompt]":
        """Yield every prompt of every label."""
        for label in labels:
            names = self.names.get(label, (label.replace("_", " "),))
            for template in self.templates:
                for name in names:
                    yield Prompt(label, False, template, template.replace(PLACE, name))
            if label in self.negatives:
                for text in self.negatives[label]:
                    yield Prompt(label, True, text, text)
                continue
            for template in self.negative_templates:
                for name in names:
                    yield Prompt(label, True, template, template.replace(PLACE, name))


@dataclass(frozen=True)
class Prompt:
    """One prompt: what it says of which label, and the template it was made from."""

    label: str
    negative: bool
    template: str
    text: str


def prompt_sets(folder: Path | None = None) -> dict[str, PromptSet]:
    """Return the prompt sets that come with the package, and those of a user's folder, by name.

    Raises
    ------
    CounterstainError
        If the folder does not exist, a file is not as described above, or takes a name that is taken.
    """
    if folder is not None and not folder.is_dir():
        raise CounterstainError(f"COUNTERSTAIN_PROMPT_DIR={folder} is not a folder.")
    sets: dict[str, PromptSet] = {}
    for place in filter(None, (Path(__file__).parent, folder)):
        for path in sorted(place.glob("*.toml")):
            if path.stem in sets:
                raise CounterstainError(f"{path}: there is a prompt set {path.stem!r} already: give it another name.")
            sets[path.stem] = _read(path)
    return sets


def _read(path: Path) -> PromptSet:
    try:
        said: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # not UTF-8, or not TOML
        raise CounterstainError(f"cannot read the prompt set {path}: {error}") from error
    kinds = {"templates": list, "negative_templates": list, "only_for": list, "names": dict, "negatives": dict}
    if unknown := sorted(set(said) - set(kinds)):
        raise CounterstainError(f"{path}: unknown {unknown[0]!r}; a prompt set has {', '.join(kinds)}.")
    lists = {name: said.get(name, []) for name, kind in kinds.items() if kind is list}
    tables = {name: said.get(name, {}) for name, kind in kinds.items() if kind is dict}
    if not all(isinstance(table, dict) for table in tables.values()):
        raise CounterstainError(f"{path}: names and negatives are tables of label = [texts].")
    every = [*lists.items(), *((f"{name}.{label}", texts) for name, t in tables.items() for label, texts in t.items())]
    for name, texts in every:
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise CounterstainError(f"{path}: {name} must be a list of texts that are not empty.")
    if not lists["templates"]:
        raise CounterstainError(f'{path}: a prompt set needs templates, such as ["an image of {PLACE}"].')
    for template in (*lists["templates"], *lists["negative_templates"]):
        if template.count(PLACE) != 1:
            raise CounterstainError(f"{path}: the template {template!r} must have one place {PLACE} for the class.")
    version = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
    plain = {name: {label: tuple(texts) for label, texts in table.items()} for name, table in tables.items()}
    templates, negative_templates, only_for = (tuple(texts) for texts in lists.values())
    return PromptSet(path.stem, version, templates, negative_templates, only_for, plain["names"], plain["negatives"])
