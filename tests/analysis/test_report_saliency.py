"""The report's parts on saliency and on the typographic attack."""

import io
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from analysis.report.section import CellPlace
from analysis.report.sections import saliency, typographic_attack
from analysis.report.tables import ReportTables
from analysis.saliency import summarise
from analysis.typographic import Attack, measure_attack

CELL = CellPlace("set", "enc")
NAMES = {"dataset": pl.lit("set"), "encoder": pl.lit("enc")}


def saliency_scores() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "image_id": f"i{i}", "method": "grad-cam", "weights": weights, "asked": "answer", "region": region,
            "energy": float(rng.random()), "area": 0.1, "hit": 1.0, "iou": 0.2, "correlation": None,
        }
        for i in range(12) for weights in ("trained", "random") for region in ("text", "lesion")
    ]  # fmt: skip
    rows += [
        dict.fromkeys(rows[0]) | {"image_id": f"i{i}", "method": "grad-cam", "weights": "trained", "asked": "answer"}
        | {"correlation": 0.25} for i in range(12)
    ]  # fmt: skip
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return summarise(frame, {f"i{i}": i for i in range(12)}, seed=0).with_columns(**NAMES)


def maps() -> pl.DataFrame:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 90).save(buffer, "PNG")
    drawn = {"image_id": "i0", "method": "grad-cam", "class": "<b>a", "map": buffer.getvalue()}
    drawn |= {"picture": buffer.getvalue(), "boxes": json.dumps({"text": [[0, 0, 0.5, 0.5]]})}
    kinds = (("trained", "answer"), ("trained", "label"), ("random", "answer"))
    return pl.DataFrame([drawn | {"weights": weights, "asked": asked} for weights, asked in kinds]).with_columns(
        **NAMES
    )


def written(blocks: object) -> str:
    return "".join(block.__html__() for block in blocks)  # type: ignore[attr-defined]


def test_saliency_of_a_cell_is_a_table_and_pictures() -> None:
    tables = ReportTables({"saliency_scores": saliency_scores(), "saliency_maps": maps()})
    html = written(saliency.PART.make(tables, CELL))
    assert html.count("<img") == 2
    assert "by 0.25 (Spearman)" in html
    assert html.index(">lesion<") < html.index(">text<")
    assert written(saliency.SECTION.make(tables)).count("<img") == 1
    assert saliency.PART.make(ReportTables(), CELL) == saliency.SECTION.make(ReportTables()) == []


def test_what_is_undefined_says_why() -> None:
    row = {"value": None, "note": "undefined: it was <imported>", "region": None, "metric": "energy"}
    frame = pl.DataFrame([row], schema_overrides={"value": pl.Float64}).with_columns(**NAMES)
    tables = ReportTables({"saliency_scores": frame, "typographic_attack": frame})
    for part in (saliency.PART, typographic_attack.PART):
        assert "it was &lt;imported&gt;" in written(part.make(tables, CELL))
    assert "No encoder has maps" in written(saliency.SECTION.make(tables))


@pytest.mark.parametrize("by", ["texts", "probe"])
def test_flips_are_a_row_for_each_class(by: str) -> None:
    codes = {
        name: np.arange(12) % k for name, k in {"planted": 2, "before": 3, "after": 2, "control": 3, "truth": 3}.items()
    }
    attack = Attack(**codes, groups=np.arange(12))
    rows = [
        {"planted": planted, "answered_by": by, "metric": r.metric, "value": r.value, "ci_low": r.ci_low}
        | {"ci_high": r.ci_high, "n": r.n, "note": r.note}
        for planted in (None, "<i>b") for r in measure_attack(attack, seed=0)
    ]  # fmt: skip
    tables = ReportTables({"typographic_attack": pl.DataFrame(rows, infer_schema_length=None).with_columns(**NAMES)})
    html = written(typographic_attack.PART.make(tables, CELL))
    assert html.count("<tr>") == 3
    assert "&lt;i&gt;b" in html
    assert ("linear probe" in html) == (by == "probe")
