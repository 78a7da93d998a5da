"""Every query of the cookbook runs, and answers what the cookbook shows."""

import re
from pathlib import Path

import pytest

from store import Warehouse
from store.views import save_view
from tests.docs.cookbook import COOKBOOK, Recipe, answer, recipes, rewrite, same_answer
from tests.docs.phantom_warehouse import COPIES, DATASET, DIMENSION, IMAGES, make_warehouse

README = Path(__file__).parents[2] / "README.md"
RECIPES = recipes(COOKBOOK.read_text(encoding="utf-8"))


# The warehouse is made within the first test that asks it.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The warehouse that the cookbook was asked of; it is only read."""
    return make_warehouse(tmp_path_factory.mktemp("cookbook"))


def test_there_are_twelve_questions() -> None:
    text = COOKBOOK.read_text(encoding="utf-8")
    assert [recipe.question.split(".")[0] for recipe in RECIPES] == [str(n) for n in range(1, 13)]
    assert text.count("```sql") == text.count("## ") == len(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.question)
def test_the_answer_is_what_is_shown(phantoms: Warehouse, recipe: Recipe) -> None:
    asked = answer(phantoms, recipe)
    assert same_answer(asked, recipe.shown), f"run `make cookbook`; now it is\n{asked}"


def test_what_was_planted_is_found(phantoms: Warehouse) -> None:
    """Facts that hold whatever a processor makes of the last digits."""
    by_word, _, disagree, _, leaks, copies, *_ = (phantoms.sql(recipe.sql) for recipe in RECIPES[:6])
    assert by_word.height >= 5
    assert set(by_word["encoder"]) == {"sees_words"}
    assert copies.select("uri", "other").rows() == [
        ("images/000000.png", "images/copy.png"),
        ("images/000005.png", "images/relabelled.png"),
    ]
    lost = disagree.filter(is_right="sees_lesions")["images"].sum()
    assert lost > disagree.filter(is_right="sees_words")["images"].sum()
    assert "sees_words" in set(leaks["encoder"])
    apart = phantoms.sql(RECIPES[9].sql)
    words = apart.filter(differs_in="words or none")["distance"]
    assert words.min() > apart.filter(differs_in="label, both without words")["distance"].max()


def test_queries_of_the_readme_run(phantoms: Warehouse) -> None:
    readme = README.read_text(encoding="utf-8")
    queries = [*re.findall(r"```sql\n(.*?)```", readme, re.DOTALL), *re.findall(r' sql "(SELECT [^"]*)"', readme)]
    assert len(queries) >= 3
    # The view that the README keeps.
    axilla = phantoms.sql("SELECT image_id FROM images WHERE overlay_text LIKE '%AXILLA%'")["image_id"]
    save_view(phantoms, "axilla", DATASET, axilla.to_list(), "overlay_text LIKE '%AXILLA%'")
    for query in queries:
        phantoms.sql(query)


def test_a_stale_answer_is_noticed() -> None:
    shown = "│ label    n    score │\n│ benign   12   0.75 │\n"
    assert same_answer(shown, "┌──┐\n│ label  n  score │\n│ benign  12  0.76 │")
    for other in ("0.77", "0.75 │\n│ normal", "null", "1"):
        assert not same_answer(shown, shown.replace("0.75", other))
    assert not same_answer(shown, shown.replace("12", "13"))
    assert not same_answer(shown, shown.replace("benign", "normal"))


def test_answers_are_put_in_place(tmp_path: Path) -> None:
    from store import open_warehouse

    text = "# Title\n\n## 1. Is it?\n\n```sql\nSELECT count(*) AS n FROM images\n```\n\n```text\nold\n```\n\n## Rest\n"
    done = rewrite(text, open_warehouse(tmp_path))
    assert done == text.replace("old\n", "┌───┐\n│ n │\n╞═══╡\n│ 0 │\n└───┘\n")
    assert rewrite(done, open_warehouse(tmp_path)) == done


def test_the_notebook_of_the_readme_runs(phantoms: Warehouse) -> None:
    readme = README.read_text(encoding="utf-8")
    (notebook,) = [
        block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "open_warehouse" in block
    ]
    for named, here in (
        ('"warehouse"', repr(phantoms.uri)),
        ("efficientnet_lite0", "sees_words"),
        ("phantom_fair", DATASET),
    ):
        notebook = notebook.replace(named, here)
    names: dict[str, object] = {}
    exec(notebook, names)
    lines = [line.split("#")[0].strip() for line in notebook.splitlines()]
    asked = [line for line in lines if line.startswith("warehouse.")]
    assert [line.split("(")[0] for line in asked] == [
        f"warehouse.{name}" for name in ("sql", "describe", "frame", "vectors", "search")
    ]
    counts, columns, scores, vectors, found = (eval(line, names) for line in asked)
    assert counts["n"].sum() == IMAGES + len(COPIES)
    assert columns["table"].unique().to_list() == ["images"]
    assert scores.collect().height > 1000
    assert vectors.shape == (IMAGES + len(COPIES), DIMENSION)
    assert found["text_overlay"].to_list() == [True] * 5


def test_every_metric_and_protocol_is_explained(phantoms: Warehouse) -> None:
    page = (README.parent / "docs" / "reading-the-numbers.md").read_text(encoding="utf-8")
    asked = "SELECT DISTINCT metric FROM {} UNION SELECT DISTINCT split_part(protocol, ':', 1) FROM probe_scores"
    words = {
        name for table in ("neighbor_audits", "probe_scores") for (name,) in phantoms.sql(asked.format(table)).rows()
    }
    assert len(words) > 40
    assert [word for word in sorted(words) if not re.search(rf"`{word}[`:]", page)] == []
