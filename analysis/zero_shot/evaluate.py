"""Zero-shot answers of one data set under one encoder: every prompt set, every rule, scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analysis.arrays import Categories, encode
from analysis.zero_shot.logits import class_means, cosine_logits, ensemble, published_logits, softmax
from analysis.zero_shot.multi_label import best_thresholds, cross_thresholds, score_multi
from analysis.zero_shot.single_label import score_single
from analysis.zero_shot.table import NO_INTERVAL, SCHEMA, Number, as_frame
from store.schema import LABEL_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from analysis.arrays import BoolArray, Categorical, FloatArray, IntArray
    from analysis.zero_shot.reliability import Bin

PREDICTIONS_SCHEMA = {
    "row": pl.Int64, "prompt_set": pl.String, "rule": pl.String, "truth": pl.String, "predicted": pl.String,
    "probability": pl.Float64, "correct": pl.Boolean,
}  # fmt: skip
RELIABILITY_SCHEMA = {
    "prompt_set": pl.String, "rule": pl.String, "bin_low": pl.Float64, "bin_high": pl.Float64, "n": pl.Int64,
    "confidence": pl.Float64, "accuracy": pl.Float64,
}  # fmt: skip
# Values of ``images.split`` by which a data set says what is its validation and its test part.
VALIDATION = ("val", "valid", "validation")
TEST = ("test",)


@dataclass(frozen=True)
class Prompts:
    """The prompts of one set.

    Attributes
    ----------
    vectors
        ``(m, d)``, unnormalised.
    labels
        ``(m,)`` what each is for.
    negative
        ``(m,)`` whether it says that the label is not there.
    scale, bias
        A model's logit is `scale` times a cosine, plus `bias`.
    """

    vectors: FloatArray
    labels: Sequence[str]
    negative: BoolArray
    scale: float
    bias: float

    def of(self, names: tuple[str, ...], *, negative: bool) -> tuple[FloatArray, IntArray] | None:
        """Return vectors and class codes of the prompts of one kind; None where a class has none."""
        code = {name: i for i, name in enumerate(names)}
        rows = [i for i, label in enumerate(self.labels) if label in code and self.negative[i] == negative]
        codes = np.array([code[self.labels[i]] for i in rows], np.int64)
        return (self.vectors[rows], codes) if len(set(codes.tolist())) == len(names) else None


@dataclass(frozen=True)
class Images:
    """The images of a data set under one encoder: vectors ``(n, d)``, unnormalised, and what is known, aligned."""

    vectors: FloatArray
    labels: Categorical
    label_sets: Sequence[str | None] | None
    splits: Sequence[str | None]
    groups: IntArray
    backgrounds: Mapping[str, Categorical]


@dataclass(frozen=True)
class ZeroShot:
    """Scores, predictions (`row` counts the images) and reliability diagrams, in the columns of their schemas."""

    scores: pl.DataFrame
    predictions: pl.DataFrame
    reliability: pl.DataFrame


def evaluate(images: Images, sets: Mapping[str, Prompts], *, seed: int) -> ZeroShot:
    """Answer and score every prompt set by every rule.

    With one label for each image: ``highest cosine``, of the mean of a class's prompts. With label sets:

    ``inner product > 0``
        as published, of vectors as they are;
    ``logit > 0``
        cosine × logit scale + bias, as in training;
    ``positive against negative``
        the logit of the prompts that say a label is there less that of those that say it is not;
    … ``, threshold``
        the latter two with a threshold for each label, chosen on the data set's validation part and scored on the
        other groups, or where that cannot be chosen on four fifths of the groups and applied to the last, in turn.

    Returns
    -------
    ZeroShot
        A set that lacks a prompt for a label is undefined, and says so. Split ``all`` is every image whose label is
        known, but for those that thresholds were chosen on; ``test`` those that the data set calls so.
    """
    parts: list[ZeroShot] = []
    for name, prompts in sets.items():
        parts.append(_single(name, prompts, images, seed))
        if images.label_sets is not None:
            parts += _multi(name, prompts, images, images.label_sets, seed)
    frames = [[getattr(part, field) for part in parts] for field in ("scores", "predictions", "reliability")]
    schemas = (SCHEMA, PREDICTIONS_SCHEMA, RELIABILITY_SCHEMA)
    return ZeroShot(
        *(pl.concat(frame) if frame else pl.DataFrame(schema=s) for frame, s in zip(frames, schemas, strict=True))
    )


def undefined(reason: str, *, seed: int, prompt_set: str | None = None, rule: str | None = None) -> ZeroShot:
    """Report that there is no answer, and why."""
    numbers = [Number("all", None, "accuracy", None, NO_INTERVAL, 0, f"undefined: {reason}")]
    scores = as_frame(numbers, prompt_set=prompt_set, rule=rule, split="all", seed=seed)
    return ZeroShot(scores, pl.DataFrame(schema=PREDICTIONS_SCHEMA), pl.DataFrame(schema=RELIABILITY_SCHEMA))


def _single(name: str, prompts: Prompts, images: Images, seed: int) -> ZeroShot:
    rule = "highest cosine"
    labels = encode(images.labels, what="labels")
    if len(labels.names) < 2:
        return undefined("fewer than two classes are known", seed=seed, prompt_set=name, rule=rule)
    positive = prompts.of(labels.names, negative=False)
    if positive is None:
        return undefined("not every class has a prompt", seed=seed, prompt_set=name, rule=rule)
    classes = ensemble(*positive, len(labels.names))
    logits = cosine_logits(images.vectors, classes, prompts.scale, prompts.bias)
    known = labels.known
    note = f"prompts for a class: {len(positive[1]) / len(labels.names):g}"
    scores: list[pl.DataFrame] = []
    bins: list[Bin] = []
    for split, member in _splits(images, known):
        numbers, found = score_single(
            logits[member], Categories(labels.codes[member], labels.names), images.groups[member],
            _backgrounds(images, member), seed=seed,
        )  # fmt: skip
        scores.append(as_frame(numbers, prompt_set=name, rule=rule, split=split, seed=seed, note=note))
        bins = bins or found
    rows = np.flatnonzero(known)
    predicted, probabilities = logits[rows].argmax(axis=1), softmax(logits[rows])
    classes_ = pl.Series(labels.names, dtype=pl.String)
    predictions = pl.DataFrame(
        {
            "row": rows,
            "prompt_set": [name] * len(rows),
            "rule": [rule] * len(rows),
            "truth": classes_.gather(labels.codes[rows]),
            "predicted": classes_.gather(predicted),
            "probability": probabilities[np.arange(len(rows)), predicted],
            "correct": predicted == labels.codes[rows],
        },
        schema=PREDICTIONS_SCHEMA,
    )
    return ZeroShot(pl.concat(scores), predictions, _reliability(name, rule, bins))


def _multi(
    name: str, prompts: Prompts, images: Images, label_sets: Sequence[str | None], seed: int
) -> Iterator[ZeroShot]:
    known, true, names = read_label_sets(label_sets)
    positive, negative = (prompts.of(names, negative=kind) for kind in (False, True))
    if not names or positive is None:
        yield undefined("not every label has a prompt", seed=seed, prompt_set=name, rule="logit > 0")
        return
    raw = published_logits(images.vectors, class_means(*positive, len(names)))
    cosine = cosine_logits(images.vectors, ensemble(*positive, len(names)), prompts.scale, prompts.bias)
    rules = {"inner product > 0": raw, "logit > 0": cosine}
    if negative is not None:
        # The bias is the same on both sides, and falls out.
        against = cosine_logits(images.vectors, ensemble(*negative, len(names)), prompts.scale, prompts.bias)
        rules["positive against negative"] = cosine - against
    else:
        yield undefined("the set has no negative prompts", seed=seed, prompt_set=name, rule="positive against negative")
    for rule, logits in rules.items():
        yield _score_rule(name, rule, logits, logits > 0, (known, true, names), images, seed, "")
        if rule == "inner product > 0":
            continue
        chosen = f"{rule}, threshold"
        if len(np.unique(images.groups[known])) < 2:
            reason = "all images are of one group: there is no other to choose thresholds on"
            yield undefined(reason, seed=seed, prompt_set=name, rule=chosen)
            continue
        scored, predicted, note = _with_thresholds(logits, known, true, images, seed)
        yield _score_rule(name, chosen, logits, predicted, (scored, true, names), images, seed, note)


def _with_thresholds(
    logits: FloatArray, known: BoolArray, true: BoolArray, images: Images, seed: int
) -> tuple[BoolArray, BoolArray, str]:
    """Return which images are scored, what is predicted of them, and how the thresholds were chosen."""
    validation = known & np.isin(np.array(images.splits, dtype=object), VALIDATION)
    # A patient may have images in more than one part.
    scored = known & ~np.isin(images.groups, images.groups[validation])
    if validation.any() and scored.any():
        predicted = logits > best_thresholds(logits[validation], true[validation])
        return scored, predicted, f"thresholds chosen on {int(validation.sum())} validation images"
    predicted = np.zeros(true.shape, dtype=np.bool_)
    predicted[known] = cross_thresholds(logits[known], true[known], images.groups[known], seed=seed)
    return known, predicted, "thresholds chosen on the other folds of groups"


def _score_rule(
    name: str,
    rule: str,
    logits: FloatArray,
    predicted: BoolArray,
    truth: tuple[BoolArray, BoolArray, tuple[str, ...]],
    images: Images,
    seed: int,
    note: str,
) -> ZeroShot:
    known, true, names = truth
    scores: list[pl.DataFrame] = []
    bins: list[Bin] = []
    for split, member in _splits(images, known):
        numbers, found = score_multi(
            logits[member], predicted[member], true[member], images.groups[member], names,
            _backgrounds(images, member), seed=seed,
        )  # fmt: skip
        scores.append(as_frame(numbers, prompt_set=name, rule=rule, split=split, seed=seed, note=note))
        bins = bins or found
    rows = np.flatnonzero(known)
    said, so = ([_joined(names, row) for row in matrix[rows]] for matrix in (predicted, true))
    predictions = pl.DataFrame(
        {
            "row": rows,
            "prompt_set": [name] * len(rows),
            "rule": [rule] * len(rows),
            "truth": so,
            "predicted": said,
            "probability": [None] * len(rows),
            "correct": (predicted[rows] == true[rows]).all(axis=1),
        },
        schema=PREDICTIONS_SCHEMA,
    )
    # Thresholds change no probability.
    return ZeroShot(pl.concat(scores), predictions, _reliability(name, rule, [] if note else bins))


def read_label_sets(label_sets: Sequence[str | None]) -> tuple[BoolArray, BoolArray, tuple[str, ...]]:
    """Read label sets written with `store.schema.LABEL_SEPARATOR`; None is unknown, an empty text no label.

    Returns
    -------
    ndarray, ndarray, tuple of str
        ``(n,)`` whether they are known, ``(n, labels)`` which labels an image has, and their names, sorted.
    """
    sets = [{part.strip() for part in (text or "").split(LABEL_SEPARATOR)} - {""} for text in label_sets]
    names = tuple(sorted(set().union(*sets)))
    true = np.array([[name in each for name in names] for each in sets], dtype=np.bool_).reshape(len(sets), len(names))
    return np.array([text is not None for text in label_sets], dtype=np.bool_), true, names


def _joined(names: tuple[str, ...], member: BoolArray) -> str:
    return LABEL_SEPARATOR.join(name for name, there in zip(names, member, strict=True) if there)


def _splits(images: Images, known: BoolArray) -> list[tuple[str, BoolArray]]:
    test = known & np.isin(np.array(images.splits, dtype=object), TEST)
    return [("all", known), *([("test", test)] if test.any() and (known & ~test).any() else [])]


def _backgrounds(images: Images, member: BoolArray) -> dict[str, Categories]:
    columns = {name: encode(values, what=name) for name, values in images.backgrounds.items()}
    return {name: Categories(column.codes[member], column.names) for name, column in columns.items()}


def _reliability(name: str, rule: str, bins: Sequence[Bin]) -> pl.DataFrame:
    rows = [(name, rule, *each[:2], each.n, each.confidence, each.accuracy) for each in bins]
    return pl.DataFrame(rows, schema=RELIABILITY_SCHEMA, orient="row")
