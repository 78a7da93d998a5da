"""What a section of the report is made of: words, tables, pictures.

A block writes itself as HTML. `Markup.format` and `Markup.join` escape what they are given, so no text that comes from
data can become markup, and a section needs no template.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup

from analysis.evidence import format_interval, format_number, format_p

if TYPE_CHECKING:
    from collections.abc import Sequence

# Verdict → class of its badge, mark, and the word where there is little room.
BADGES = {
    "background leads": ("bad", "●", "leads"),
    "background is visible": ("warn", "◐", "visible"),
    "no sign of the background": ("good", "○", "no sign"),
    "cannot be told": ("unknown", "?", "cannot tell"),
    "reads the label": ("good", "●", "reads it"),
    "reads label or background": ("warn", "◐", "entangled"),
    "no better than chance": ("unknown", "○", "chance"),
}
NOTHING = "–"
# The ends of a spark, in px: its numbers are shares.
_SPARK_FROM, _SPARK_LENGTH = 3, 84


class Block(Protocol):
    """Anything that writes itself as safe HTML."""

    def __html__(self) -> str:
        """Return HTML in which every text is escaped."""
        ...


@dataclass(frozen=True)
class Words:
    """A paragraph; a note is small and grey."""

    text: object
    note: bool = False

    def __html__(self) -> str:
        return Markup("<p{}>{}</p>\n").format(Markup(' class="note"') if self.note else "", self.text)


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    level: int = 4

    def __html__(self) -> str:
        return Markup("<h{0}>{1}</h{0}>\n").format(self.level, self.text)


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    sentences: Sequence[str]

    def __html__(self) -> str:
        items = Markup("\n").join(Markup("<li>{}</li>").format(sentence) for sentence in self.sentences)
        return Markup('<ul class="note">{}</ul>\n').format(items)


@dataclass(frozen=True)
class Terms:
    """Words and what they mean."""

    pairs: Sequence[tuple[str, object]]

    def __html__(self) -> str:
        lines = Markup("\n").join(Markup("<dt>{}</dt><dd>{}</dd>").format(*pair) for pair in self.pairs)
        return Markup("<dl>{}</dl>\n").format(lines)


@dataclass(frozen=True)
class Absent:
    """What there is not, and which asset makes it."""

    what: str
    asset: str

    def __html__(self) -> str:
        return Markup('<p class="absent">No {} yet: materialize <code>{}</code>.</p>\n').format(self.what, self.asset)


@dataclass(frozen=True)
class Picture:
    """A figure; `uri` is of `analysis.report.pictures.data_uri`, `alt` what it shows to who cannot see it."""

    uri: str
    alt: str
    caption: str = ""

    def __html__(self) -> str:
        caption = Markup("<figcaption>{}</figcaption>").format(self.caption) if self.caption else ""
        return Markup('<figure><img src="{}" alt="{}">{}</figure>\n').format(self.uri, self.alt, caption)


@dataclass(frozen=True)
class Pictures:
    """Figures side by side, `across` of them in a row."""

    pictures: Sequence[Picture]
    across: int = 2

    def __html__(self) -> str:
        return Markup('<div class="beside across-{}">{}</div>\n').format(self.across, Markup("").join(self.pictures))


@dataclass(frozen=True)
class Score:
    """A share with its interval and what chance gives, as number and spark in a cell of a table."""

    value: float | None
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    tone: str = "plain"

    def __html__(self) -> str:
        than = ""
        if self.value is not None and self.expected is not None:
            than = Markup(' <span class="than">vs {}</span>').format(format_number(self.expected))
        return Markup('<td class="score">{}{} {}</td>').format(
            format_interval(self.value, self.low, self.high), than, self._spark()
        )

    def _spark(self) -> str:
        if self.value is None:
            return ""
        marks = Markup("")
        if self.expected is not None:
            marks += Markup('<path class="expected" d="M{} 1V11"/>').format(_at(self.expected))
        if self.low is not None and self.high is not None:
            marks += Markup('<path class="interval" d="M{} 6H{}"/>').format(_at(self.low), _at(self.high))
        return Markup(
            '<svg class="spark {}" viewBox="0 0 90 12" aria-hidden="true"><path class="axis" d="M3 6H87"/>{}'
            '<circle cx="{}" cy="6" r="3"/></svg>'
        ).format(self.tone, marks, _at(self.value))


@dataclass(frozen=True)
class Interval:
    """A number with its interval, and no spark: what it is relative to is no share."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __html__(self) -> str:
        return Markup('<td class="n">{}</td>').format(format_interval(self.value, self.low, self.high))


