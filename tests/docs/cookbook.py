"""Reading, asking and rewriting the cookbook."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from assets.printing import as_text
from store import Warehouse
from tests.docs.phantom_warehouse import make_warehouse

COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook.md"
_RECIPE = re.compile(r"^## (\d+\. [^\n]+)\n(.*?)```sql\n(.*?)```\n\n```text\n(.*?)```$", re.DOTALL | re.MULTILINE)
# Of numbers that are rounded to two places, as all are: another processor may round the other way.
TOLERANCE = 0.011


@dataclass(frozen=True)
class Recipe:
    """A question, its SQL and the answer that the cookbook shows."""

    question: str
    sql: str
    shown: str


def recipes(text: str) -> list[Recipe]:
    """Return the recipes of the cookbook."""
    return [Recipe(question, sql, shown) for question, _, sql, shown in _RECIPE.findall(text)]


def answer(warehouse: Warehouse, recipe: Recipe) -> str:
    """Return the answer as the command line prints it."""
    return as_text(warehouse.sql(recipe.sql)) + "\n"


def rewrite(text: str, warehouse: Warehouse) -> str:
    """Return the cookbook with the answers of a warehouse."""

    def asked(found: re.Match[str]) -> str:
        question, prose, sql, shown = found.groups()
        return (
            f"## {question}\n{prose}```sql\n{sql}```\n\n```text\n{answer(warehouse, Recipe(question, sql, shown))}```"
        )

    return _RECIPE.sub(asked, text)


def same_answer(one: str, other: str) -> bool:
    """Return whether two printed answers have the same cells, but for the last place of rounded numbers."""
    cells, others = (re.findall(r"[^\s│┌┐└┘─═╞╡]+", text) for text in (one, other))
    return len(cells) == len(others) and all(map(_same, cells, others))


def _same(cell: str, other: str) -> bool:
    if cell == other:
        return True
    if not all(re.fullmatch(r"-?\d+\.\d+", each) for each in (cell, other)):
        return False
    return abs(float(cell) - float(other)) <= TOLERANCE


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        COOKBOOK.write_text(rewrite(COOKBOOK.read_text(), make_warehouse(Path(folder))))
