"""The published scores as they are packaged, and ours beside them."""

import hashlib
from importlib.resources import files

import polars as pl
import pytest

from analysis.figures import comparison_figure
from analysis.published import Column, compare, published_scores

KEYS = {"target": "label", "protocol": "published", "fold": None, "seed": 0, "note": ""}


def scores(*rows: tuple[str, str, str, str, str, float]) -> pl.DataFrame:
    """Return probe scores of (data set, encoder, split, stratum, metric, value)."""
    names = ("dataset", "encoder", "split", "stratum", "metric", "value")
    made = [{**dict(zip(names, row, strict=True)), **KEYS, "ci_low": row[-1] - 0.05, "ci_high": row[-1] + 0.05, "n": 80}
            for row in rows]  # fmt: skip
    return pl.DataFrame(made, schema_overrides={"fold": pl.Int32})


def measured(dataset: str, encoder: str, accuracy: float = 0.8) -> pl.DataFrame:
    both = [(split, metric, accuracy + (0.01 if split == "cv" else 0) - (0.1 if metric == "macro_f1" else 0))
            for split in ("cv", "test") for metric in ("accuracy", "macro_f1", "auroc")]  # fmt: skip
    return scores(*((dataset, encoder, split, "all", metric, value) for split, metric, value in both))


def row_of(frame: pl.DataFrame, **names: str) -> dict[str, object]:
    return frame.filter(**names).row(0, named=True)


# --- the packaged table

# The paper's numbers do not change: whoever changes a cell of the table compares it with the paper, and changes this.
TABLE_SHA256 = "8b2ff762b40b51dd5455e70fc611ce17076ab9a395c58c304b039dc48b869cd2"


def test_no_cell_of_the_packaged_table_was_swapped() -> None:
    text = (files("analysis.published") / "scores.csv").read_text(encoding="utf-8")
    assert hashlib.sha256(text.encode()).hexdigest() == TABLE_SHA256


def test_the_packaged_table_is_the_studys() -> None:
    published = published_scores()
    assert published.shape == (272, 7)
    assert published["encoder"].n_unique() == 17
    assert published["published_dataset"].n_unique() == 8
    assert published.group_by("encoder", "published_dataset", "metric").len()["len"].to_list() == [1] * 272
    assert published["published"].is_between(0.1, 1.0).all()
    assert published["published_std"].is_between(0.0, 0.1).all()
    cell = row_of(published, encoder="eva02_l14_336", published_dataset="deepdrid", metric="macro_f1")
    assert cell["published"] == pytest.approx(0.14)
    assert cell["published_model"] == "EVA02 L/14-336"
    assert row_of(published, encoder="vgg16")["published_model"] == "VGG16"


def test_what_is_said_of_the_table_is_true_of_it() -> None:
    published = published_scores()
    wide = published.pivot("published_dataset", index=["encoder", "metric"], values=["published", "published_std"])
    same = wide.filter(
        pl.col("published_brainmr") == pl.col("published_breastus"),
        pl.col("published_std_brainmr") == pl.col("published_std_breastus"),
    )
    assert set(wide["encoder"]) - set(same["encoder"]) == {"flair"}
    # Of two classes of which one is larger, a macro F1 above the accuracy for every model is out of the question.
    metrics = published.pivot("metric", index=["encoder", "published_dataset"], values="published")
    above = metrics.filter(published_dataset="breakhis").select((pl.col("f1") > pl.col("accuracy")).all())
    assert above.item()


# --- the comparison


def test_an_encoder_with_a_published_row_has_the_difference() -> None:
    found = compare(measured("mine", "biomedclip", 0.60), {"mine": Column("deepdrid")})
    row = row_of(found, dataset="mine", encoder="biomedclip", metric="accuracy")
    assert row["value"] == pytest.approx(0.60)
    assert row["value_cv"] == pytest.approx(0.61)
    assert row["n"] == 80
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(0.55), pytest.approx(0.65))
    assert row["published"] == pytest.approx(0.63)
    assert row["published_std"] == pytest.approx(0.006)
    assert row["difference"] == pytest.approx(-0.03)
    assert (row["published_model"], row["published_dataset"]) == ("BiomedCLIP B-16", "deepdrid")
    assert (row["doubtful"], row["note"]) == (False, "")
    f1 = row_of(found, dataset="mine", encoder="biomedclip", metric="macro_f1")
    assert (f1["value"], f1["published"]) == (pytest.approx(0.5), pytest.approx(0.42))


def test_an_encoder_without_one_has_the_range() -> None:
    found = compare(measured("mine", "efficientnet_lite0"), {"mine": Column("deepdrid", "small")})
    row = row_of(found, dataset="mine", encoder="efficientnet_lite0", metric="accuracy")
    assert row["published"] is None
    assert row["difference"] is None
    published = published_scores().filter(published_dataset="deepdrid", metric="accuracy")["published"]
    assert (row["published_low"], row["published_high"]) == (published.min(), published.max())
    assert row["note"] == "no published row for this encoder; small"


