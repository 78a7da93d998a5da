"""``texts``: what is said of a data set's images, and the prompts that ask for its classes."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from analysis.metadata import attribute_columns
from assets import display
from assets.features import user_errors
from assets.registry import get_dataset
from assets.step import Cell, Check, Made, Step
from pipelines.prompts import PromptSet, prompt_sets
from store.runs import data_version
from store.schema import ALL_LABELS, LABEL_PREFIX, LABEL_SEPARATOR, TEXT_PREFIX, TEXTS
from store.texts import write_texts

# The kind of those texts that are no image's own.
PROMPT = "prompt"
_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "text_id": pl.String, "kind": pl.String, "text": pl.String, "image_ids": pl.List(pl.String),
    "prompt_set": pl.String, "prompt_version": pl.String, "label": pl.String, "negative": pl.Boolean,
    "template": pl.String,
}  # fmt: skip


def sets_for(cell: Cell) -> dict[str, PromptSet]:
    """Return the prompt sets that a data set is asked with, by name."""
    reader = get_dataset(cell.warehouse, cell.dataset).reader
    folder = Path(cell.project.prompt_dir).expanduser() if cell.project.prompt_dir else None
    return {name: each for name, each in prompt_sets(folder).items() if each.is_for(cell.dataset, reader)}


def _inputs(cell: Cell) -> dict[str, str]:
    said = ["caption", "label", "attributes"]
    versions = {f"prompts {name}": each.version for name, each in sets_for(cell).items()}
    return {"images": data_version(cell.warehouse, "images", columns=said, dataset=cell.dataset), **versions}


def _make(cell: Cell) -> Made:
    columns = ["image_id", "caption", "label", "attributes"]
    stored = cell.warehouse.frame("images").filter(pl.col("dataset") == cell.dataset)
    images = stored.select(columns).sort("image_id").collect()
    labels = labels_of(images, sets=label_is_a_set(cell))
    with user_errors(cell):
        rows = [*_of_images(images), *_prompts(sets_for(cell).values(), labels)]
    texts = pl.DataFrame(rows, schema=_COLUMNS, orient="row")
    write_texts(cell.warehouse, cell.dataset, texts)
    kinds = texts.group_by("kind").agg(
        pl.len().alias("texts"),
        pl.col("image_ids").explode().n_unique().alias("images"),
        pl.col("text").str.len_chars().median().alias("median characters"),
    )
    described = texts.filter(pl.col("kind") != PROMPT)
    shown = texts.filter(pl.col("kind") == PROMPT).select("prompt_set", "label", "negative", "text")
    with_text = described["image_ids"].explode().n_unique() if described.height else 0
    return Made(
        rows=texts.height,
        data_version=data_version(cell.warehouse, TEXTS.name, dataset=cell.dataset),
        tables=(TEXTS.name,),
        summary={"prompts": shown.height, "images with a text": with_text},
        metadata={"kinds": display.table(kinds.sort("kind")), "prompt texts": display.table(shown)},
        checks={"prompts_differ": _distinct(shown)},
    )


def label_is_a_set(cell: Cell) -> bool:
    """Whether the column chosen as label is the one that has all labels of an image; readers name it with no prefix."""
    return get_dataset(cell.warehouse, cell.dataset).label in (ALL_LABELS, ALL_LABELS.removeprefix(LABEL_PREFIX))


def labels_of(images: pl.DataFrame, *, sets: bool) -> list[str]:
    """Return every label that images have, be it the one or one of several, sorted; `sets`: the one is several."""
    one = images["label"].drop_nulls().to_list()
    several = [*attribute_columns(images).get(ALL_LABELS, []), *(one if sets else [])]
    named = set() if sets else set(one)
    for text in several:
        named |= {part.strip() for part in (text or "").split(LABEL_SEPARATOR)} - {""}
    return sorted(named)


def _of_images(images: pl.DataFrame) -> Iterator[tuple[object, ...]]:
    """Yield the captions, and the further texts that are attributes, each once with all images it is on."""
    attributes = attribute_columns(images)
    columns = {"caption": images["caption"].to_list()}
    columns |= {name.removeprefix(TEXT_PREFIX): v for name, v in attributes.items() if name.startswith(TEXT_PREFIX)}
    on: dict[tuple[str, str], list[str]] = {}
    for name, values in columns.items():
        kind = re.sub(r"[_ ]?\d+$", "", name) or name
        if kind == PROMPT:
            raise ValueError(f"texts of images cannot be called {kind!r}: rename the column {TEXT_PREFIX}{name}")
        for image_id, value in zip(images["image_id"], values, strict=True):
            if value and (text := " ".join(value.split())):
                on.setdefault((kind, text), []).append(image_id)
    for (kind, text), image_ids in sorted(on.items()):
        yield _id(kind, text), kind, text, sorted(set(image_ids)), None, None, None, None, None


def _prompts(sets: Iterable[PromptSet], labels: list[str]) -> Iterator[tuple[object, ...]]:
    for each in sets:
        for said in dict.fromkeys(each.prompts(labels)):
            name = _id(PROMPT, each.name, said.label, said.negative, said.template, said.text)
            yield name, PROMPT, said.text, [], each.name, each.version, said.label, said.negative, said.template


def _id(kind: str, *parts: object) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]}"


def _distinct(prompts: pl.DataFrame) -> Check:
    """Two classes that are asked for in the same words cannot be told apart."""
    positive = prompts.filter(~pl.col("negative"))
    same = positive.group_by("prompt_set", "text").agg(pl.col("label").unique()).filter(pl.col("label").list.len() > 1)
    named = "; ".join(f"{row[0]}: {row[1]!r} asks for {', '.join(sorted(row[2]))}" for row in same.head(3).iter_rows())
    return Check(same.is_empty(), named or f"{positive.height} prompts, each for one class")


STEP = Step(
    name="texts",
    description="Prompts for every class of a data set, of each prompt set, and the captions and reports that its "
    "images come with.",
    group="data",
    kinds=frozenset({"python", "lancedb"}),
    scope="dataset",
    upstream=("images",),
    code_version="2",
    inputs=_inputs,
    parameters=lambda _: {},
    make=_make,
    checks={"prompts_differ": "No two classes are asked for in the same words."},
)
