import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from analysis.calibration import SCHEMA, Sample, beyond_chance, calibrate, carriers, feature_world, grid, uneven_world
from analysis.figures import calibration_figure

TESTS = ["confounder_agreement", "robustness_index"]


def run(world, *, settings, repetitions=0, described=0):
    return calibrate("features", world, settings, repetitions=repetitions, described=described, k=10, seed=0)


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
    frame = run(feature_world(nested=False), settings=grid([0, 0.5, 1], [0.3], [120]), repetitions=4, described=4)
    assert frame.schema == SCHEMA
    strong = frame.filter(strength=1)
    assert strong.filter(pl.col("metric").is_in(TESTS))["rejected"].to_list() == [1, 1]
    falling = {"robustness_index", "mari", "croma_median", "ilisi", "kbet", "bras", "clustering_score"}
    for metric in (*falling, "confounder_agreement", "background_within_label", "pcr", "croma_dominated"):
        means = frame.filter(metric=metric).sort("strength")["mean"].to_numpy()
        moves = -np.diff(means) if metric in falling else np.diff(means)
        assert (moves > -0.03).all(), (metric, means)
        assert moves.sum() > 0.05, (metric, means)
    assert calibration_figure(frame).startswith(b"\x89PNG")


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
