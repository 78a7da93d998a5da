import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from analysis.calibration import (
    SCHEMA,
    Sample,
    Trial,
    beyond_chance,
    calibrate,
    carriers,
    feature_world,
    grid,
    label_world,
    uneven_world,
)
from analysis.coverage import SCHEMA as COVERAGE_SCHEMA
from analysis.coverage import beyond_level, interval_coverage
from analysis.figures import calibration_figure

TESTS = ["confounder_agreement", "robustness_index"]


def run(world, *, settings, repetitions=0, described=0, plants="background"):
    trial = Trial("features", world, settings, plants)
    return calibrate(trial, repetitions=repetitions, described=described, k=10, seed=0).metrics


@pytest.mark.parametrize("world", [feature_world(nested=False), feature_world(nested=True), uneven_world()])
def test_tests_reject_at_their_rate_where_nothing_is_planted(world):
    # A background that a few images within patients break was once rejected in half of all such sets.
    frame = run(world, settings=grid([0], [0.3], [120]), repetitions=60)
    assert sorted(frame["metric"]) == TESTS
    for row in frame.iter_rows(named=True):
        rejected = round(row["rejected"] * row["repetitions"])
        assert binomtest(rejected, row["repetitions"], 0.05, alternative="greater").pvalue > 0.001, row
        assert row["rejected_ci_low"] <= row["rejected"] <= row["rejected_ci_high"]


def test_tests_see_what_is_planted_and_metrics_move_with_it():
    trial = Trial("features", feature_world(nested=False), grid([0, 0.5, 1], [0.3], [120]))
    frame, intervals = calibrate(trial, repetitions=4, described=5, k=10, seed=0)
    assert frame.schema == SCHEMA
    assert intervals.schema == COVERAGE_SCHEMA
    assert {"confounder_agreement", "mari", "pcr"} < set(intervals["metric"])
    assert (intervals["covered"] > 0.7).all()
    assert (intervals["settings"] == 3).all()
    strong = frame.filter(strength=1)
    assert strong.filter(pl.col("metric").is_in(TESTS))["rejected"].to_list() == [1, 1]
    falling = {"robustness_index", "mari", "croma_median", "ilisi", "kbet", "bras", "clustering_score"}
    for metric in (*falling, "confounder_agreement", "background_within_label", "pcr", "croma_dominated"):
        means = frame.filter(metric=metric).sort("strength")["mean"].to_numpy()
        moves = -np.diff(means) if metric in falling else np.diff(means)
        assert (moves > -0.03).all(), (metric, means)
        assert moves.sum() > 0.05, (metric, means)
    assert calibration_figure(frame, intervals).startswith(b"\x89PNG")
    assert calibration_figure(frame, intervals.clear()).startswith(b"\x89PNG")


def test_carriers_are_in_exact_numbers():
    labels = np.repeat([0, 1, 2], 20)
    for association, shares in ((0, (10, 10, 10)), (0.6, (4, 10, 16)), (1, (0, 10, 20))):
        found = carriers(labels, association, np.random.default_rng(0))
        assert tuple(found.reshape(3, 20).sum(axis=1)) == shares


def test_what_audits_leave_undefined_is_no_rate():
    def draw(setting, seed):
        sample = uneven_world()(setting, seed)
        # The background is the label: the audits give no p-value of such sets, every third.
        return sample._replace(background=sample.labels) if seed % 3 == 0 else sample

    frame = run(draw, settings=grid([0], [0], [120]), repetitions=6)
    assert set(frame["repetitions"]) == {4}
    assert frame["undefined"].to_list() == pytest.approx([1 / 3] * 2)
    frame = run(
        lambda setting, seed: (lambda s: Sample(s.vectors, s.labels, s.labels, s.groups))(draw(setting, seed)),
        settings=grid([0], [0], [120]),
        repetitions=2,
    )
    assert set(frame["undefined"]) == {1}
    assert frame["rejected"].null_count() == frame.height


def test_patients_are_unalike():
    sample = uneven_world()(grid([0], [0], [240])[0], 1)
    assert len(sample.labels) == 240
    groups, sizes = np.unique(sample.groups, return_counts=True)
    assert len(np.unique(sizes)) >= 3
    of_background = np.array([sample.background[sample.groups == group][0] for group in groups])
    assert sizes[of_background == 1].mean() > sizes[of_background == 0].mean() + 1
    assert any(len(np.unique(sample.labels[sample.groups == group])) == 2 for group in groups)


def test_a_rate_beyond_chance_is_named():
    rates = pl.DataFrame({"rejected": [0.05, 0.10, 0.15], "repetitions": [100, 100, 100], "alpha": [0.05] * 3})
    assert beyond_chance(rates)["rejected"].to_list() == [0.15]
    # Among more settings a rate may stray further.
    assert beyond_chance(pl.concat([rates.with_columns(pl.col("rejected").clip(0, 0.1))] * 50)).is_empty()
    assert beyond_chance(rates.clear()).is_empty()


def test_the_test_of_labels_is_calibrated_too():
    frame = run(
        label_world(uneven_world()), settings=grid([0, 1], [0], [120]), repetitions=40, described=4, plants="label"
    )
    tested = frame.filter(metric="label_agreement")
    assert tested["repetitions"].to_list() == [40, 4]
    assert binomtest(round(tested["rejected"][0] * 40), 40, 0.05, alternative="greater").pvalue > 0.001
    assert tested["rejected"][1] == 1
    # Nothing is said of a background that there is none of.
    assert not {"confounder_agreement", "cramers_v"} & set(frame["metric"])


def sets_with_intervals(reach, *, samples=12, settings=40, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=settings * samples)
    return pl.DataFrame(
        {
            "metric": "m", "value": values, "ci_low": values - reach, "ci_high": values + reach, "images": 120,
            "strength": np.repeat(np.arange(settings) / settings, samples), "association": 0.0,
        }
    )  # fmt: skip


def test_intervals_of_known_reach_cover_as_often_as_they_should():
    for reach, covered in ((1.96, 0.95), (1.0, 0.6827), (0.0, 0.0)):
        row = interval_coverage(sets_with_intervals(reach), world="w", seed=0).row(0, named=True)
        assert (row["intervals"], row["settings"]) == (480, 40)
        assert row["covered"] == pytest.approx(covered, abs=0.04)
        assert row["covered_ci_low"] <= row["covered"] <= row["covered_ci_high"]
        assert row["mean_width"] == pytest.approx(2 * reach)
    # Of few samples the mean is drawn towards each: not stretched, more would seem to be covered.
    frame = pl.concat(
        [interval_coverage(sets_with_intervals(r, samples=5, settings=400), world="w", seed=0) for r in (1.0, 1.96)]
    )
    assert frame["covered"].to_list() == pytest.approx([0.6827, 0.95], abs=0.03)
    assert beyond_level(frame)["mean_width"].to_list() == pytest.approx([2.0])


def test_sets_without_intervals_are_counted_and_few_samples_say_nothing():
    sets = sets_with_intervals(1.96).with_columns(
        pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise(pl.col(c)).alias(c) for c in ("ci_low", "ci_high")
    )
    row = interval_coverage(sets, world="w", seed=0).row(0, named=True)
    assert (row["intervals"], row["without"]) == (360, 0.25)
    assert row["covered"] == pytest.approx(0.95, abs=0.04)
    assert interval_coverage(sets_with_intervals(1.96, samples=4), world="w", seed=0).is_empty()
    constant = sets_with_intervals(1.96).with_columns(value=pl.lit(0.5))
    assert interval_coverage(constant, world="w", seed=0).is_empty()
