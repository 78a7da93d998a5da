"""The commands that write what there is: the report, and every number as files."""

import io
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from analysis.verdicts import VERDICTS
from assets.bias_report import STEP, report_path
from assets.cli import app
from assets.exporting import export_tables
from assets.project import Project
from assets.registry import add_dataset
from assets.step import Cell
from pipelines.sources import DataSet
from store.descriptions import undescribed
from store.results import write_results
from store.runs import Run, record_run
from store.schema import IMAGE_ATTRIBUTES, IMAGES, NEIGHBOR_AUDITS, OVERLAY_SHIFT_EXAMPLES, OVERLAYS, CounterstainError

NAME = "GARCIA, MARIA"
HOSTILE = "<script>alert(1)</script>|*x*"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """Two data sets of four images, one with a name burned in; one hostile audit; no encoder has run."""
    root = tmp_path_factory.mktemp("export")
    project = Project(warehouse=str(root / "warehouse"))
    warehouse = project.open()
    for dataset in ("d", "e"):
        folder = root / dataset / "a"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(png())
        add_dataset(warehouse, DataSet(dataset, "folder", folder.parent))
        rows = [
            {
                "dataset": dataset,
                "image_id": f"{dataset}{i}",
                "content_hash": f"{dataset}{i // 2}",
                "uri": f"{HOSTILE}{i}.png",
                "label": "ab"[i % 2],
                "text_overlay": i < 2,
                "overlay_text": (NAME, "AXILLA", None, None)[i],
                "overlay_boxes": [[0, 0, 1, i + 1]],
                "thumbnail": png(),
                "caption": f"seen by {NAME}",
            }
            for i in range(4)
        ]
        warehouse.replace_partition(IMAGES, pa.Table.from_pylist(rows, schema=IMAGES.schema), dataset=dataset)
        found = [
            {
                "dataset": dataset,
                "image_id": f"{dataset}{i}",
                "item": 0,
                "kind": "word",
                "text": text,
                "term": text,
                "box": [0, 0, 1, 1],
                "confidence": 0.9,
                "possible_identifying": text == NAME,
            }
            for i, text in enumerate((NAME, "AXILLA"))
        ]
        warehouse.replace_partition(OVERLAYS, pa.Table.from_pylist(found, schema=OVERLAYS.schema), dataset=dataset)
        if dataset == "d":  # the other is not searched yet
            seen = [{"dataset": "d", "image_id": f"d{i}", "text_overlay": i < 2} for i in range(4)]
            attributes = pa.Table.from_pylist(seen, schema=IMAGE_ATTRIBUTES.schema)
            warehouse.replace_partition(IMAGE_ATTRIBUTES, attributes, dataset="d")
        audit = pl.DataFrame(NEIGHBOR_AUDITS.schema.empty_table()).drop("dataset", "encoder", "row")
        numbers = {"audit": "a", "confounder": HOSTILE, "metric": "bras", "value": 0.25, "n": 4, "note": HOSTILE}
        audit = pl.concat([audit, pl.DataFrame([numbers], schema_overrides=audit.schema)], how="diagonal")
        write_results(warehouse, NEIGHBOR_AUDITS, audit.select(audit.columns), dataset=dataset, encoder="enc")
        example = pl.DataFrame(
            {"image_id": ["d0"], "intervention": ["text removed"], "shift": [0.5], "picture": [png()]}
        )
        write_results(warehouse, OVERLAY_SHIFT_EXAMPLES, example, dataset=dataset, encoder="enc")
    made = {"code_version": "1", "data_version": "v", "inputs": {}, "rows": 4, "seconds": 1.0}
    parameters = {"root": str(root), "reader": "folder"}
    record_run(warehouse, Run(run_id="r", asset="images", dataset="d", encoder="", parameters=parameters, **made))
    return Cell(project, warehouse, "", "")


