"""The command line: the same assets as the Dagster UI, in this process."""

import contextlib
import json
import logging
import os
import sys
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from assets.printing import print_answer as _answer
from assets.printing import print_card as _print_card
from assets.printing import print_frame as _print
from assets.project import Project
from store.schema import CounterstainError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does an encoder see the lesion or the background?",
)
datasets_app = typer.Typer(help="Data sets: those registered here, and those known by name.")
embeddings_app = typer.Typer(no_args_is_help=True, help="Embeddings computed elsewhere.")
layouts_app = typer.Typer(no_args_is_help=True, help="UMAP layouts.")
app.add_typer(datasets_app, name="datasets")
app.add_typer(embeddings_app, name="embeddings")
app.add_typer(layouts_app, name="layouts")
views_app = typer.Typer(help="Named views: images selected in the explorer, or by a filter.")
app.add_typer(views_app, name="views")

WarehouseOption = Annotated[
    str | None,
    typer.Option("--warehouse", help="Folder or object-store URI; else COUNTERSTAIN_WAREHOUSE, else ./warehouse."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON array of objects.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV with a header.")]
ParquetOption = Annotated[Path | None, typer.Option(help="Write the answer to this Parquet file.")]


def main() -> None:
    """Run the command line; what the user can put right is one line, not a traceback."""
    logger = logging.getLogger("counterstain")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        app()
    except CounterstainError as error:
        typer.echo(f"counterstain: {error}", err=True)
        sys.exit(1)


@datasets_app.callback(invoke_without_command=True)
def show_data_sets(context: typer.Context, warehouse: WarehouseOption = None) -> None:
    """Without a command, show both."""
    if warehouse is not None:
        context.default_map = {command: {"warehouse": warehouse} for command in ("add", "list")}
    if context.invoked_subcommand is None:
        typer.echo("Registered in this warehouse:\n")
        list_data_sets(warehouse)
        typer.echo("\nKnown by name:\n")
        list_known_data_sets()


@datasets_app.command("add")
def add_data_set(
    name: Annotated[str, typer.Argument(help="Letters, digits, '_', '-' or '.'.")],
    reader: Annotated[str, typer.Option(help="The layout, such as folder or manifest, or the name of a known set.")],
    root: Annotated[Path, typer.Option(help="The folder or file the reader reads.")],
    label: Annotated[str | None, typer.Option(help="Column or labelling that holds the class; else the usual.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Column whose images must not straddle a split.")] = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Register a data set; nothing is read yet but the first entry."""
    from assets.registry import add_dataset
    from pipelines.sources import DataSet

    opened = _project(warehouse).open()
    registration = add_dataset(opened, DataSet(name, reader, root, label, tuple(group or ())))
    typer.echo(f"{name}: registered, first image {registration.first_uri}")


@datasets_app.command("list")
def list_data_sets(warehouse: WarehouseOption = None) -> None:
    """Show the registered data sets."""
    _print(_project(warehouse).open().frame("datasets").drop("registered_at").sort("dataset").collect())


@datasets_app.command("known")
def list_known_data_sets(
    name: Annotated[str | None, typer.Argument(help="One of them, with all that is known of it.")] = None,
) -> None:
    """Show the data sets that are read by name, from files at hand."""
    from assets.registry import known_sets
    from pipelines.readers import readers

    known = known_sets()
    if name is not None:
        if name not in known:
            raise CounterstainError(f"no known data set {name!r}; known: {', '.join(known)}.")
        _print_card(known[name])
        return
    rows = [
        {
            "reader": reader,
            "images": about.images,
            "classes": about.classes if isinstance(about.classes, int) else len(about.classes),
            "modality": about.modality,
            "groups": ", ".join(about.groups),
            "known background": "; ".join(about.confounders),
            "licence": about.licence,
            "where": about.obtain,
        }
        for reader, about in known.items()
    ]
    _print(pl.DataFrame(rows))
    layouts = ", ".join(sorted(readers().keys() - known.keys()))
    typer.echo(
        "\nRegister one: `counterstain datasets add NAME --reader READER --root PATH`. All that is known of one: "
        f"`counterstain datasets known READER`.\nReaders of common layouts: {layouts}."
    )


@app.command()
def encoders(
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of each, as one JSON array.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Show the registered encoders, and those fine-tuned in this warehouse."""
    from pipelines.exposure import data_sets_seen

    specs = sorted(_project(warehouse).encoder_specs().values(), key=lambda spec: (spec.group, spec.name))
    if as_json:
        known = [{key: value for key, value in vars(spec).items() if not callable(value)} for spec in specs]
        typer.echo(json.dumps(known, default=dict, ensure_ascii=False))
        return
    rows = [
        {
            "name": spec.name,
            "group": spec.group,
            "dimension": spec.dimension,
            "text side": "yes" if spec.load_text else "not run" if spec.text_side and not spec.variant_of else "",
            "gated": "yes" if spec.gated else "",
            "licence": spec.licence,
            "medical images in training": ", ".join([*spec.modalities, *data_sets_seen(spec.exposure)]),
        }
        for spec in specs
    ]
    _print(pl.DataFrame(rows))


@app.command()
def materialize(
    dataset: Annotated[list[str], typer.Option(help="Data set; may be given several times.")],
    encoder: Annotated[list[str] | None, typer.Option(help="Encoder; may be given several times.")] = None,
    asset: Annotated[str | None, typer.Option(help="Only this asset and what it needs; else all.")] = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Make what is missing or stale, in order; again, there is nothing to do."""
    from assets import materializing

    project = _project(warehouse)
    with materializing.dagster_instance(project) as instance:
        made = materializing.materialize(project, instance, dataset, encoder or [], asset)
    for cell, names in groupby(made, key=itemgetter(0)):
        typer.echo(f"{cell}: {', '.join(name for _, name in names)}")
    if not made:
        typer.echo("nothing to do")


@app.command()
def status(warehouse: WarehouseOption = None) -> None:
    """Show what has been made of which cell, and what is stale."""
    from assets.materializing import states

    rows = states(_project(warehouse))
    if rows:
        _print(pl.DataFrame(rows))
    else:
        typer.echo("No data set yet: `counterstain datasets add`, or `counterstain demo`.")


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One SELECT over the tables; with --tables, a table.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file that holds the SELECT; - reads standard input.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="A value of $name, as name=value; several times.")] = None,
    tables: Annotated[bool, typer.Option(help="Say what every table and column means, instead.")] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    parquet: ParquetOption = None,
    as_of: Annotated[str | None, typer.Option(help="Read the tables as of a tag.")] = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Answer a question in SQL (DuckDB's dialect), read-only."""
    from assets import asking
    from store import open_warehouse

    opened = open_warehouse(_project(warehouse).warehouse, as_of=as_of)
    if not tables:
        _answer(asking.ask(opened, query, file, param or ()), as_json, as_csv, parquet=parquet)
        return
    described = opened.describe(query)
    if as_json or as_csv or parquet:
        _answer(described, as_json, as_csv, parquet=parquet)
    else:
        typer.echo(asking.dictionary(described))


@app.command("compare")
def compare_with_published(
    all_cells: Annotated[bool, typer.Option("--all", help="The published cells not measured here, too.")] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Show what was measured here beside what the study published."""
    from assets.published_comparison import comparison

    rows = comparison(_project(warehouse).open())
    if not all_cells:
        rows = rows.filter(pl.col("value").is_not_null())
    if rows.is_empty():
        raise CounterstainError(
            "nothing to compare yet: probe a data set of the study first, registered with the reader of its name "
            "(`counterstain datasets`); --all shows the published scores alone."
        )
    _answer(rows, as_json, as_csv, rows.select(_COMPARED).with_columns(pl.col(pl.Float64).round(3)))


# Columns that fit a terminal; the rest are in --csv and --json.
_COMPARED = (
    "dataset", "encoder", "metric", "value", "ci_low", "ci_high", "published", "published_std", "difference",
    "published_low", "published_high", "note",
)  # fmt: skip


@app.command()
def search(
    encoder: Annotated[str, typer.Option(help="Whose idea of nearness.")],
    image: Annotated[str | None, typer.Argument(help="An image file, or the id of a stored image.")] = None,
    text: Annotated[str | None, typer.Option(help="Instead of an image: words, for encoders with a text side.")] = None,
    centroid_of: Annotated[
        str | None, typer.Option(help="Instead of an image: the mean of those that fit, such as \"label = 'benign'\".")
    ] = None,
    centroid_of_view: Annotated[
        str | None, typer.Option(help="Instead of an image: the mean of the images of this named view.")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Search this data set only; several times.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL filter on the metadata, such as \"label = 'benign'\".")] = None,
    view: Annotated[str | None, typer.Option(help="Search the images of this named view only.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    exclude_same_group: Annotated[
        bool, typer.Option("--exclude-same-group", help="No image of the query's own patient, slide, group or copies.")
    ] = False,
    sheet: Annotated[Path | None, typer.Option(help="Draw the answer, too: a file that ends in .png or .html.")] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    parquet: ParquetOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Find the stored images nearest to an image, to a text, or to the centroid of some."""
    from assets import finding

    project = _project(warehouse)
    found = finding.find(
        project, encoder, finding.Asked(image, text, centroid_of, centroid_of_view), datasets=dataset or (),
        where=where, view=view, k=k, exclude_same_group=exclude_same_group,
    )  # fmt: skip
    if not (as_json or as_csv or parquet):
        typer.echo(found.query.words)
    _answer(
        found.rows, as_json, as_csv, found.rows.select(finding.SHOWN).with_columns(pl.col("distance").round(4)), parquet
    )
    if sheet is not None:
        typer.echo(f"{finding.write_sheet(project.open(), found, sheet)}", err=as_json or as_csv)


@app.command()
def words(
    text: Annotated[str, typer.Argument(help="Words burned into images, such as 'axilla'.")],
    dataset: Annotated[str | None, typer.Option(help="Search this data set only.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many at most.")] = 20,
    warehouse: WarehouseOption = None,
) -> None:
    """Find the images whose burned-in text holds any of the words."""
    _print(_project(warehouse).open().search_text(text, dataset=dataset, k=k))


@app.command()
def explain(
    image: Annotated[str, typer.Argument(help="An image file, or the id of a stored image.")],
    encoder: Annotated[str, typer.Option(help="Whose idea of nearness.")],
    dataset: Annotated[str, typer.Option(help="Among the images of this data set.")],
    k: Annotated[int | None, typer.Option("-k", help="How many neighbours; else COUNTERSTAIN_K.")] = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Say what the neighbours of an image have in common: the label, or a background."""
    from assets.searching import explain_image

    project = _project(warehouse)
    shared, found = explain_image(project, encoder, image, dataset=dataset, k=k or project.k)
    _print(shared.with_columns(pl.col("share", "share_in_data_set").round(2)))
    _print(found.select("image_id", "distance", "label", "text_overlay", "overlay_text", "annotation", "uri"))


@app.command()
def calibrate(
    repetitions: Annotated[
        int | None, typer.Option(min=1, help="Sets with nothing planted; else COUNTERSTAIN_CALIBRATION_REPETITIONS.")
    ] = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Measure the audits' own error rates where the truth is known; minutes. The next report shows them."""
    from assets import materializing

    # A copy of the settings would not do: Dagster hands steps what they were made with.
    given = {} if repetitions is None else {"COUNTERSTAIN_CALIBRATION_REPETITIONS": str(repetitions)}
    project = Project.from_environment({**os.environ, **given}, warehouse=warehouse)
    with materializing.dagster_instance(project) as instance:
        materializing.materialize(project, instance, [], [], "calibration")
    rates = project.open().frame("calibration").filter(pl.col("rejected").is_not_null(), pl.col("strength") == 0)
    columns = ["world", "metric", "association", "images", "repetitions", "rejected", "rejected_ci_low"]
    _print(rates.sort("row").select(*columns, "rejected_ci_high", "undefined").collect())


@app.command()
def finetune(
    dataset: Annotated[str, typer.Argument(help="Data set.")],
    encoder: Annotated[str, typer.Argument(help="Encoder to begin with.")],
    mode: Annotated[str | None, typer.Option(help="linear: a head on its vectors; full: the encoder too.")] = None,
    multi_label: Annotated[bool | None, typer.Option("--multi-label", help="Labels are sets, joined by ';'.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most; else 10.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without a lower validation loss; else 5.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step; else 24.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Else 1e-4 (linear) or 1e-5 (full).")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16; else what suits the device.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of parts, head and order; else COUNTERSTAIN_SEED.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the training and its encoder; else made of the above.")] = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Train a linear head or a whole encoder by gradient, and show its held-out scores; again, it goes on."""
    from assets.training import finetune as run

    settings = {
        "FINETUNE_MODE": mode, "FINETUNE_MULTI_LABEL": multi_label, "FINETUNE_EPOCHS": epochs,
        "FINETUNE_PATIENCE": patience, "FINETUNE_BATCH_SIZE": batch_size, "FINETUNE_LEARNING_RATE": learning_rate,
        "FINETUNE_PRECISION": precision, "SEED": seed, "FINETUNE_NAME": name,
    }  # fmt: skip
    given = {f"COUNTERSTAIN_{key}": str(value) for key, value in settings.items() if value is not None}
    done = run(Project.from_environment({**os.environ, **given}, warehouse=warehouse), dataset, encoder)
    _print(done.scores)
    if done.shift is None:
        return
    typer.echo(f"\nThe encoder {done.name}, before and after, on images held out from its training:\n")
    _print(done.shift)


@app.command()
def correct(
    dataset: Annotated[str, typer.Argument(help="Data set.")],
    table: Annotated[Path, typer.Argument(help="CSV with a column image_id or uri, and those to correct.")],
    warehouse: WarehouseOption = None,
) -> None:
    """Correct labels, groups or flags from a CSV, everywhere, without encoding again."""
    corrected = _project(warehouse).open().correct(dataset, _read_csv(table))
    typer.echo(f"{dataset}: {corrected} images corrected")


@embeddings_app.command("import")
def import_vectors(
    vectors: Annotated[Path, typer.Argument(help=".npy matrix (n, d).")],
    manifest: Annotated[Path, typer.Argument(help="CSV of n rows with a column image_id or uri.")],
    encoder: Annotated[str, typer.Option(help="A name of your own for what made them.")],
    dataset: Annotated[str, typer.Option(help="Data set they belong to.")],
    warehouse: WarehouseOption = None,
) -> None:
    """Bring in vectors computed elsewhere, as an encoder of their own."""
    from assets.searching import import_as_encoder

    count = import_as_encoder(_project(warehouse).open(), encoder, dataset, vectors, _read_csv(manifest))
    typer.echo(f"{dataset} x {encoder}: {count} vectors")


OutOption = Annotated[Path, typer.Option(help="File that ends in .png, .svg or .pdf.")]
ColourOption = Annotated[str, typer.Option(help="label, a background column or an attribute.")]


@layouts_app.command("draw")
def draw_layouts(
    dataset: Annotated[str, typer.Argument(help="Data set.")],
    encoder: Annotated[str, typer.Option(help="Encoder.")],
    out: OutOption,
    colour_by: ColourOption = "label",
    warehouse: WarehouseOption = None,
) -> None:
    """Draw all layouts of one encoder, n_neighbors down and min_dist across."""
    from assets.layouts import draw_grid

    typer.echo(f"{draw_grid(_project(warehouse), dataset, encoder, colour_by=colour_by, out=out)}")


@layouts_app.command("compare")
def compare_layouts(
    dataset: Annotated[str, typer.Argument(help="Data set.")],
    out: OutOption,
    colour_by: ColourOption = "label",
    n_neighbors: Annotated[int | None, typer.Option(help="Else what is nearest to 15.")] = None,
    min_dist: Annotated[float | None, typer.Option(help="Else what is nearest to 0.1.")] = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Draw one layout of every encoder, side by side and turned alike."""
    from assets.layouts import draw_encoders

    drawn = draw_encoders(
        _project(warehouse), dataset, colour_by=colour_by, out=out, n_neighbors=n_neighbors, min_dist=min_dist
    )
    typer.echo(f"{drawn}")


@layouts_app.command("place")
def place_in_layout(
    image: Annotated[str, typer.Argument(help="An image file.")],
    encoder: Annotated[str, typer.Option(help="Encoder.")],
    dataset: Annotated[str, typer.Option(help="Data set it is placed among.")],
    n_neighbors: Annotated[int, typer.Option(help="Of the layout.")] = 15,
    min_dist: Annotated[float, typer.Option(help="Of the layout.")] = 0.1,
    warehouse: WarehouseOption = None,
) -> None:
    """Place a new image into a stored layout, and print its x and y."""
    from assets.layouts import place_image

    x, y = place_image(_project(warehouse), image, encoder, dataset, n_neighbors=n_neighbors, min_dist=min_dist)
    typer.echo(f"{x:.4f} {y:.4f}")


@views_app.callback(invoke_without_command=True)
def show_views(context: typer.Context, warehouse: WarehouseOption = None) -> None:
    """Without a command, list them."""
    from assets.views import stored_views

    if warehouse is not None:
        context.default_map = {command: {"warehouse": warehouse} for command in ("save", "remove", "probe")}
    if context.invoked_subcommand is None:
        views = stored_views(_project(warehouse).open())
        _print(views.with_columns(pl.col("predicate").str.head(60)))  # a lasso is thousands of characters


@views_app.command("save")
def save_view(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and _: SQL reads it as a table.")],
    dataset: Annotated[str, typer.Option(help="Data set.")],
    where: Annotated[str, typer.Option(help="SQL filter over images, such as \"overlay_text = 'AXILLA'\".")],
    warehouse: WarehouseOption = None,
) -> None:
    """Keep the images that fit a filter, as they are now, under a name."""
    from assets.views import save_where

    typer.echo(f"{name}: {save_where(_project(warehouse).open(), name, dataset, where)} images")


@views_app.command("remove")
def remove_view(
    name: Annotated[str, typer.Argument(help="View.")],
    warehouse: WarehouseOption = None,
) -> None:
    """Forget a view; its images stay."""
    from store.views import remove_view as remove

    remove(_project(warehouse).open(), name)


@views_app.command("probe")
def probe_view(
    name: Annotated[str, typer.Argument(help="View.")],
    encoder: Annotated[str, typer.Option(help="Encoder.")],
    warehouse: WarehouseOption = None,
) -> None:
    """Score the label among a view's images alone, and how well features tell which images are in it."""
    from assets.views import probe_view as probe

    columns = ["target", "split", "metric", "value", "ci_low", "ci_high", "n"]
    scores = probe(_project(warehouse), name, encoder).select(columns)
    _print(scores.with_columns(pl.col("value", "ci_low", "ci_high").round(3)))


ReportedOption = Annotated[
    list[str] | None, typer.Option(help="Only this data set; may be given several times. Else all.")
]


@app.command("report")
def write_bias_report(
    output: Annotated[Path | None, typer.Option(help="HTML file; else where the asset bias_report writes.")] = None,
    dataset: ReportedOption = None,
    warehouse: WarehouseOption = None,
) -> None:
    """Write the bias report of what there is: one HTML file that needs no network."""
    from assets.bias_report import make_report, report_path, write_report
    from assets.step import Cell

    project = _project(warehouse)
    found, html = make_report(Cell(project, project.open(), "", ""), dataset or ())
    path = output or report_path(project)
    write_report(html, path)
    cells = found.select("dataset", "encoder").n_unique()
    typer.echo(f"{path}: {cells} data set x encoder, {len(html.encode()) / 1e6:.1f} MB")


@app.command("export")
def export_numbers(
    output: Annotated[Path, typer.Option(help="A new or empty folder.")],
    dataset: ReportedOption = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="The embeddings, too.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="Thumbnails, too, in the Parquet files.")] = False,
    warehouse: WarehouseOption = None,
) -> None:
    """Write every number as Parquet and CSV, with a README that says what each column means."""
    from assets.exporting import export_tables
    from assets.step import Cell

    project = _project(warehouse)
    cell = Cell(project, project.open(), "", "")
    _print(export_tables(cell, output, datasets=dataset or (), vectors=vectors, pictures=pictures))


@app.command()
def phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder to write images and manifest.csv into.")],
    modality: Annotated[str, typer.Option(help="ultrasound, radiograph or tissue.")] = "ultrasound",
    images: Annotated[int, typer.Option(help="How many.")] = 600,
    strength: Annotated[float, typer.Option(help="How conspicuous the planted background is, 0 to 1.")] = 1.0,
    association: Annotated[float, typer.Option(help="How strongly it goes with the label, 0 to 1.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Draw a data set with known lesions and a known planted background."""
    from assets.demo import draw_phantoms

    typer.echo(f"{draw_phantoms(folder, modality, images, strength, association, seed)}")


@app.command()
def demo(warehouse: WarehouseOption = None) -> None:
    """Run the main job on phantoms, from drawing them to the bias report, and say what was found."""
    from assets.demo import run_demo

    typer.echo(run_demo(_project(warehouse), sys.argv[0]))


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reachable from this machine only.")
    ] = "127.0.0.1",
    warehouse: WarehouseOption = None,
) -> None:
    """Serve the Dagster UI on the same project."""
    from assets import materializing

    project = _project(warehouse)
    with materializing.dagster_instance(project):
        pass  # every known data set and encoder is a partition now
    os.environ["DAGSTER_HOME"] = str(materializing.prepare_dagster_home(project))
    os.environ["COUNTERSTAIN_WAREHOUSE"] = project.open().uri
    command = [sys.executable, "-m", "dagster", "dev", "-m", "assets.definitions", "-h", host, "-p", str(port)]
    typer.echo(f"Dagster UI: http://{host}:{port} (Ctrl-C ends it)", err=True)
    os.execv(command[0], command)  # Dagster takes this process's place, and its signals


@app.command()
def explore(
    dataset: Annotated[str | None, typer.Option("--dataset", "--data-set", help="Shown first.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Shown first.")] = None,
    layout: Annotated[str | None, typer.Option(help="n_neighbors,min_dist; else what is nearest to 15,0.1.")] = None,
    port: Annotated[int, typer.Option(help="Port.")] = 5055,
    warehouse: WarehouseOption = None,
) -> None:
    """Serve a map of the images to this machine's browser: colour, hover, lasso, neighbours, SQL, views to keep."""
    from assets.explorer.answers import Explorer, parse_setting
    from assets.explorer.serving import ExplorerServer

    project = _project(warehouse)
    setting = None if layout is None else parse_setting(layout)
    server = ExplorerServer(
        port, lambda address: Explorer(project, address, dataset=dataset, encoder=encoder, setting=setting)
    )
    typer.echo(f"explorer: {server.address} (Ctrl-C ends it)", err=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


@app.command()
def maintain(warehouse: WarehouseOption = None) -> None:
    """Compact and index the tables, and let go of old versions that no tag names."""
    _project(warehouse).open().maintain()


def _project(warehouse: str | None) -> Project:
    return Project.from_environment(warehouse=warehouse)


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CounterstainError(f"cannot read {path} as CSV: {error}") from error
