"""Terms of the field: what is written many ways, said in one.

The table is a CSV with the columns ``written`` (a regular expression, of a whole word, case ignored), ``term`` (what it
says; may use groups of the expression) and ``kind`` (side, site, clock, depth, manufacturer, …). The one beside this
file is of breast ultrasound first; another is named by ``COUNTERSTAIN_TERMS``.
"""

import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from store.schema import CounterstainError

DEFAULT_TABLE = Path(__file__).with_name("terms.csv")

# What recognition takes for each other in the small fonts of scanners.
_MISTAKEN = ("Il", "l1", "I1", "O0", "OQ", "QU", "S5")


@dataclass(frozen=True)
class Term:
    """What a word says, and of what kind that is."""

    name: str
    kind: str


@dataclass(frozen=True)
class Terms:
    """The table, read; `version` changes with its content."""

    rules: tuple[tuple[re.Pattern[str], str, str], ...]
    version: str

    def of_word(self, word: str) -> list[Term]:
        """Return the terms of one word, which may be several without a blank (``LT3``, ``RTLO``); none if unknown."""
        return [term for _, term in self._pieces(word)]

    def of_line(self, text: str) -> list[Term]:
        """Return the terms of a line, in order."""
        return [term for word in re.split(r"[\s,;/()]+", text) if word for term in self.of_word(word)]

    def pieces_of(self, word: str) -> list[str]:
        """Return the pieces that one word is written in; none if unknown."""
        return [piece for piece, _ in self._pieces(word)]

    def words_of(self, text: str) -> list[list[str]]:
        """Return the words of a line, letters mistaken for others put right, each in the pieces it was written from.

        ``RTAXILLA`` becomes ``RT``, ``AXILLA``; ``Itc``, where a small l was read as an I, ``lt``, ``c``.
        """
        return [self._known_pieces(word) or [word] for word in text.split()]

    def _known_pieces(self, word: str) -> list[str]:
        for variant in (word, *_variants(word)):
            if pieces := self.pieces_of(variant):
                return pieces
        return []

    def _pieces(self, word: str) -> list[tuple[str, Term]]:
        """Return a word in known pieces: itself, or a side and what follows it; empty if there is an unknown rest."""
        if whole := self._one(word):
            return [(word, whole)]
        for cut in range(len(word) - 1, 0, -1):
            first = self._one(word[:cut])
            if first and first.kind == "side" and (rest := self._following(word[cut:])):
                return [(word[:cut], first), *rest]
        return []

    def _following(self, text: str) -> list[tuple[str, Term]]:
        for cut in range(len(text), 0, -1):
            if first := self._one(text[:cut]):
                if cut == len(text):
                    return [(text, first)]
                if rest := self._following(text[cut:]):
                    return [(text[:cut], first), *rest]
        return []

    def _one(self, word: str) -> Term | None:
        for pattern, name, kind in self.rules:
            if match := pattern.fullmatch(word):
                return Term(match.expand(name).upper(), kind)
        return None


def _variants(word: str) -> Iterator[str]:
    """Yield the word with one character exchanged for what it is mistaken for; a number stays one."""
    if word.isdecimal():
        return
    for place, character in enumerate(word):
        for pair in _MISTAKEN:
            if character in pair:
                yield word[:place] + pair[1 - pair.index(character)] + word[place + 1 :]


@lru_cache(maxsize=8)
def read_terms(path: Path = DEFAULT_TABLE) -> Terms:
    """Read a table of terms.

    Raises
    ------
    CounterstainError
        If it cannot be read, lacks a column, or holds what is no regular expression.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CounterstainError(f"terms: {path} cannot be read: {error}") from error
    rules = []
    for number, row in enumerate(csv.DictReader(content.splitlines()), start=2):
        written, name, kind = (row.get(column) for column in ("written", "term", "kind"))
        if not written or not name or not kind:
            raise CounterstainError(f"terms: {path}, line {number}: written, term and kind are all needed.")
        try:
            pattern = re.compile(written, re.IGNORECASE)
            re.compile(f"(?:{written})|").fullmatch("").expand(name)  # type: ignore[union-attr]  # it matches nothing
        except (re.error, IndexError) as error:
            raise CounterstainError(f"terms: {path}, line {number}: {written!r} → {name!r}: {error}.") from error
        rules.append((pattern, name, kind.strip()))
    return Terms(tuple(rules), hashlib.sha256(content.encode()).hexdigest()[:16])
