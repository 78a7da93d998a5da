"""Words that may say who a patient is: dates, record numbers, names.

A guess on the safe side: a line is clear only where it consists of nothing but terms of the field, plain measures and
single characters. What is flagged is kept out of ``overlay_text``, reports, pictures and logs. A word of the field that
is taken for a name is cleared by adding it to the table of terms.
"""

import re

from pipelines.overlays.terms import Terms

WITHHELD = "[withheld]"

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(
    rf"""(?<!\d)(?:
        \d{{1,4}}\s*[./-]\s*\d{{1,2}}\s*[./-]\s*\d{{1,4}}
      | \d{{1,2}}\s*/\s*\d{{2,4}}
      | (?:19|20)\d\d(?!\d)
      | \d{{1,2}}[\s./-]*(?:{_MONTHS})[a-z]*
      | (?:{_MONTHS})[a-z]*[\s.,/-]*\d{{1,4}}
      | \d{{1,2}}:\d{{2}}:\d{{2}}
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_RECORD = re.compile(r"\d(?:[\s-]?\d){4,}|\b(?:mrn|id|pid|acc|dob|ssn|nhs|no)\b\s*[:#.]?\s*\w*\d", re.IGNORECASE)
_ADDRESSED = re.compile(r"\b(?:mrs?|ms|miss|dr|prof|name|patient)\b[.:]?\s+\w|\w{2,},\s*\w+|\w{2,}\^\w+", re.IGNORECASE)
# Up to three digits, as depths, sizes and settings are written, with or without a unit.
_MEASURE = re.compile(r"[+-]?\d{1,3}(?:[.]\d{1,3})?(?:mm|cm|m|s|ms|hz|khz|mhz|db|fps|%|°)?", re.IGNORECASE)
# Pieces of a word without blanks that are at least so long are words themselves.
_WORD_LETTERS = 4
_UNIT = re.compile(r"mm|cm|hz|khz|mhz|db|fps", re.IGNORECASE)


def may_identify(text: str, terms: Terms) -> bool:
    """Return whether a line may hold a date, a record number or a person's name.

    It may if it is written like one (``DR. …``, ``…, …``), or if any of its words is neither known to `terms`, nor a
    measure, nor a single letter or digit. An ideograph is a word by itself.
    """
    if any(pattern.search(text) for pattern in (_DATE, _RECORD, _ADDRESSED)):
        return True
    return not all(_is_plain(word, terms) for word in re.split(r"[\s,;/()\[\]=<>|*]+", text))


def _is_plain(word: str, terms: Terms) -> bool:
    # Punctuation around a word is no part of it.
    bare = re.sub(r"^[^\w+-]+|[^\w%°]+$", "", word)
    if len(bare) <= 1:
        return bare.isascii() or bare == "°"
    if _MEASURE.fullmatch(bare) or _UNIT.fullmatch(bare) or _is_known(terms.pieces_of(bare)):
        return True
    parts = re.split(r"[-.:+_]", bare)
    # Numbers joined so may be a date.
    return len(parts) > 1 and any(map(str.isalpha, bare)) and all(_is_plain(part, terms) for part in parts)


def _is_known(pieces: list[str]) -> bool:
    """Return whether a word of the field is meant by its pieces, and not a name that happens to be made of them.

    ``RTLO`` is, and ``LBREAST``; ``LARA`` (L, A, RA) and ``BILL`` (BIL, L) are not.
    """
    first, *others = pieces or [""]
    if not others or any(piece.isdecimal() for piece in others):
        return bool(first)
    abbreviated = len(first) > 1 and not set(first.lower()) & set("aeiou")
    return abbreviated or all(len(piece) >= _WORD_LETTERS for piece in others)
