import io
from importlib import import_module

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy.stats import kendalltau
from sklearn.metrics import confusion_matrix

from analysis.figures import (
    SheetRow,
    Tile,
    audit_figure,
    c_path_figure,
    confusion_figure,
    contrast_figure,
    encoders_figure,
    layout_figure,
    layout_grids_figure,
    leaderboard_figure,
    neighbors_figure,
)

# Were it parsed as a formula it would raise, being none; and no font here has the last two.
HOSTILE = "$\\frac{x$ 100 % _^{ \x07 乳腺"


def layouts(names, *, n_neighbors=(5, 15), min_dist=(0.1, 0.5)):
    rng = np.random.default_rng(0)
    cells = [
        pl.DataFrame(
            {
                "x": rng.normal(size=len(names)) * 10 * k,
                "y": rng.normal(size=len(names)),
                "n_neighbors": [k] * len(names),
                "min_dist": [d] * len(names),
                "trustworthiness": [0.9] * len(names),
                "label": pl.Series(names, dtype=pl.String),
            }
        )
        for k in n_neighbors
        for d in min_dist
    ]
    return pl.concat(cells)


def scores(datasets=("brainmr", "breastus"), encoders=("biomedclip", "uni")):
    rows = [
        (dataset, encoder, protocol, 0.5 + 0.1 * i, 0.4 + 0.1 * i, 0.6 + 0.1 * i, 0.25)
        for dataset in datasets
        for i, encoder in enumerate(encoders)
        for protocol in ("published", "grouped")
    ]
    columns = ["dataset", "encoder", "protocol", "value", "ci_low", "ci_high", "chance"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def audits(encoders=("biomedclip", "uni"), confounders=("text", "callipers")):
    rows = []
    for encoder in encoders:
        rows.append((encoder, None, "label_agreement", 0.7, 0.5, 0.6, 0.8, 0.01))
        for confounder in confounders:
            rows.append((encoder, confounder, "confounder_agreement", 0.7, 0.5, 0.6, 0.8, 0.2))
            rows.append((encoder, confounder, "robustness_index", None, None, None, None, None))
    columns = ["encoder", "confounder", "metric", "value", "expected", "ci_low", "ci_high", "p_adjusted"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def picture(mode="RGB", size=(20, 30), form="PNG"):
    buffer = io.BytesIO()
    Image.new(mode, size, 128 if mode == "L" else (200, 30, 30)).save(buffer, form)
    return buffer.getvalue()


def sheet(caption="benign"):
    neighbors = (
        Tile(picture(), caption, shares_label=True, shares_confounder=True),
        Tile(picture("L"), caption, shares_label=False, shares_confounder=True),
        Tile(picture(form="JPEG"), caption, shares_label=False, shares_confounder=False),
        Tile(b"no picture", caption),
    )
    return [SheetRow(Tile(picture(), caption), neighbors), SheetRow(Tile(picture(), caption), neighbors[:1])]


def predictions(names=("benign", "malignant")):
    rng = np.random.default_rng(0)
    truth, predicted = rng.choice(names, 200), rng.choice(names, 200)
    protocol = rng.choice(["published", "grouped"], 200)
    return pl.DataFrame({"protocol": protocol, "truth": truth, "predicted": predicted})


def c_path(names=("biomedclip", "uni", "flair"), dataset="brainmr"):
    rows = [
        (dataset, name, penalty, 0.5 + 0.1 * i + 0.02 * j * (-1) ** i, 0.4, None if i else 0.9)
        for i, name in enumerate(names)
        for j, penalty in enumerate((1.0, 10.0, 100.0))
    ]
    columns = ["dataset", "encoder", "penalty", "value", "ci_low", "ci_high"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def contrasts(dataset="brainmr", protocol="published"):
    rows = [
        (contrast, each, name, 0.01 * i - 0.02, None if i == 0 else -0.05, None if i == 0 else 0.04)
        for contrast in ("medical", "language")
        for each in (protocol, "grouped")
        for i, name in enumerate((None, dataset, "breastus"))
    ]
    columns = ["contrast", "protocol", "dataset", "value", "ci_low", "ci_high"]
    return pl.DataFrame(rows, schema=columns, orient="row")


FIGURES = {
    "contrasts": lambda text: contrast_figure(contrasts(text), metric=text),
    "c_path": lambda text: c_path_figure(c_path((text, "b", "c"), text), published=100, metric=text),
    "confusion": lambda text: confusion_figure(predictions((text, "b", "c")), title=text),
    "layouts": lambda text: layout_figure(layouts([text, "b", None] * 30), colour_by="label", title=text),
    "leaderboard": lambda text: leaderboard_figure(scores((text, "b"), (text, "d")), metric=text),
    "audits": lambda text: audit_figure(audits((text, "b"), (text, "d")), title=text),
    "contact_sheet": lambda text: neighbors_figure(sheet(text), title=text),
}


@pytest.fixture
def drawn(monkeypatch):
    """Call a figure function; give back the figure as laid out, and its bytes."""

    def draw(name, function):
        module = import_module(f"analysis.figures.{name}")
        figures = []
        to_png = module.to_png

        def keep(figure):
            figures.append(figure)
            return to_png(figure)

        monkeypatch.setattr(module, "to_png", keep)
        data = function()
        return figures[0], data

    return draw


def texts(figure):
    from matplotlib.text import Text

    # Numbers beyond the ends of an axis exist, but are not drawn.
    numbers = {id(label) for axes in figure.axes for label in axes.get_xticklabels()}
    for axis in (axes.yaxis for axes in figure.axes):
        low, high = sorted(axis.get_view_interval())
        numbers |= {id(tick.label1) for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and id(text) not in numbers]


def legend_of(figure):
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("text", ["benign", HOSTILE, "a very long name that goes on and on " * 5, ""])
def test_is_a_picture_with_a_legend_and_nothing_cut(name, text, drawn):
    figure, data = drawn(name, lambda: FIGURES[name](text))
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.format == "PNG"
        assert image.size == tuple(int(side) for side in figure.bbox.size)
        assert len(image.convert("L").getcolors()) > 10
    # A confusion matrix has its numbers written in it.
    assert name == "confusion" or legend_of(figure)
    width, height = figure.bbox.size
    for shown in texts(figure):
        box = shown.get_window_extent()
        assert box.x0 >= -1, shown
        assert box.y0 >= -1, shown
        assert box.x1 <= width + 1, shown
        assert box.y1 <= height + 1, shown


@pytest.mark.parametrize("name", FIGURES)
def test_names_are_shown_literally(name, drawn):
    figure, _ = drawn(name, lambda: FIGURES[name]("$x$"))
    shown = [text for text in texts(figure) if "$x$" in text.get_text()]
    assert shown
    assert not any(text.get_parse_math() for text in shown)


def test_layout_panels_clip_no_point(drawn):
    frame = layouts(["a", "b"] * 50)
    figure, _ = drawn("layouts", lambda: layout_figure(frame, colour_by="label", title="t"))
    panels = [axes for axes in figure.axes if axes.collections]
    assert len(panels) == 4
    for axes, cell in zip(panels, frame.partition_by("n_neighbors", "min_dist"), strict=True):
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left < cell["x"].min() < cell["x"].max() < right
        assert bottom < cell["y"].min() < cell["y"].max() < top
        assert sum(len(points.get_offsets()) for points in axes.collections) == 100


def test_layout_legend_counts_images(drawn):
    frame = layouts(["b"] * 30 + ["a"] * 20 + [None] * 10)
    figure, _ = drawn("layouts", lambda: layout_figure(frame, colour_by="label", title="t"))
    assert legend_of(figure) == ["a  20", "b  30", "unknown  10"]


def test_many_classes_are_collapsed(drawn):
    names = [f"class {i:02}" for i in range(29) for _ in range(30 - i)]
    figure, _ = drawn("layouts", lambda: layout_figure(layouts(names), colour_by="label", title="t"))
    legend = legend_of(figure)
    assert legend[:11] == [f"class {i:02}  {30 - i}" for i in range(11)]
    assert legend[11:] == [f"other (18 classes)  {sum(30 - i for i in range(11, 29))}"]
    styles = {(handle.get_color(), handle.get_marker()) for handle in figure.legends[0].get_lines()}
    assert len(styles) == 12
    twelve = [f"class {i:02}" for i in range(12)] * 5
    figure, _ = drawn("layouts", lambda: layout_figure(layouts(twelve), colour_by="label", title="t"))
    assert len(legend_of(figure)) == 12
    assert "other" not in " ".join(legend_of(figure))


def test_a_missing_cell_says_so(drawn):
    frame = layouts(["a", "b"] * 20).filter(~((pl.col("n_neighbors") == 15) & (pl.col("min_dist") == 0.5)))
    figure, _ = drawn("layouts", lambda: layout_figure(frame, colour_by="label", title="t"))
    assert "no layout" in [text.get_text() for text in texts(figure)]


@pytest.mark.parametrize("values", [[True, False, None], [1, 2, None], [None, None, None]])
def test_any_column_can_colour(values, drawn):
    frame = layouts(["a"] * 30).with_columns(flag=pl.Series(values * 40))
    figure, _ = drawn("layouts", lambda: layout_figure(frame, colour_by="flag", title="t"))
    assert legend_of(figure)[-1].startswith("unknown")
    assert len(legend_of(figure)) == len(set(values))


def test_confusion_agrees_with_sklearn(drawn):
    frame = predictions(("a", "b", "c"))
    figure, _ = drawn("confusion", lambda: confusion_figure(frame, title="t"))
    for axes, protocol in zip(figure.axes, ("published", "grouped"), strict=True):
        part = frame.filter(protocol=protocol)
        expected = confusion_matrix(part["truth"], part["predicted"], normalize="true") * 100
        np.testing.assert_allclose(axes.images[0].get_array(), expected)
        assert [text.get_text() for text in axes.texts] == [f"{share:.0f}" for share in expected.ravel()]


def test_c_path_says_how_rankings_agree(drawn):
    frame = c_path(("a", "b", "c", "d"))
    frame = frame.with_columns(value=pl.when(encoder="d", penalty=1.0).then(0.1).otherwise("value"))
    figure, _ = drawn("c_path", lambda: c_path_figure(frame, published=100, metric="accuracy"))
    first, published = (frame.filter(penalty=penalty).sort("encoder")["value"] for penalty in (1.0, 100.0))
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == [f"1/N\nτ {kendalltau(first, published).statistic:.2f}", "10/N\nτ 1.00", "100/N"]
    lines = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 3]
    np.testing.assert_allclose(lines, frame.sort("encoder", "penalty")["value"].to_numpy().reshape(4, 3))


def test_contrasts_stand_by_data_set_and_protocol(drawn):
    figure, _ = drawn("contrasts", lambda: contrast_figure(contrasts(), metric="accuracy"))
    assert [axes.get_title() for axes in figure.axes] == ["medical", "language"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["all data sets", "breastus", "brainmr"]
    for axes in figure.axes:
        [published, grouped] = [line for line in axes.lines if line.get_linestyle() == "None"]
        np.testing.assert_allclose(published.get_xdata(), [-0.02, -0.01, 0])
        np.testing.assert_allclose(published.get_ydata(), [0.15, 2.15, 1.15])
        np.testing.assert_allclose(grouped.get_ydata(), [-0.15, 1.85, 0.85])
    assert legend_of(figure) == ["published", "grouped"]


def test_leaderboard_puts_the_best_on_top_beside_chance(drawn):
    figure, _ = drawn("leaderboard", lambda: leaderboard_figure(scores(), metric="accuracy"))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["biomedclip", "uni"]
    assert axes.get_ylim()[1] > 1 > 0
    assert legend_of(figure) == ["published", "grouped", "chance"]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [0.25]
    dots = {(line.get_xdata()[0], round(line.get_ydata()[0], 2)) for line in axes.lines if line.get_marker() == "o"}
    assert {value for value, _ in dots} == {0.5, 0.6}


def test_leaderboard_without_intervals_or_chance(drawn):
    none = pl.lit(None, dtype=pl.Float64)
    frame = scores().drop("chance").with_columns(ci_low=none, ci_high=none)
    figure, _ = drawn("leaderboard", lambda: leaderboard_figure(frame, metric="accuracy"))
    assert legend_of(figure) == ["published", "grouped"]
    # Two encoders under two protocols: four dots and no line.
    assert len(figure.axes[0].lines) == 4


def test_leaderboard_marks_what_training_touched(drawn):
    seen = {"biomedclip": "modality", "uni": "unknown"}
    frame = scores().with_columns(seen=pl.col("encoder").replace_strict(seen))
    figure, _ = drawn("leaderboard", lambda: leaderboard_figure(frame, metric="accuracy"))
    dots = {
        line.get_xdata()[0]: line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"
    }
    assert dots[0.5] == "white" != dots[0.6]
    assert legend_of(figure)[-1] == "such images seen in training"
    itself = frame.with_columns(seen=pl.lit("data set"))
    figure, _ = drawn("leaderboard", lambda: leaderboard_figure(itself, metric="accuracy"))
    assert all(line.get_markerfacecolor() == "white" for line in figure.axes[0].lines if line.get_marker() == "o")
    none = frame.with_columns(seen=pl.lit(None, dtype=pl.String))
    figure, _ = drawn("leaderboard", lambda: leaderboard_figure(none, metric="accuracy"))
    assert legend_of(figure) == ["published", "grouped", "chance"]


def test_audits_mark_chance_significance_and_undefined(drawn):
    figure, _ = drawn("audits", lambda: audit_figure(audits(), title="t"))
    label, confounder, robustness = figure.axes
    filled = [line for line in label.lines if line.get_marker() == "o"]
    hollow = [line for line in confounder.lines if line.get_marker() == "o"]
    assert len(filled) == 2
    assert len(hollow) == 4
    assert all(line.get_markerfacecolor() == line.get_color() for line in filled)
    assert all(line.get_markerfacecolor() == "white" for line in hollow)
    chance = [line.get_xdata()[0] for line in confounder.lines if line.get_marker() == "|"]
    assert chance == [0.5] * 4
    assert [text.get_text() for text in robustness.texts] == ["undefined"] * 4


def test_frames_tell_what_a_neighbour_shares(drawn):
    figure, _ = drawn("contact_sheet", lambda: neighbors_figure(sheet(), title="t"))
    frames = [axes.spines["left"].get_edgecolor() for axes in figure.axes[1:5]]
    legend = [line.get_color() for line in figure.legends[0].get_lines()]
    from matplotlib.colors import to_rgba

    label, background, neither = (to_rgba(colour) for colour in legend)
    assert frames == [label, background, neither, neither]
    assert legend_of(figure) == [
        "shares the label",
        "shares the background only",
        "shares neither, or unknown",
    ]


def test_figures_leave_no_global_state():
    import matplotlib.pyplot as plt

    before = dict(plt.rcParams)
    for figure in FIGURES.values():
        figure("benign")
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


def test_same_frame_same_bytes():
    assert FIGURES["layouts"]("a") == FIGURES["layouts"]("a")


def test_wrong_inputs_are_refused():
    frame = layouts(["a"] * 20)
    with pytest.raises(ValueError, match=r"lacks the columns \['scanner'\]"):
        layout_figure(frame, colour_by="scanner", title="t")
    with pytest.raises(ValueError, match="no rows"):
        layout_figure(frame.clear(), colour_by="label", title="t")
    with pytest.raises(ValueError, match=r"lacks the columns \['protocol'\]"):
        leaderboard_figure(scores().drop("protocol"), metric="accuracy")
    with pytest.raises(ValueError, match="no rows"):
        leaderboard_figure(scores().with_columns(value=pl.lit(None, dtype=pl.Float64)), metric="accuracy")
    with pytest.raises(ValueError, match=r"lacks the columns \['expected'\]"):
        audit_figure(audits().drop("expected"), title="t")
    with pytest.raises(ValueError, match="no query"):
        neighbors_figure([], title="t")


def encoders(names=("a", "b") * 20):
    rng = np.random.default_rng(0)
    layout = rng.normal(size=(len(names), 2))
    turned = layout @ np.array([[0.0, 1.0], [1.0, 0.0]]) + 9
    columns = {"image_id": [f"i{i}" for i in range(len(names))], "label": names}
    return pl.concat(
        pl.DataFrame({"encoder": encoder, "x": points[:, 0], "y": points[:, 1], **columns})
        for encoder, points in (
            ("biomedclip", layout),
            ("uni", turned),
            ("zero", layout),
            ("one", layout),
            ("two", turned),
        )
    )


def test_encoders_are_turned_alike(drawn):
    figure, _ = drawn("layouts", lambda: encoders_figure(encoders(), colour_by="label", title="t"))
    panels = {axes.get_title(): axes for axes in figure.axes if axes.collections}
    assert list(panels) == ["biomedclip", "one", "two", "uni", "zero"]
    first, other = (
        np.vstack([points.get_offsets() for points in panels[name].collections]) for name in ("biomedclip", "uni")
    )
    np.testing.assert_allclose(first - first.mean(axis=0), other - other.mean(axis=0), atol=1e-5)
    assert legend_of(figure) == ["a  20", "b  20"]


@pytest.mark.parametrize(("form", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_vector_figures_are_the_same_bytes(form, begins):
    made = [layout_figure(layouts(["a", "b"] * 20), colour_by="label", title="t", form=form) for _ in range(2)]
    assert made[0].startswith(begins)
    assert made[0] == made[1]


def test_the_legend_of_many_values_is_inside_the_grid_of_layouts():
    layouts = [(n, d) for n in (3, 5, 10, 15, 25, 50, 100, 159) for d in (0.1, 0.25, 0.5, 0.75, 1.0)]
    frame = pl.DataFrame(
        [
            {"n_neighbors": n, "min_dist": d, "x": float(i), "y": float(i % 3), "few": "ab"[i % 2], "many": f"{i}"}
            for n, d in layouts
            for i in range(9)
        ]
    )
    png = layout_grids_figure(frame, colour_by=["few", "many"], title="all")
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    inked = np.flatnonzero((pixels < 250).any(axis=1))
    assert inked[-1] < len(pixels) - 4
