import io
import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import polars as pl
import pytest
from PIL import Image

from analysis.audits import run_audits
from analysis.figures import SHOWN_METRICS
from analysis.neighbors import cosine_neighbors
from analysis.probes import probe
from analysis.report import ReportTables, render_report, report_tables, wanted_images
from analysis.report.tables import telling_images, telling_neighbors
from analysis.telling import telling_pairs
from analysis.verdicts import verdicts
from tests import worlds

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x.png onerror=alert(2)>\"'{{ 7*7 }}"
VOID = {"meta", "img", "br", "path", "circle", "link", "input", "hr"}


class Document(HTMLParser):
    """Tags with attributes, text, and whether tags are nested as they should be."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text, self.ids = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def jpeg(seed, side=96):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def named(frame, dataset, encoder):
    return frame.with_columns(pl.lit(dataset).alias("dataset"), pl.lit(encoder).alias("encoder"))


def cell(dataset, encoder, world, *, n_layouts=6):
    """Return the tables of one cell, made as the warehouse makes them."""
    ids = pl.Series([f"{dataset}-{i:03}" for i in range(len(world.labels))])
    backgrounds = {"text_overlay": world.confounder}
    neighbors = cosine_neighbors(world.vectors, 20, groups=world.groups)
    near = neighbors.first(8).indices
    query = np.repeat(np.arange(len(ids)), 8)
    found = near.reshape(-1)
    lists = pl.DataFrame(
        {
            "image_id": ids.gather(query),
            "rank": np.tile(np.arange(1, 9, dtype=np.int32), len(ids)),
            "neighbor_id": ids.gather(found),
            "distance": neighbors.first(8).distances.reshape(-1),
            "same_label": world.labels[query] == world.labels[found],
            "same_background": [
                ["text_overlay"] if same else [] for same in world.confounder[query] == world.confounder[found]
            ],
        }
    )
    results = [
        probe(world.vectors, values, world.groups, protocol=protocol, target=target, seed=0, strata=strata)
        for target, values, protocol, strata in (
            ("label", world.labels, "published", backgrounds),
            ("label", world.labels, "grouped", backgrounds),
            ("text_overlay", world.confounder, "grouped", {}),
        )
    ]
    scores = pl.concat(result.scores for result in results).with_columns(note=pl.lit("made"))
    summary = scores.filter(pl.col("fold").is_null(), target="label", stratum="all")
    rng = np.random.default_rng(0)
    grid = [(k, d) for k in (15, 50, 200) for d in (0.1, 0.5)][:n_layouts]
    points = [
        pl.DataFrame({"image_id": ids, "x": rng.normal(size=len(ids)), "y": rng.normal(size=len(ids))}).with_columns(
            pl.lit(k, pl.Int32).alias("n_neighbors"), pl.lit(d).alias("min_dist")
        )
        for k, d in grid
    ]
    quality = pl.DataFrame(
        [{"n_neighbors": k, "min_dist": d, "metric": "trustworthiness", "value": 0.9, "seed": 7} for k, d in grid],
        schema_overrides={"n_neighbors": pl.Int32},
    )
    audits = run_audits(neighbors, world.labels, backgrounds, world.groups, k=5, seed=0)
    pairs = telling_pairs(neighbors, world.labels, world.confounder)
    pairs = pairs.with_columns(
        confounder=pl.lit("text_overlay"),
        image_id=ids.gather(pairs["image"]),
        neighbor_id=ids.gather(pairs["neighbor"]),
    )
    frames = {
        "telling_neighbors": pairs.drop("image", "neighbor"),
        "probe_scores": scores,
        "neighbor_audits": audits,
        "neighbors": lists,
        "leaderboard": summary.with_columns(rank=pl.lit(1)),
        "layouts": pl.concat(points),
        "layout_quality": quality,
    }
    return {name: named(frame, dataset, encoder) for name, frame in frames.items()}


def assemble(cells, images):
    frames = {name: pl.concat(part[name] for part in cells) for name in cells[0]}
    findings = verdicts(frames["probe_scores"], frames["neighbor_audits"])
    runs = pl.DataFrame(
        [
            {
                "run_id": f"run-{asset}",
                "asset": asset,
                "dataset": "us",
                "encoder": "enc",
                "code_version": "3",
                "data_version": "d" * 32,
                "parameters": json.dumps({"seed": 7, "note": HOSTILE}),
                "fingerprint": "f" * 32,
                "rows": 1234,
                "seconds": 1.0,
                "finished_at": datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
            }
            for asset in ("svm_probes", "images")
        ]
    )
    rejects = pl.DataFrame({"dataset": ["us"], "uri": [f"bad/{HOSTILE}.png"], "reason": [HOSTILE]})
    tables = ReportTables(frames | {"findings": findings, "images": images, "rejects": rejects, "runs": runs})
    return replace(tables, thumbnails={key: jpeg(i) for i, key in enumerate(wanted_images(tables))})


def changed(tables, **frames):
    return replace(tables, frames={**tables.frames, **frames})


def images_of(dataset, world):
    n = len(world.labels)
    return pl.DataFrame(
        {
            "dataset": [dataset] * n,
            "image_id": [f"{dataset}-{i:03}" for i in range(n)],
            "content_hash": [f"{dataset}-{min(i, n - 2)}" for i in range(n)],  # the last two are one picture
            "uri": [f"{dataset}/{i}.png" for i in range(n - 1)] + [f"{HOSTILE}.png"],
            "label": world.labels,
            "text_overlay": world.confounder,
            "attributes": [json.dumps({"scanner": HOSTILE})] * n,
        }
    )


@pytest.fixture(scope="module")
def tables():
    world = worlds.background_only()
    return assemble([cell("us", "enc", world, n_layouts=1)], images_of("us", world))


@pytest.fixture(scope="module")
def html(tables):
    return render_report(tables)


@pytest.fixture(scope="module")
def document(html):
    return Document(html)


def test_the_verdict_comes_first_and_in_words(document, tables):
    words = document.words
    assert "Separates images by burned-in words before the label" in words
    assert words.index("Separates images by") < words.index("Methods Probe")
    assert "Crop or mask the burned-in words" in words
    for sentence in tables["findings"]["sentence"]:
        assert " ".join(sentence.split()) in words


def test_numbers_are_those_of_the_tables(document, tables):
    def written(row, value, low, high):
        return f"{row[value]:.2f} [{row[low]:.2f}, {row[high]:.2f}]"

    finding = tables["findings"].row(1, named=True)
    for name in ("decodability", "agreement"):
        shown = written(finding, name, f"{name}_ci_low", f"{name}_ci_high")
        assert f"{shown} vs {finding[f'{name}_expected']:.2f}" in document.words
    assert written(finding, "robustness_index", "robustness_ci_low", "robustness_ci_high") in document.words
    held_out = tables["leaderboard"].filter(pl.col("metric").is_in(["macro_f1", "accuracy"]), split="test")
    assert held_out.height == 4
    strata = tables["probe_scores"].filter(
        pl.col("fold").is_null(), target="label", protocol="grouped", split="cv", metric="accuracy"
    )
    assert strata.height == 4
    for row in (*held_out.iter_rows(named=True), *strata.iter_rows(named=True)):
        assert written(row, "value", "ci_low", "ci_high") in document.words
    by_value = strata.filter(pl.col("stratum") != "all")["value"]
    assert f"{by_value.max() - by_value.min():.2f} intervals" in document.words
    for row in tables["neighbor_audits"].filter(pl.col("ci_low").is_not_null()).iter_rows(named=True):
        chance = "–" if row["expected"] is None else f"{row['expected']:.2f}"
        foremost = row["metric"] in SHOWN_METRICS
        between = " vs " if foremost else " "
        assert f"{written(row, 'value', 'ci_low', 'ci_high')}{between}{chance}" in document.words


def test_text_from_data_is_only_text(tables):
    world = worlds.background_only()
    hostile = {"us": HOSTILE, "enc": f"e{HOSTILE}"}
    frames = {}
    for name, frame in tables.frames.items():
        names = [pl.col(c).replace(hostile) for c in ("dataset", "encoder") if c in frame.columns]
        texts = [pl.lit(HOSTILE).alias(c) for c in ("sentence", "note") if c in frame.columns]
        confounders = [pl.col(c).replace({"text_overlay": HOSTILE}) for c in ("confounder",) if c in frame.columns]
        frames[name] = frame.with_columns(*names, *texts, *confounders)
    frames["images"] = images_of(HOSTILE, world).with_columns(label=pl.lit(HOSTILE), text_overlay=pl.lit(HOSTILE))
    strata = pl.col("stratum").str.replace("breast", HOSTILE, literal=True)
    frames["probe_scores"] = frames["probe_scores"].with_columns(strata)
    document = Document(render_report(ReportTables(frames)))
    assert document.all("script") == []
    assert all(image["src"].startswith("data:image/") for image in document.all("img"))
    assert not any(name.startswith("on") for _, attributes in document.tags for name in attributes)
    assert HOSTILE in document.words
    assert "49" not in re.findall(r"\{\{ (\S+) \}\}", document.words)


def test_nothing_is_fetched_and_nothing_runs(html, document):
    policy = next(m["content"] for m in document.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    assert {tag for tag, _ in document.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"} == set()
    for _, attributes in document.tags:
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:").startswith("data:")
        assert not attributes.keys() & {"srcset", "action", "data", "xlink:href"}
    assert "url(" not in html
    assert "@import" not in html


def test_every_link_leads_somewhere_and_headings_are_in_order(document):
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for attributes in document.all("a")}
    assert links <= {f"#{name}" for name in ids}
    assert {"#verdict", "#leaderboard", "#cell-0", "#methods", "#glossary"} <= links
    assert all(image["alt"] for image in document.all("img"))
    levels = [int(tag[1]) for tag, _ in document.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_pictures_are_of_layouts_audits_neighbours_and_leaderboard(document):
    captions = [image["alt"] for image in document.all("img")]
    assert captions == [
        "Macro F1 of every encoder on every data set, published beside grouped",
        "us, enc: UMAP layouts coloured by label",
        "us, enc: UMAP layouts coloured by text_overlay",
        "Audits of us under enc, against chance",
        "Images of us and their nearest neighbours under enc, by text_overlay",
    ]


def test_copies_and_rejects_are_listed(document):
    assert "1 picture is in a data set more than once" in document.words
    assert f"us/238.png {HOSTILE}.png" in document.words or f"{HOSTILE}.png us/238.png" in document.words
    assert f"bad/{HOSTILE}.png" in document.words
    assert "1 file could not be read" in document.words


def test_copies_whose_labels_disagree_come_first(tables):
    images = pl.DataFrame(
        {
            "dataset": ["us"] * 4,
            "image_id": list("abcd"),
            "content_hash": ["1", "1", "2", "2"],
            "uri": list("abcd"),
            "label": ["benign", "benign", "benign", "malignant"],
        }
    )
    words = Document(render_report(ReportTables({"images": images}))).words
    assert "2 pictures are" in words
    assert words.index("benign malignant labels disagree") < words.index("benign benign")


def test_provenance_names_runs_seeds_and_fingerprints(document):
    for part in ("run-svm_probes", "f" * 12, "d" * 12, "Seeds: 0, 7", "1,234", "2026-03-04 05:06"):
        assert part in document.words
    for term in ("Group", "Confounder", "Encoder", "Layout", "Robustness index"):
        assert f"{term} " in document.words[document.words.rindex("Glossary") :]


def test_an_empty_store_gives_a_report_that_says_what_is_missing():
    document = Document(render_report(ReportTables()))
    assert "This report is partial" in document.words
    for asset in ("images", "svm_probes", "neighbor_audits", "umap_layouts", "leaderboard", "bias_report"):
        assert asset in document.words
    assert document.all("img") == []


@pytest.mark.parametrize("name", report_tables())
def test_any_table_may_be_missing(tables, name):
    # Drawn only where a picture needs what is missing.
    drawn = name in ("findings", "images", "layout_quality")
    base = tables if drawn else replace(changed(tables, layouts=tables["layouts"].clear()), thumbnails={})
    words = Document(render_report(changed(base, **{name: tables[name].clear()}))).words
    missing = {
        "layouts": "No layouts yet: materialize umap_layouts",
        "probe_scores": "No scores of the label yet: materialize svm_probes",
        "neighbor_audits": "No audits yet: materialize neighbor_audits",
        "leaderboard": "No leaderboard yet: materialize leaderboard",
        "findings": "No findings yet: materialize bias_report",
        "images": "No images yet: materialize images",
        "runs": "No run is on record",
    }
    assert missing.get(name, "The lesion or the background?") in words


def test_a_cell_without_backgrounds_says_so(tables):
    scores = tables["probe_scores"].filter(target="label", stratum="all")
    audits = tables["neighbor_audits"].filter(pl.col("confounder").is_null())
    cut = changed(tables, probe_scores=scores, neighbor_audits=audits, findings=verdicts(scores, audits))
    words = Document(render_report(replace(cut, thumbnails={}))).words
    assert "no background is on record to check it against" in words
    assert "No background is on record to split the score by" in words


def test_findings_keep_their_order_whatever_the_order_of_rows(tables, html):
    findings = tables["findings"].with_row_index("row")
    assert render_report(changed(tables, findings=findings.reverse())) == html


def test_telling_images_are_those_misled_by_what_leads(tables):
    wanted = telling_images(tables)
    assert wanted == sorted(set(wanted))
    assert {dataset for dataset, _ in wanted} == {"us"}
    assert 5 <= len(wanted) <= 4 * 7
    pairs = tables["telling_neighbors"]
    shown = telling_neighbors(tables["neighbors"], pairs, "text_overlay")
    most = pairs.sort("score", "image_id", descending=[True, False])["image_id"].unique(maintain_order=True).head(4)
    assert shown["image_id"].unique(maintain_order=True).to_list() == most.to_list()
    assert {key for key in wanted if key[1] in most.to_list()} == {("us", image_id) for image_id in most}
    assert telling_images(ReportTables()) == []
    assert telling_images(changed(tables, telling_neighbors=pairs.clear())) == []


def test_two_data_sets_by_three_encoders_stay_small():
    world = worlds.mixed()
    one = cell("us", "a", world)
    datasets, encoders = ("us", "ct"), ("a", "b", "c")
    ids = [pl.col(c).str.replace("us-", "ct-") for c in ("image_id", "neighbor_id")]
    cells = [
        {name: named(frame, dataset, encoder) for name, frame in one.items()}
        for dataset in datasets
        for encoder in encoders
    ]
    for part in cells[3:]:
        for name in ("neighbors", "telling_neighbors"):
            part[name] = part[name].with_columns(*ids)
        part["layouts"] = part["layouts"].with_columns(ids[0])
    html = render_report(assemble(cells, pl.concat(images_of(dataset, world) for dataset in datasets)))
    assert len(html.encode()) < 15e6
    # And the encoders of each data set side by side.
    assert len(Document(html).all("img")) == 1 + 6 * 4 + 2


def test_the_same_tables_give_the_same_report(tables, html):
    assert render_report(tables) == html


def test_the_template_travels_with_the_package():
    assert resources.files("analysis.report").joinpath("report.html.jinja").is_file()
