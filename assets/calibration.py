"""``calibration``: the audits' own error rates, on features and on phantoms whose background is planted."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.bootstrap import LEVEL
from analysis.calibration import (
    Sample,
    Setting,
    Trial,
    World,
    beyond_chance,
    calibrate,
    carriers,
    feature_world,
    grid,
    label_world,
    uneven_world,
)
from analysis.coverage import beyond_level
from analysis.figures import calibration_figure
from assets import display
from assets.progress import Progress
from assets.step import Cell, Check, Made, Step
from pipelines.encoders import load_encoder
from pipelines.phantoms import CLASSES, PhantomSpec, draw_phantom
from pipelines.threads import map_ordered
from store.results import write_results
from store.runs import data_version
from store.schema import CALIBRATION, CALIBRATION_INTERVALS

ENCODER = "efficientnet_lite0"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ASSOCIATIONS = (0.0, 0.6, 0.9)
IMAGES = (120, 240)
# Sets on which every metric is taken; those of strength 0, on which the tests run, are a setting of the project.
DESCRIBED = 12
PHANTOM_POOL = 240
PHANTOM_STRENGTHS = (0.0, 0.3, 1.0)
PHANTOM_ASSOCIATIONS = (0.0, 0.9)
# Phantoms encoded at once: they are small, and every machine must make the same.
_BATCH = 16
# Flags without a pixel of background.
_UNSEEN = 1e-6
_MODALITY: Literal["ultrasound"] = "ultrasound"


def _parameters(cell: Cell) -> dict[str, object]:
    project = cell.project
    return {"k": project.k, "seed": project.seed, "repetitions": project.calibration_repetitions, "encoder": ENCODER}


def _make(cell: Cell) -> Made:
    project = cell.project
    settings = grid(STRENGTHS, ASSOCIATIONS, IMAGES)
    # A label that is planted goes with no background.
    of_label = grid(STRENGTHS, [0], IMAGES)
    phantoms = grid(PHANTOM_STRENGTHS, PHANTOM_ASSOCIATIONS, [PHANTOM_POOL // 2])
    worlds = {
        "of patients": feature_world(nested=False),
        "of images": feature_world(nested=True),
        "of unalike patients": uneven_world(),
    }
    trials = [
        *(Trial(f"features, background {whose}", draw, settings) for whose, draw in worlds.items()),
        *(Trial(f"features, label {whose}", label_world(draw), of_label, "label") for whose, draw in worlds.items()),
        Trial(f"phantoms, {ENCODER}", phantom_world(cell), phantoms, independent=False),
    ]
    progress = Progress("calibration: settings", sum(len(trial.settings) for trial in trials))
    made = [
        calibrate(
            trial,
            repetitions=project.calibration_repetitions,
            described=DESCRIBED,
            k=project.k,
            seed=project.seed,
            progress=lambda: progress.advance(1),
        )
        for trial in trials
    ]
    found, intervals = pl.concat(each.metrics for each in made), pl.concat(each.intervals for each in made)
    for table, frame in ((CALIBRATION, found), (CALIBRATION_INTERVALS, intervals)):
        write_results(
            cell.warehouse, table, frame.with_columns(pl.lit("").alias("dataset"), pl.lit("").alias("encoder"))
        )
    null = found.filter(pl.col("rejected").is_not_null(), strength=0)
    # A test of few arrangements may reject less often than stated: that is no error.
    above, beyond = null.filter(pl.col("rejected_ci_low") > pl.col("alpha")), beyond_chance(null)
    # One in forty intervals lies above the truth by itself.
    allowed = max(1, round(0.1 * null.height))
    rate = float(null.select(pl.col("rejected").dot("repetitions") / pl.col("repetitions").sum()).item())
    short, n_intervals = beyond_level(intervals), int(intervals["intervals"].sum())
    covered = float(intervals.select(pl.col("covered").dot("intervals")).item()) / max(n_intervals, 1)
    return Made(
        rows=found.height,
        data_version=data_version(cell.warehouse, "calibration"),
        tables=("calibration", "calibration_intervals"),
        summary={"false positive rate": rate, **({"interval coverage": covered} if n_intervals else {})},
        metadata={
            "how to read these numbers": display.picture(
                calibration_figure(found, intervals), "Calibration of the audits"
            ),
            "false positives": display.table(
                null.select(
                    "world", "metric", "association", "images", "repetitions", "rejected", "rejected_ci_low",
                    "rejected_ci_high", "undefined",
                ),
                100,
            ),
            "intervals": display.table(intervals.drop("seed"), 200),
        },
        checks={
            "errors_as_stated": Check(
                above.height <= allowed and beyond.is_empty(),
                f"{rate:.3f} of tests reject where nothing is planted; {above.height} of {null.height} rates are above "
                f"0.05 by more than their interval, {beyond.height} by more than chance gives in any of so many",
            ),
            "intervals_cover": Check(
                short.is_empty(),
                f"{covered:.3f} of {n_intervals} intervals hold the truth; below {LEVEL:g} by more than "
                f"chance gives in any of so many: {', '.join(short['metric'].unique().sort()) or 'none'}",
            ),
        },
    )  # fmt: skip


def phantom_world(cell: Cell) -> World:
    """Return a world of phantoms: each sample is half of the patients of one drawn and encoded set.

    At strength 0 no pixel depends on who carries a word, so carriers are drawn anew for every sample; samples of other
    strengths overlap, and their rates are less sure than their number says.
    """
    pools: dict[tuple[float, float], Sample] = {}

    def draw(setting: Setting, seed: int) -> Sample:
        key = setting.strength, setting.association
        if key not in pools:
            pools[key] = _pool(cell, setting)
        pool = pools[key]
        rng = np.random.default_rng([seed, round(1000 * setting.strength), round(1000 * setting.association)])
        patients = np.concatenate(
            [
                rng.permutation(mine)[: len(mine) // 2]
                for label in np.unique(pool.labels)
                for mine in [np.unique(pool.groups[pool.labels == label])]
            ]
        )
        rows = np.flatnonzero(np.isin(pool.groups, patients))
        half = Sample(pool.vectors[rows], pool.labels[rows], pool.background[rows], pool.groups[rows])
        if setting.strength == 0:
            half = half._replace(background=carriers(half.labels, setting.association, rng))
        return half

    return draw


def _pool(cell: Cell, setting: Setting) -> Sample:
    """Draw and encode a set of phantoms; the background is whether words are burned in."""
    import torch
    from PIL import Image

    encoder = load_encoder(ENCODER, cell.project.load_options())
    spec = PhantomSpec(
        modality=_MODALITY,
        n_images=PHANTOM_POOL,
        strength=setting.strength or _UNSEEN,
        association=setting.association,
        seed=cell.project.seed,
    )

    def encode(start: int) -> tuple[list[tuple[str, str, bool]], NDArray[np.float32]]:
        drawn = [draw_phantom(spec, i) for i in range(start, min(start + _BATCH, spec.n_images))]
        images = [encoder.preprocess(Image.fromarray(phantom.pixels).convert("RGB")) for phantom in drawn]
        return [(p.label, p.patient, p.text_overlay) for p in drawn], encoder.encode(torch.stack(images))

    known, vectors = [], []
    for _, (rows, batch) in map_ordered(encode, range(0, spec.n_images, _BATCH), cell.project.workers):
        known += rows
        vectors.append(batch)
    labels, patients, words = zip(*known, strict=True)
    return Sample(
        np.concatenate(vectors),
        np.array([CLASSES[_MODALITY].index(label) for label in labels], dtype=np.int64),
        np.array(words, dtype=np.int64),
        np.unique(patients, return_inverse=True)[1].astype(np.int64),
    )


STEP = Step(
    name="calibration",
    description="How often the audits' tests reject where nothing is planted, how much they see where something is, "
    "how often intervals hold the truth, and how every metric moves: on features and on phantoms. Made on "
    "request: it depends on no data set.",
    group="findings",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="all",
    upstream=(),
    code_version="4",
    inputs=lambda _: {},
    parameters=_parameters,
    make=_make,
    checks={
        "errors_as_stated": "Tests reject at the stated rate where nothing is planted.",
        "intervals_cover": "Intervals hold the truth as often as stated, or more often.",
    },
    on_request=True,
)
