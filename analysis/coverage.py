"""Interval coverage: how often the interval of a metric holds what the metric comes to on the average."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.bootstrap import LEVEL

SCHEMA = {
    "world": pl.String,
    "metric": pl.String,
    "images": pl.Int32,
    "settings": pl.Int32,
    "intervals": pl.Int32,
    "covered": pl.Float64,
    "covered_ci_low": pl.Float64,
    "covered_ci_high": pl.Float64,
    "level": pl.Float64,
    "mean_width": pl.Float64,
    "without": pl.Float64,
    "seed": pl.Int64,
}
ALPHA = 0.05
# Fewer samples of a setting say nothing of its average.
MIN_SAMPLES = 5


def interval_coverage(audited: pl.DataFrame, *, world: str, seed: int) -> pl.DataFrame:
    """Count the intervals that hold the average of their metric over samples of one setting.

    The average stands for the truth, but is itself of ``m`` samples, this one among them, which draws it nearer by
    ``sqrt(1 - 1/m)``: a sample's deviation from it is stretched by as much, and then is as large as one from the truth.

    Parameters
    ----------
    audited
        A row per metric and sample: ``metric``, ``value``, ``ci_low``, ``ci_high`` and the setting's ``strength``,
        ``association`` and ``images``. Samples are independent.
    world
        Name of the world.
    seed
        Of the samples.

    Returns
    -------
    polars.DataFrame
        `SCHEMA`, a row per metric and number of images, over all settings with `MIN_SAMPLES` samples or more.
        `covered` has Wilson's interval; `without` is the share of samples with a value and no interval. Metrics that
        never have one, or never vary, are left out.
    """
    from scipy.stats import binomtest

    setting = ("metric", "images", "strength", "association")
    known = audited.filter(pl.col("value").is_not_null()).with_columns(
        pl.len().over(setting).alias("samples"), pl.col("value").mean().over(setting).alias("mean")
    )
    judged = known.filter(
        pl.col("samples") >= MIN_SAMPLES, (pl.col("value") != pl.col("value").first()).any().over(setting)
    )
    stretch = 1 / (1 - 1 / pl.col("samples")).sqrt()
    truth = pl.col("value") - (pl.col("value") - pl.col("mean")) * stretch
    counts = (
        judged.with_columns(((pl.col("ci_low") <= truth) & (truth <= pl.col("ci_high"))).alias("holds"))
        .group_by("metric", "images", maintain_order=True)
        .agg(
            pl.struct("strength", "association").n_unique().alias("settings"),
            pl.col("ci_low").count().alias("intervals"),
            pl.col("holds").sum().alias("held"),
            (pl.col("ci_high") - pl.col("ci_low")).mean().alias("mean_width"),
            (pl.col("ci_low").null_count() / pl.len()).alias("without"),
        )
        .filter(pl.col("intervals") > 0)
    )
    between = [
        binomtest(held, intervals).proportion_ci(method="wilson")
        for held, intervals in counts.select("held", "intervals").iter_rows()
    ]
    return counts.with_columns(
        pl.lit(world).alias("world"),
        (pl.col("held") / pl.col("intervals")).alias("covered"),
        pl.Series("covered_ci_low", np.array([each.low for each in between], dtype=np.float64)),
        pl.Series("covered_ci_high", np.array([each.high for each in between], dtype=np.float64)),
        pl.lit(LEVEL).alias("level"),
        pl.lit(seed, pl.Int64).alias("seed"),
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def beyond_level(intervals: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `interval_coverage` that cover less than their level by more than chance gives in any of them.

    One-sided binomial p-values below 0.05 over the number of rows (Bonferroni).
    """
    from scipy.stats import binomtest

    p_values = [
        binomtest(round(covered * n), n, level, alternative="less").pvalue
        for covered, n, level in intervals.select("covered", "intervals", "level").iter_rows()
    ]
    return intervals.filter(pl.Series(p_values, dtype=pl.Float64) * intervals.height < ALPHA)
