"""Maps against regions: planted maps whose shares are known, and what a map without preference gives."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from analysis.bootstrap import cluster_bootstrap
from analysis.figures import MappedImage, saliency_figure, saliency_scores_figure
from analysis.saliency import LEARNED, METRICS, box_coverage, rank_correlation, score_map, summarise

KEY = {"method": "grad-cam", "weights": "trained", "asked": "label"}


def test_boxes_cover_what_they_cover_between_pixels() -> None:
    rng = np.random.default_rng(0)
    boxes = [sorted_box(rng, 20, 30) for _ in range(3)]
    finer = 40
    fine = np.zeros((20 * finer, 30 * finer))
    for x0, y0, x1, y1 in boxes:
        fine[round(y0 * finer) : round(y1 * finer), round(x0 * finer) : round(x1 * finer)] = 1
    brute = fine.reshape(20, finer, 30, finer).mean((1, 3))
    found = box_coverage(boxes, (20, 30))
    # Of two boxes that share a px in part the larger share counts.
    alone = [box_coverage([box], (20, 30)) for box in boxes]
    np.testing.assert_allclose(found, np.max(alone, axis=0))
    np.testing.assert_allclose(found, brute, atol=0.5)
    assert found[(brute == 1) | (brute == 0)].tolist() == brute[(brute == 1) | (brute == 0)].tolist()
    np.testing.assert_allclose(box_coverage([(2.25, 3, 5.5, 4.5)], (8, 8)).sum(), 3.25 * 1.5)


def sorted_box(rng: np.random.Generator, height: int, width: int) -> tuple[float, float, float, float]:
    (x0, x1), (y0, y1) = sorted(rng.uniform(0, width, 2)), sorted(rng.uniform(0, height, 2))
    return x0, y0, x1, y1


def test_a_map_on_a_region_is_on_it() -> None:
    region = box_coverage([(4, 4, 8, 8)], (16, 16))
    salient = np.zeros((16, 16))
    salient[4:8, 4:8] = 3.0
    score = score_map(salient, region)
    assert score is not None
    assert (score.energy, score.area, score.hit, score.iou) == (1.0, 16 / 256, 1.0, 1.0)
    salient[12:14, 0:8] = 1.0  # a third of the maximum: not part of the cut map
    score = score_map(salient, region)
    assert score is not None
    assert (score.energy, score.hit, score.iou) == (48 / 64, 1.0, 1.0)
    salient[15, 15] = 6.0
    score = score_map(salient, region)
    assert score is not None
    # Cut at half of 6: the sixteen of the region and the one outside.
    assert (score.hit, score.iou) == (0.0, 16 / 17)


def test_a_map_without_preference_has_the_area_inside() -> None:
    region = box_coverage([(1.5, 2, 9, 7.25)], (12, 20))
    score = score_map(np.ones((12, 20)), region)
    assert score is not None
    assert score.energy == pytest.approx(score.area) == pytest.approx(7.5 * 5.25 / 240)
    assert score.hit == pytest.approx(score.area)


def test_empty_maps_say_nothing_and_bad_ones_are_refused() -> None:
    region = np.ones((4, 4))
    assert score_map(np.zeros((4, 4)), region) is None
    with pytest.raises(ValueError, match="differ"):
        score_map(np.ones((4, 5)), region)
    with pytest.raises(ValueError, match="not negative"):
        score_map(-region, region)
    with pytest.raises(ValueError, match="finite"):
        score_map(region * np.nan, region)


def test_correlation_is_spearmans_on_the_coarse_map() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random((56, 84)), rng.random((56, 84))
    mixed = one + other
    coarse = [m.reshape(28, 2, 28, 3).mean((1, 3)).ravel() for m in (one, mixed)]
    assert rank_correlation(one, mixed) == pytest.approx(spearmanr(*coarse).statistic)
    small = rng.random((7, 7))
    assert rank_correlation(small, small**3) == pytest.approx(1)
    assert rank_correlation(small, np.zeros((7, 7))) is None


def scores(rng: np.random.Generator, n: int = 30, **changed: object) -> pl.DataFrame:
    rows = [
        KEY
        | {
            "image_id": f"i{i}", "region": "text", "energy": float(rng.random()), "area": 0.02 + 0.01 * (i % 3),
            "hit": float(i % 2), "iou": 0.1, "correlation": None,
        }
        for i in range(n)
    ]  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("correlation").cast(pl.Float64), **{name: pl.lit(value) for name, value in changed.items()}
    )


def test_summaries_are_means_and_a_ratio_of_sums_over_groups() -> None:
    rows = scores(np.random.default_rng(0))
    groups = {f"i{i}": i // 3 for i in range(30)}
    codes = np.arange(30) // 3
    found = {row["metric"]: row for row in summarise(rows, groups, seed=4).iter_rows(named=True)}
    assert tuple(found) == METRICS
    energy, area = rows["energy"].to_numpy(), rows["area"].to_numpy()
    assert found["energy"]["value"] == pytest.approx(energy.mean())
    assert (found["energy"]["ci_low"], found["energy"]["ci_high"]) == tuple(cluster_bootstrap(energy, codes, seed=4))
    assert found["energy"]["expected"] == found["pointing"]["expected"] == pytest.approx(area.mean())
    assert found["energy / area"]["value"] == pytest.approx(energy.sum() / area.sum())
    interval = cluster_bootstrap(energy, codes, seed=4, denominators=area)
    assert (found["energy / area"]["ci_low"], found["energy / area"]["ci_high"]) == tuple(interval)
    assert found["pointing"]["value"] == 0.5
    assert {row["n"] for row in found.values()} == {30}


def test_what_is_learned_is_paired_by_image_with_random_weights() -> None:
    rng = np.random.default_rng(0)
    trained, random = scores(rng), scores(rng, weights="random")
    # Another order, an image without a map, and another class asked for: none of it is mixed up.
    random = random.reverse().with_columns(energy=pl.when(pl.col("image_id") != "i3").then("energy"))
    other = scores(rng, weights="random", asked="answer")
    groups = {f"i{i}": i // 2 for i in range(30)}
    found = summarise(pl.concat([random, trained, other]), groups, seed=1).filter(metric=LEARNED)
    (row,) = found.iter_rows(named=True)
    paired = trained.join(random, on="image_id").drop_nulls("energy_right")
    difference = (paired["energy"] - paired["energy_right"]).to_numpy()
    codes = np.array([groups[i] for i in paired["image_id"]])
    assert (row["weights"], row["n"], row["expected"]) == ("trained", 29, 0.0)
    assert row["value"] == pytest.approx(difference.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(cluster_bootstrap(difference, codes, seed=1)))


def test_empty_maps_are_left_out_and_counted() -> None:
    rows = scores(np.random.default_rng(0))
    some = rows.with_columns(
        pl.when(pl.int_range(pl.len()) < 4).then(None).otherwise(pl.col(c)).alias(c)
        for c in ("energy", "area", "hit", "iou")
    )
    groups = {f"i{i}": i for i in range(30)}
    found = summarise(some, groups, seed=0)
    assert found["n"].unique().to_list() == [26]
    assert found.filter(metric="energy")["note"].item() == "4 images with an empty map left out"
    none = rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("energy", "area", "hit", "iou"))
    undefined = summarise(none, groups, seed=0)
    assert undefined["value"].null_count() == len(METRICS)
    assert set(undefined["note"]) == {"undefined: every map is zero"}


def test_the_correlation_is_summarised_where_there_is_no_region() -> None:
    rng = np.random.default_rng(0)
    rows = scores(rng).with_columns(
        pl.lit(None, pl.String).alias("region"), pl.Series("correlation", [*rng.random(28), None, None])
    )
    (row,) = summarise(rows, {f"i{i}": i for i in range(30)}, seed=0).iter_rows(named=True)
    assert (row["metric"], row["n"]) == ("correlation with random weights", 28)
    assert row["value"] == pytest.approx(rows["correlation"].mean())


def test_figures_take_partial_results_and_hostile_names(png: bytes) -> None:
    boxes = {"lesion": [(0.1, 0.1, 0.5, 0.6)], "text": [(0.6, 0.8, 0.9, 0.9)], "$x$ <b>": [(0, 0, 1, 1)]}
    rows = [
        MappedImage(png, "answer: $\\frac{1$\nlabel: b", {"answer": png, "label": png}, boxes),
        MappedImage(b"no picture", "answer: c", {"random weights": png}, {}),
    ]
    assert saliency_figure(rows, title="$a_b").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no image"):
        saliency_figure([], title="t")
    frame = summarise(scores(np.random.default_rng(0)), {f"i{i}": i for i in range(30)}, seed=0)
    one = frame.filter(metric="energy / area").with_columns(encoder=pl.lit("$e_1"))
    zero = one.with_columns(value=pl.lit(0.0), ci_low=pl.lit(None, pl.Float64), region=pl.lit("marks"))
    assert saliency_scores_figure(pl.concat([one, zero]), title="t").startswith(b"\x89PNG")


@pytest.fixture
def png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