@dataclass(frozen=True)
class PValue:
    """A p-value, adjusted or not as its column says."""

    value: float | None

    def __html__(self) -> str:
        return Markup('<td class="n">{}</td>').format(format_p(self.value))


@dataclass(frozen=True)
class Lines:
    """A cell of several lines; `code` where these are names of files."""

    lines: Sequence[str]
    code: bool = False

    def __html__(self) -> str:
        written = (Markup("<code>{}</code>").format(line) if self.code else line for line in self.lines)
        return Markup('<td class="t">{}</td>').format(Markup("<br>").join(written))


@dataclass(frozen=True)
class Note:
    """A cell of small grey words, which may be long."""

    text: object

    def __html__(self) -> str:
        return Markup('<td class="t note">{}</td>').format("" if self.text is None else self.text)


Value = str | int | float | None | Block


@dataclass(frozen=True)
class Column:
    """A column's heading, which may have line breaks; `numeric` and `scores` stand to the right."""

    heading: str
    numeric: bool = False
    scores: bool = False


@dataclass(frozen=True)
class Table:
    """A table. Cells are text, counts (int), numbers (float, two decimals), or blocks that are cells.

    Attributes
    ----------
    columns
        Headings, or `Column` for those that hold numbers.
    rows
        As many values each as there are columns.
    folded
        Where given, the table is folded under these words.
    caption
        What is said below it.
    first
        Rows that begin with a line above them, such as those of another data set.
    """

    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Value]]
    folded: str = ""
    caption: str = ""
    first: frozenset[int] = field(default_factory=frozenset)

    def __html__(self) -> str:
        columns = [Column(each) if isinstance(each, str) else each for each in self.columns]
        rows = Markup("\n").join(
            Markup("<tr{}>{}</tr>").format(
                Markup(' class="first"') if i in self.first else "", Markup("").join(map(_cell, columns, row))
            )
            for i, row in enumerate(self.rows)
        )
        table = Markup('<div class="scroll"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody></table></div>\n')
        table = table.format(Markup("").join(map(_heading, columns)), rows)
        if self.caption:
            table += Words(self.caption, note=True).__html__()
        if not self.folded:
            return table
        return Markup("<details><summary>{}</summary>\n{}</details>\n").format(self.folded, table)


def badge(verdict: str | None, *, short: bool = False) -> Markup:
    """Return a verdict as a coloured badge, whose mark says the same without the colour."""
    tone, mark, word = BADGES.get(verdict or "", ("unknown", "?", verdict or "none"))
    return Markup('<span class="badge {}"><span aria-hidden="true">{}</span> {}</span>').format(
        tone, mark, word if short else verdict
    )


def strong(text: object) -> Markup:
    """Return a text in bold."""
    return Markup("<b>{}</b>").format(text)


def grey(text: object) -> Markup:
    """Return a text in grey."""
    return Markup('<span class="than">{}</span>').format(text)


def _heading(column: Column) -> Markup:
    lines = Markup("<br>").join(column.heading.split("\n"))
    kind = "score" if column.scores else "n" if column.numeric else "w"
    return Markup('<th class="{}">{}</th>').format(kind, lines)


def _cell(column: Column, value: Value) -> Markup:
    if value is None:
        return Markup('<td class="n">{}</td>').format(NOTHING)
    if isinstance(value, bool):
        return Markup("<td>{}</td>").format("yes" if value else "no")
    if isinstance(value, int):
        return Markup('<td class="n">{:,}</td>').format(value)
    if isinstance(value, float):
        return Markup('<td class="n">{}</td>').format(format_number(value))
    if isinstance(value, (Score, Interval, PValue, Lines, Note)):
        return Markup(value.__html__())
    return Markup('<td class="{}">{}</td>').format("n" if column.numeric else "w", value)


def _at(share: float) -> str:
    return f"{_SPARK_FROM + _SPARK_LENGTH * min(1, max(0, share)):.1f}"
