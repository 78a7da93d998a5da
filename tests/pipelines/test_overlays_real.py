"""Overlays and duplicates of BreastUS against labels read by eye, by thresholds that were set beforehand."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from analysis.duplicates import find_duplicates
from pipelines.descriptors import describe_picture
from pipelines.overlays.detectors import find_items
from pipelines.overlays.terms import read_terms

pytestmark = pytest.mark.real

UNREADABLE = "<cropped>"


def precision_and_recall(found: pl.Series, truth: pl.Series) -> tuple[float, float]:
    both = (found & truth).sum()
    return both / found.sum(), both / truth.sum()


def test_words_and_callipers(real_data: Path) -> None:
    labels = pl.read_csv(real_data / "breastus_overlay_labels.csv")
    words, callipers = [], []
    for file in labels["file"]:
        with Image.open(real_data / "breastus" / file) as image:
            items = find_items(np.asarray(image.convert("RGB")), read_terms())
        words.append(" ".join(item.text or "" for item in items if item.kind == "word"))
        callipers.append(any(item.kind == "calliper" for item in items))
    found = labels.with_columns(pl.Series("words", words), pl.Series("callipers", callipers))
    precision, recall = precision_and_recall(found["words"] != "", found["has_text"] == 1)
    assert (precision >= 0.97, recall >= 0.90) == (True, True), (precision, recall)
    precision, recall = precision_and_recall(found["callipers"], found["has_caliper"] == 1)
    assert (precision >= 0.93, recall >= 0.90) == (True, True), (precision, recall)
    readable = found.filter(pl.col("has_text") == 1, pl.col("text") != UNREADABLE)
    assert (readable["words"] == readable["text"]).mean() >= 0.80  # type: ignore[operator]  # a mean of flags


def test_near_duplicates(real_data: Path) -> None:
    labels = pl.read_csv(real_data / "breastus_overlay_labels.csv")
    descriptors = np.stack([describe_picture((real_data / "breastus" / file).read_bytes()) for file in labels["file"]])
    groups = find_duplicates(descriptors, labels["file"].to_list()).groups
    labelled = labels["near_duplicate_group"].to_numpy()
    upper = np.triu_indices(len(groups), 1)
    found, truth = ((codes[:, None] == codes[None])[upper] for codes in (groups, labelled))
    assert (found & truth).sum() / truth.sum() >= 0.95
    assert (found & truth).sum() / found.sum() >= 0.95