def test_every_number_is_written_twice_and_described(cell: Cell, tmp_path: Path) -> None:
    written = export_tables(cell, tmp_path / "out")
    assert dict(written.iter_rows()) == {
        "images": 8,
        "overlays": 4,
        "image_attributes": 4,
        "runs": 1,
        "overlay_shift_examples": 2,
        "neighbor_audits": 2,
    }
    for name, rows in written.iter_rows():
        parquet = pl.read_parquet(tmp_path / "out/parquet" / f"{name}.parquet")
        csv = pl.read_csv(tmp_path / "out/csv" / f"{name}.csv", infer_schema=False)
        assert parquet.height == csv.height == rows
        assert parquet.columns == csv.columns
        assert pl.Binary not in parquet.dtypes
    audits = pl.read_parquet(tmp_path / "out/parquet/neighbor_audits.parquet")
    assert audits["value"].to_list() == [0.25, 0.25]
    assert audits["note"].to_list() == [HOSTILE, HOSTILE]
    boxes = pl.read_csv(tmp_path / "out/csv/images.csv")["overlay_boxes"]
    assert json.loads(boxes[3]) == [[0, 0, 1, 4]]
    columns = pl.read_csv(tmp_path / "out/columns.csv")
    assert columns["meaning"].null_count() == 0
    readme = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "## neighbor_audits\n\n2 rows; one is one metric of one neighbour audit." in readme
    assert "| p_value | Float64 | " in readme


def test_words_that_may_identify_are_in_no_file(cell: Cell, tmp_path: Path) -> None:
    export_tables(cell, tmp_path / "out", pictures=True)
    images = pl.read_parquet(tmp_path / "out/parquet/images.parquet")
    assert images.filter(dataset="d")["overlay_text"].to_list() == [None, "AXILLA", None, None]
    overlays = pl.read_parquet(tmp_path / "out/parquet/overlays.parquet")
    assert overlays.filter(dataset="d")["text"].to_list() == [None, "AXILLA"]
    assert "caption" not in images.columns
    runs = pl.read_parquet(tmp_path / "out/parquet/runs.parquet")
    assert json.loads(runs["parameters"][0]) == {"reader": "folder"}
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file() and file.suffix != ".parquet":
            text = file.read_text(encoding="utf-8")
            assert NAME not in text, file
            assert str(Path(cell.project.warehouse).parent) not in text, file
    # Of the second data set nobody knows yet what to cover.
    assert images["thumbnail"].to_list() == [png()] * 4 + [None] * 4


def test_one_data_set_is_exported_alone(cell: Cell, tmp_path: Path) -> None:
    written = export_tables(cell, tmp_path / "out", datasets=["e"])
    assert dict(written.iter_rows())["images"] == 4
    assert set(pl.read_parquet(tmp_path / "out/parquet/images.parquet")["dataset"]) == {"e"}
    with pytest.raises(CounterstainError, match="no data set 'x'"):
        export_tables(cell, tmp_path / "other", datasets=["x"])
    with pytest.raises(CounterstainError, match="is not an empty folder"):
        export_tables(cell, tmp_path / "out")
    empty = Project(warehouse=str(tmp_path / "empty"))
    with pytest.raises(CounterstainError, match="nothing to export yet"):
        export_tables(Cell(empty, empty.open(), "", ""), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_every_column_is_described() -> None:
    assert undescribed() == []


def test_the_report_is_written_where_it_is_wanted(cell: Cell, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "r.html"
    arguments = ["report", "--output", str(path), "--warehouse", cell.project.warehouse]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.output.startswith(f"{path}: 2 data set x encoder, ")
    html = path.read_text(encoding="utf-8")
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;|*x*0.png") == 2  # a copy of each data set
    assert NAME not in html
    assert str(Path(cell.project.warehouse).parent) not in html
    assert "This report is partial" in html
    assert [file.name for file in path.parent.iterdir()] == ["r.html"]
    CliRunner().invoke(app, [*arguments, "--dataset", "e"], catch_exceptions=False)
    alone = path.read_text(encoding="utf-8")
    assert "1 data set, " in alone
    assert ">d<" not in alone
    with pytest.raises(CounterstainError, match="no data set 'x'"):
        CliRunner().invoke(app, [*arguments, "--dataset", "x"], catch_exceptions=False)
    with pytest.raises(CounterstainError, match="cannot be written"):
        CliRunner().invoke(app, [*arguments[:2], str(path / "r.html"), *arguments[3:]], catch_exceptions=False)


def test_every_verdict_is_counted_where_it_occurs_nowhere_too(tmp_path: Path) -> None:
    project = Project(warehouse=str(tmp_path / "empty"))
    made = STEP.make(Cell(project, project.open(), "", ""))
    assert {name: count for name, count in made.summary.items() if name != "report size (MB)"} == dict.fromkeys(
        VERDICTS, 0
    )
    assert report_path(project).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
