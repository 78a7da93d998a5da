"""What was seen by eye on BreastUS, put to the test: words and callipers, left and right."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from analysis.audits import run_audits
from analysis.neighbors import cosine_neighbors
from analysis.statistics import connected_groups
from pipelines.encoder import LoadOptions
from pipelines.encoders import load_encoder


def word_of(text: str | None) -> str | None:
    """AXILLA or BREAST; None for other words and for none."""
    if text is None:
        return None
    return "axilla" if re.search("AX", text.upper()) else "breast" if "BREAST" in text.upper() else None


def side_of(text: str | None) -> str | None:
    found = re.match(r"(LEFT|LT|L|RIGHT|RT|R)", (text or "").strip().upper())
    return found[1][0] if found else None


@pytest.mark.real
def test_breastus_clusters_by_word_and_not_by_side(real_data: Path) -> None:
    flags = pl.read_csv(real_data / "breastus_overlay_labels.csv", infer_schema=False)
    encoder = load_encoder("efficientnet_lite0", LoadOptions(None, "cpu"))
    vectors = []
    for files in flags["file"].to_frame().iter_slices(8):
        images = [Image.open(real_data / "breastus" / file).convert("RGB") for file in files["file"]]
        vectors.append(encoder.encode(torch.stack([encoder.preprocess(image) for image in images])))
    features = np.concatenate(vectors)
    labels = [file.split("/")[0] for file in flags["file"]]
    groups = connected_groups([flags["near_duplicate_group"].to_list()])
    text = flags["text"].to_list()
    backgrounds = {
        "words": flags["has_text"].to_list(),
        "callipers": flags["has_caliper"].to_list(),
        "breast_or_axilla": [word_of(each) for each in text],
        "side": [side_of(each) for each in text],
    }
    neighbors = cosine_neighbors(features, 100, groups=groups)
    frame = run_audits(neighbors, labels, backgrounds, groups, k=15, seed=0, vectors=features)
    found = {(row["confounder"], row["metric"]): row for row in frame.iter_rows(named=True)}

    # Burned-in words and callipers draw neighbours together, whatever the label.
    for name in ("words", "callipers"):
        agreement = found[name, "confounder_agreement"]
        assert agreement["p_value"] <= 0.005, name
        assert agreement["value"] > agreement["expected"] + 0.04, name
        assert found[name, "robustness_index"]["p_value"] <= 0.005, name
        assert found[name, "robustness_index"]["value"] < found[name, "robustness_index"]["expected"], name
    assert found["callipers", "croma_median"]["ci_high"] < 0

    # No normal image has callipers: it is said, and normal images are in no comparison.
    assert "no image of: normal with 1" in found["callipers", "cramers_v"]["note"]
    for metric in ("robustness_index", "mari", "croma_median", "clustering_score"):
        assert "all of normal" in found["callipers", metric]["note"], metric
        assert found["callipers", metric]["n"] <= 313

    # So few images carry one of the two words that lists of 15 hold them all: nothing can be said, and it is. Which
    # side it is does not show.
    word, side = found["breast_or_axilla", "confounder_agreement"], found["side", "confounder_agreement"]
    assert word["n"] == 15
    assert word["value"] == pytest.approx(word["expected"])
    assert word["p_value"] is None
    assert "no test: only 12 arrangements" in word["note"]
    assert side["p_value"] > 0.05
    assert side["value"] - side["expected"] < 0.1
    assert side["ci_low"] < side["expected"] < side["ci_high"]
    # BREAST is on no malignant image, and so few carry either that word and label cannot be set against one another.
    assert "no image of: malignant with breast" in found["breast_or_axilla", "cramers_v"]["note"]
    assert found["breast_or_axilla", "robustness_index"]["value"] is None
    assert "cannot be told apart" in found["breast_or_axilla", "robustness_index"]["note"]
