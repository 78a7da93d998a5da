"""Retrieval against clip_benchmark and torchmetrics on the same features."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis import retrieval
from analysis.retrieval import Ranks, belonging, rank, score_ranks, text_groups

IMAGES, D = 60, 8


@pytest.fixture
def world() -> SimpleNamespace:
    """Images with one to four texts each."""
    rng = np.random.default_rng(3)
    images = rng.normal(size=(IMAGES, D)).astype(np.float32)
    counts = rng.integers(1, 5, IMAGES)
    owner = np.repeat(np.arange(IMAGES), counts)
    texts = (images[owner] + rng.normal(size=(len(owner), D))).astype(np.float32)
    of_image, of_text = belonging([[row] for row in owner.tolist()], IMAGES)
    return SimpleNamespace(images=images, texts=texts, owner=owner, counts=counts, of_image=of_image, of_text=of_text)


class FeaturesModel(torch.nn.Module):
    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def encode_text(self, texts: torch.Tensor) -> torch.Tensor:
        return texts


def recalls(queries: np.ndarray, candidates: np.ndarray, own: Sequence[np.ndarray]) -> dict[int, float]:
    scores = score_ranks(rank(queries, candidates, own), np.arange(len(queries)), seed=0)
    return {s.k: s.value for s in scores if s.metric == "recall" and s.value is not None}


def test_recall_is_that_of_clip_benchmark(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip_benchmark.metrics.zeroshot_retrieval import evaluate

    # In blocks smaller than the whole.
    monkeypatch.setattr(retrieval, "_BLOCK_ELEMENTS", 1000)
    starts = np.cumsum([0, *world.counts])
    names = [[str(row) for row in range(starts[i], starts[i + 1])] for i in range(IMAGES)]
    theirs = evaluate(
        FeaturesModel(),
        [(torch.from_numpy(world.images), names)],
        lambda texts: torch.from_numpy(world.texts[[int(text) for text in texts]]),
        "cpu",
        amp=False,
        recall_k_list=[1, 5, 10, 50],
    )
    to_text = recalls(world.images, world.texts, world.of_image)
    to_image = recalls(world.texts, world.images, world.of_text)
    for k in (1, 5, 10, 50):
        assert to_text[k] == pytest.approx(theirs[f"text_retrieval_recall@{k}"]), k
        assert to_image[k] == pytest.approx(theirs[f"image_retrieval_recall@{k}"]), k
    assert 0.1 < to_text[1] < 0.9


def test_mean_average_precision_is_that_of_torchmetrics(world: SimpleNamespace) -> None:
    from torchmetrics.retrieval import RetrievalMAP

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    similar = unit(world.images) @ unit(world.texts).T
    target = np.zeros(similar.shape, dtype=bool)
    target[world.owner, np.arange(len(world.owner))] = True
    index = np.repeat(np.arange(IMAGES), len(world.texts))
    # What is not above 0 it takes for irrelevant.
    theirs = RetrievalMAP()(
        torch.from_numpy(similar.ravel()) + 2, torch.from_numpy(target.ravel()), torch.from_numpy(index)
    )
    found = rank(world.images, world.texts, world.of_image)
    assert found.average_precision.mean() == pytest.approx(float(theirs), abs=1e-6)
    order = np.argsort(-similar, axis=1)
    first = [1 + int(np.flatnonzero(target[i, order[i]])[0]) for i in range(IMAGES)]
    assert found.first.tolist() == first
    scores = {s.metric: s for s in score_ranks(found, np.arange(IMAGES), seed=0) if s.k is None}
    assert scores["median_rank"].value == np.median(first)
    assert scores["median_rank"].interval.low <= np.median(first) <= scores["median_rank"].interval.high


def test_an_encoder_that_says_the_same_of_everything_finds_nothing(world: SimpleNamespace) -> None:
    same = np.ones_like(world.texts)
    found = rank(world.images, same, world.of_image)
    assert (found.first == 1 + len(same) - found.belonging).all()


def test_chance_is_what_random_orders_give(world: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    found = [
        {(s.metric, s.k): s for s in score_ranks(
            rank(world.images, rng.normal(size=world.texts.shape), world.of_image), np.arange(IMAGES), seed=0)}
        for _ in range(40)
    ]  # fmt: skip
    for k in (1, 5, 10, 50):
        drawn = np.mean([each["recall", k].value for each in found])
        assert drawn == pytest.approx(found[0]["recall", k].expected, abs=0.03)
    for metric, digits in (("median_rank", 2.0), ("mean_average_precision", 0.004)):
        drawn = np.mean([each[metric, None].value for each in found])
        assert drawn == pytest.approx(found[0][metric, None].expected, abs=digits), metric
    # There are some 150 texts: all are among the first 200.
    last = found[0]["recall", 200]
    assert last.value is None
    assert last.note == f"undefined: there are {len(world.texts)} candidates"


def test_the_median_rank_by_chance_is_the_middle_of_all_orders() -> None:
    def expected(belonging: list[int], candidates: int) -> float:
        counts = np.array(belonging)
        ranks = Ranks(np.arange(len(counts)), np.ones_like(counts), np.ones(len(counts)), counts, candidates)
        return next(s.expected for s in score_ranks(ranks, np.arange(len(counts)), seed=0) if s.metric == "median_rank")

    assert expected([1, 1], 10) == 5.5
    assert expected([1, 1], 11) == 6
    # Two of five are first at 1, 2, 3 or 4 in 4, 3, 2 and 1 of ten orders.
    assert expected([2], 5) == 2
    # All belong: the first always does.
    assert expected([5, 5], 5) == 1


def test_a_query_that_nothing_belongs_to_is_left_out(world: SimpleNamespace) -> None:
    own = [np.array([], np.int64), *world.of_image[1:]]
    found = rank(world.images, world.texts, own)
    assert found.query.tolist() == list(range(1, IMAGES))
    empty = rank(world.images, world.texts, [np.array([], np.int64)] * IMAGES)
    notes = {s.note for s in score_ranks(empty, np.arange(IMAGES), seed=0)}
    assert notes == {"undefined: no query has anything that belongs to it"}


def test_a_text_on_several_images_belongs_to_each(world: SimpleNamespace) -> None:
    of_image, of_text = belonging([[0, 2], [1], [2, 2]], 4)
    assert [rows.tolist() for rows in of_text] == [[0, 2], [1], [2]]
    assert [rows.tolist() for rows in of_image] == [[0], [1], [0, 2], []]
    assert text_groups(of_text, np.array([5, 5, 6, 7])).tolist() == [8, 5, 6]


def test_intervals_resample_groups(world: SimpleNamespace) -> None:
    found = rank(world.images, world.texts, world.of_image)
    alone = score_ranks(found, np.arange(IMAGES), seed=0)[0]
    together = score_ranks(found, np.zeros(IMAGES, np.int64), seed=0)[0]
    assert alone.interval.low < alone.value < alone.interval.high
    assert together.interval.low is None