def test_every_published_cell_is_there_once_measured_or_not() -> None:
    ours = pl.concat([measured("a", "uni"), measured("b", "uni"), measured("b", "mine"), measured("other", "uni")])
    found = compare(ours, {"a": Column("isic2019"), "b": Column("breakhis")})
    assert found.group_by("dataset", "encoder", "metric").len()["len"].max() == 1
    # A data set that is not of the study is left out; those of the study that are not here keep their own names.
    assert set(found["dataset"]) == {
        "a", "b", "brainmr", "breastus", "sarscov2ct", "pneumoniamnist", "hicervix", "deepdrid",
    }  # fmt: skip
    assert found["published"].count() == 272
    absent = row_of(found, dataset="hicervix", encoder="uni", metric="accuracy")
    assert absent["value"] is None
    assert str(absent["note"]).startswith("not measured here; ")
    assert compare(ours.clear(), {}).height == 272


@pytest.mark.parametrize(("name", "other"), [("brainmr", "BreastUS"), ("breastus", "BrainMR")])
def test_copied_columns_are_doubtful_whatever_the_data_set_is_called(name: str, other: str) -> None:
    found = compare(measured("mine", "vgg16"), {"mine": Column(name)})
    row = row_of(found, dataset="mine", encoder="vgg16", metric="accuracy")
    assert row["doubtful"]
    assert f"doubtful: the published column equals that of {other}" in str(row["note"])
    assert not row_of(found, published_dataset="deepdrid")["doubtful"]


def test_clips_second_row_is_ambiguous() -> None:
    ours = pl.concat([measured("mine", "clip_vit_l14"), measured("mine", "clip_vit_h14")])
    found = compare(ours, {"mine": Column("isic2019")}).filter(dataset="mine", metric="accuracy")
    rows = found.filter(pl.col("value").is_not_null())
    assert set(rows["encoder"]) == {"clip_vit_l14", "clip_vit_h14"}
    assert rows["published"].to_list() == [pytest.approx(0.73)] * 2
    assert all("L/14 in one version of the paper and H/14 in another" in note for note in rows["note"])
    assert found.height == 16 + 2


def test_the_f_of_breakhis_is_compared_with_that_of_one_class() -> None:
    both = [("mine", "uni", split, "label=malignant", "f1", value) for split, value in (("cv", 0.87), ("test", 0.88))]
    benign = ("mine", "uni", "test", "label=benign", "f1", 0.7)
    found = compare(pl.concat([measured("mine", "uni"), scores(*both, benign)]), {"mine": Column("breakhis")})
    assert set(found.filter(dataset="mine")["metric"]) == {"accuracy", "f1"}  # it is no macro F1, nor is it called so
    assert set(found.filter(metric="f1")["published_dataset"]) == {"breakhis"}
    row = row_of(found, dataset="mine", encoder="uni", metric="f1")
    assert (row["value"], row["value_cv"]) == (pytest.approx(0.88), pytest.approx(0.87))
    assert "F of malignant" in str(row["note"])


def test_the_f_of_breakhis_is_not_measured_by_a_macro_f() -> None:
    found = compare(measured("mine", "uni"), {"mine": Column("breakhis")}).filter(dataset="mine", encoder="uni")
    row = row_of(found, metric="f1")
    assert row["value"] is None
    assert str(row["note"]).startswith("not measured here")


@pytest.mark.parametrize(
    ("images", "note"),
    [
        (300, "subset: 300 of 1,200 images"),
        (1200, ""),
        (1201, "1,201 images, 1,200 published"),
        (None, ""),
    ],
)
def test_another_number_of_images_is_noted(images: int | None, note: str) -> None:
    found = compare(measured("mine", "biomedclip"), {"mine": Column("deepdrid", images=images)})
    assert row_of(found, dataset="mine", encoder="biomedclip", metric="accuracy")["note"] == note
    assert "1,200" not in "".join(found.filter(pl.col("dataset") != "mine")["note"])


def test_other_protocols_folds_and_targets_are_not_taken() -> None:
    plain = measured("mine", "uni")
    changes = {"protocol": "grouped", "fold": 0, "target": "view", "stratum": "view=a"}
    others = [
        plain.with_columns(pl.lit(0.1).alias("value"), pl.lit(value).alias(name).cast(plain.schema[name]))
        for name, value in changes.items()
    ]
    columns = {"mine": Column("deepdrid")}
    assert compare(pl.concat([*others, plain]), columns).equals(compare(plain, columns))


# --- the figure


def test_figure_draws_what_was_measured() -> None:
    ours = pl.concat([measured("mine", "uni"), measured("other", "lite")])
    frame = compare(ours, {"mine": Column("brainmr"), "other": Column("isic2019")}).filter(metric="accuracy")
    png = comparison_figure(frame, metric="accuracy")
    assert png.startswith(b"\x89PNG")
    assert png != comparison_figure(frame.with_columns(pl.col("published") * 0.9), metric="accuracy")
    assert png != comparison_figure(frame.with_columns(pl.col("value") * 0.9), metric="accuracy")
    assert png != comparison_figure(frame.with_columns(~pl.col("doubtful")), metric="accuracy")


def test_figure_takes_awkward_names_and_refuses_nothing_to_draw() -> None:
    frame = compare(measured("$a$ " * 20, "$x^", 0.5), {"$a$ " * 20: Column("deepdrid")}).filter(metric="accuracy")
    assert comparison_figure(frame, metric="$m$").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no measured score"):
        comparison_figure(frame.with_columns(pl.lit(None, pl.Float64).alias("value")), metric="accuracy")
    with pytest.raises(ValueError, match="lacks the columns"):
        comparison_figure(frame.drop("published"), metric="accuracy")
