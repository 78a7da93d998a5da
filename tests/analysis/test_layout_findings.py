import re

import numpy as np
import polars as pl
import pytest

from analysis.layout_findings import layout_findings, summarise_associations
from analysis.report import ReportTables
from analysis.report.section import CellPlace
from analysis.report.sections import clusters
from store.schema import LAYOUT_ASSOCIATIONS, LAYOUT_CLUSTER_MEMBERS, LAYOUT_CLUSTERS

SETTINGS = [(5, 0.1), (15, 0.1), (15, 0.5)]
IDS = pl.Series("image_id", [f"i{i:03}" for i in range(120)])
WORD = np.repeat(["BREAST", "AXILLA"], 60)


def points(shuffle=True):
    """Two clusters by word in every layout; in the first a third, an accident of its setting."""
    rng = np.random.default_rng(0)
    cells = []
    for size, distance in SETTINGS:
        place = np.where(WORD == "BREAST", 0.0, 8.0)
        if (size, distance) == SETTINGS[0]:
            place[:25] = -8
        frame = pl.DataFrame(
            {"image_id": IDS, "x": place + rng.normal(size=120) * 0.3, "y": rng.normal(size=120) * 0.3}
        )
        frame = frame.with_columns(n_neighbors=pl.lit(size, pl.Int32), min_dist=pl.lit(distance))
        cells.append(frame.sample(fraction=1, shuffle=True, seed=1) if shuffle else frame)
    return pl.concat(cells)


def findings(frame=None):
    labels = ["benign", "malignant"] * 60
    word = [None, *WORD[1:]]
    return layout_findings(points() if frame is None else frame, IDS, labels, {"word": word}, np.arange(120), seed=0)


def test_columns_are_those_of_the_tables():
    found = findings()
    for frame, spec in (
        (found.clusters, LAYOUT_CLUSTERS),
        (found.members, LAYOUT_CLUSTER_MEMBERS),
        (found.associations, LAYOUT_ASSOCIATIONS),
    ):
        assert set(spec.schema.names) - {"dataset", "encoder", "row", "seed"} == set(frame.columns)


def test_two_clusters_by_the_words():
    found = findings()
    axilla = found.clusters.row(0, named=True)
    assert (axilla["attribute"], axilla["attribute_value"], axilla["phi"]) == ("word", "AXILLA", pytest.approx(1))
    assert (axilla["n"], axilla["layouts"], axilla["layouts_in_all"]) == (60, 3, 3)
    members = found.members.filter(cluster=0)
    assert members["image_id"].sort().to_list() == IDS[60:].to_list()
    assert set(members["layouts"]) == {3}
    summary = {row["attribute"]: row for row in summarise_associations(found.associations).iter_rows(named=True)}
    assert summary["word"]["layouts"] == 3
    assert summary["word"]["best"] > 0.9
    assert summary["label"]["layouts"] == 0
    assert found.associations.filter(attribute="word")["n"].to_list() == [119] * 3


def test_a_cluster_of_one_setting_is_called_that():
    found = findings()
    notes = found.clusters.filter(pl.col("note") != "")["note"].to_list()
    assert notes == ["seen at one setting only: n_neighbors 5, min_dist 0.1"] * len(notes)
    assert 1 <= len(notes) <= 2


def test_a_cluster_that_goes_along_with_nothing_is_not_described():
    rng = np.random.default_rng(0)
    # Of thirty values, the best agrees with a cluster by accident.
    noise = {f"a{i}": [str(value) for value in rng.integers(3, size=120)] for i in range(10)}
    found = layout_findings(points(), IDS, ["benign", "malignant"] * 60, noise, np.arange(120), seed=0)
    inside = IDS.is_in(found.members.filter(cluster=0)["image_id"]).to_numpy()
    best = max(np.corrcoef(inside, np.array(values) == value)[0, 1] for values in noise.values() for value in "012")
    assert 0.1 < best < 0.3
    assert found.clusters.row(0)[-4:-1] == (None, None, None)


def test_a_single_layout_says_nothing_of_recurrence():
    found = findings(points().filter(pl.col("min_dist") == 0.5))
    assert found.clusters["note"].unique().to_list() == [""]


def said(associations, found_clusters):
    """Return what the report says of a cell's clusters, without markup; cells of tables end in a bar."""
    named = {
        name: frame.with_columns(dataset=pl.lit("d"), encoder=pl.lit("e"))
        for name, frame in (("layout_associations", associations), ("layout_clusters", found_clusters))
        if frame.width
    }
    blocks = clusters.PART.make(ReportTables(named), CellPlace("d", "e"))
    html = "".join(block.__html__() for block in blocks).replace("</td>", "|").replace("</tr>", "\n")
    return re.sub(r"<[^>]+>", "", html)


def test_the_report_says_it_in_words():
    found = findings()
    lines = said(found.associations, found.clusters).splitlines()
    word = next(line for line in lines if line.startswith("word|"))
    assert re.fullmatch(r"word\|3 of 3\|1\.00\|0\.\d\d\|1\.00\|\d+, [\d.]+\|0\.001\|119\|\|", word)
    assert any(line.startswith("label|0 of 3|") for line in lines)
    assert any(
        "Clusters that recur in more than half of 3 layouts: 2; seen at one setting only" in line for line in lines
    )
    foremost = next(line for line in lines if line.startswith("3 of 3|"))
    assert "word = " in foremost
    assert said(pl.DataFrame(), pl.DataFrame()) == ""


def test_layouts_without_clusters_count_as_showing_nothing():
    # Of six layouts one has clusters: of the others all that one can say is that they show nothing.
    def row(place, **values):
        setting = {"n_neighbors": place, "min_dist": 0.1, "attribute": "word", "n": 119}
        return (
            {"value": None, "expected": None, "p_adjusted": None, "shown": False, "note": "undefined: x"}
            | setting
            | values
        )

    shown = row(0, value=0.8, expected=0.02, p_adjusted=0.0005, shown=True, note="")
    frame = pl.DataFrame([*(row(place) for place in range(1, 6)), shown])
    bare = "5 layouts have no clusters to compare, which counts as 0"
    assert f"word|1 of 6|0.00|0.00|0.80|0, 0.1|&lt; 0.001|119|{bare}|" in said(frame, pl.DataFrame())
    assert "word|0 of 5|–|–|–||–|119|undefined: x|" in said(frame.filter(~pl.col("shown")), pl.DataFrame())


def test_a_layout_that_lacks_an_image_is_refused():
    with pytest.raises(ValueError, match=r"n_neighbors 5, min_dist 0.1 does not hold every image once"):
        findings(points(shuffle=False)[1:])
