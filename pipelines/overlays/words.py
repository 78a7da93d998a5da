"""Words burned into an image: read by RapidOCR (PP-OCR through onnxruntime, weights inside the wheel), then sorted.

What is read is a word, a logo, part of a scale, or no writing at all but tissue that resembled it.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pipelines.overlays.cuts import shapes_that_stand_out
from pipelines.overlays.identifying import may_identify
from pipelines.overlays.item import Box, Item, Pixels
from pipelines.overlays.spacing import with_blanks
from pipelines.overlays.terms import Terms

# Shorter side at which words are sought: smaller images are enlarged to the first, larger ones shrunk to the second.
SIDES_PX = (640, 1024)
MAX_ELONGATION = 2
# Longer sides are shrunk to this: an elongated image is padded, and enlarged with its shorter side.
MAX_SIDE_PX = 4096
MIN_CONFIDENCE = 0.7
# One letter or digit is a word only if read this surely: tissue has many an O and I.
MIN_CONFIDENCE_OF_ONE = 0.9
# Taller lines, as shares of the image, are structures that look like a letter.
MAX_LINE_HEIGHT = 0.16
# What is at most this wide and high, and this close to a corner, is a maker's sign; shares of the image's sides.
_CORNER = (0.10, 0.08)
_CORNER_GAP = 0.02

# A letter by itself is sought at this length of the shorter side; area and height are in px there.
LETTER_SIDE_PX = 256
_LETTER_AREA_PX, _LETTER_PX = (14, 160), (7, 24)
# Reading one shape costs a hundredth of a second; speckle has many.
_MAX_LETTERS = 4

_SETTINGS = {
    "Global.use_cls": False,
    "Global.text_score": 0.0,
    "Global.log_level": "error",
    "Det.limit_side_len": SIDES_PX[0],
    "Det.limit_type": "min",
    # Below the default of 0.5: what is no writing after all is told by how surely it can be read.
    "Det.box_thresh": 0.4,
    # Images are spread over threads; one image gains little from several.
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    # Lines of one batch are padded to its longest.
    "Rec.rec_batch_num": 1,
}
_readers = threading.local()


@dataclass(frozen=True)
class Line:
    """A line as recognition gives it."""

    text: str
    box: Box
    confidence: float


def find_words(pixels: Pixels, terms: Terms) -> list[Item]:
    """Return the words, logos and scale numbers of an image, ``(h, w, 3)`` uint8, from the top down."""
    lines = [line for line in read_lines(pixels) if _is_writing(line, pixels.shape)]
    lines = sorted([*lines, *_lone_letters(pixels, lines, terms)], key=lambda line: (line.box[1], line.box[0]))
    return [_item(line, lines, pixels, terms) for line in lines]


def read_lines(pixels: Pixels) -> list[Line]:
    """Return all that recognition takes for lines of text, however unsure."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, SIDES_PX[1] / min(height, width), MAX_SIDE_PX / max(height, width))
    bgr: Pixels = np.ascontiguousarray(pixels[..., ::-1])
    if shrink < 1:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    found = _reader()(_widened(bgr), use_det=True)  # it remembers what it was last asked
    if found.boxes is None:
        return []
    lines = []
    for text, score, corners in zip(found.txts, found.scores, found.boxes, strict=True):
        (x0, y0), (x1, y1) = np.min(corners, axis=0) / shrink, np.max(corners, axis=0) / shrink
        box = (
            max(0, int(x0)),
            max(0, int(y0)),
            min(pixels.shape[1], int(np.ceil(x1))),
            min(pixels.shape[0], int(np.ceil(y1))),
        )
        lines.append(Line(" ".join(text.split()), box, float(score)))
    return sorted(lines, key=lambda line: (line.box[1], line.box[0]))


def _lone_letters(pixels: Pixels, lines: Sequence[Line], terms: Terms) -> list[Line]:
    """Return single letters that are terms of the field, as L and R on radiographs: line detection passes them by."""
    grey = pixels.max(axis=2)
    shrink = min(1.0, LETTER_SIDE_PX / min(grey.shape), MAX_SIDE_PX / max(grey.shape))
    if shrink < 1:
        size = (max(1, round(grey.shape[1] * shrink)), max(1, round(grey.shape[0] * shrink)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    known = [line.box for line in lines]
    found: list[Line] = []
    tried = 0
    for edges, _ in shapes_that_stand_out(grey, _LETTER_AREA_PX, _LETTER_PX):
        x0, y0, x1, y1 = (round(edge / shrink) for edge in edges)
        near = (y1 - y0) // 2
        if tried == _MAX_LETTERS or any(x0 - near < b and a < x1 + near and y0 < d and c < y1 for a, c, b, d in known):
            continue
        tried += 1
        known.append((x0, y0, x1, y1))
        crop = pixels[max(0, y0 - near) : y1 + near, max(0, x0 - near) : x1 + near, ::-1]
        read = _reader()(np.ascontiguousarray(crop), use_det=False)
        for text, score in zip(read.txts or (), read.scores or (), strict=True):
            if len(text) == 1 and text.isalpha() and score >= MIN_CONFIDENCE_OF_ONE and terms.of_line(text):
                found.append(Line(text, (x0, y0, x1, y1), float(score)))
    return found


def _widened(pixels: Pixels) -> Pixels:
    """Add black to the right or below an elongated image: its shorter side is enlarged, and the longer with it."""
    height, width = pixels.shape[:2]
    below, right = max(0, width // MAX_ELONGATION - height), max(0, height // MAX_ELONGATION - width)
    return np.pad(pixels, ((0, below), (0, right), (0, 0))) if below or right else pixels


def _reader() -> Any:
    """Return this thread's RapidOCR: its stages keep state between them."""
    if not hasattr(_readers, "reader"):
        from rapidocr import RapidOCR

        cv2.setNumThreads(1)
        _readers.reader = RapidOCR(params=_SETTINGS)
    return _readers.reader


def _is_writing(line: Line, shape: tuple[int, ...]) -> bool:
    characters = re.sub(r"[\W_]", "", line.text)
    if not characters or line.box[3] - line.box[1] > MAX_LINE_HEIGHT * shape[0]:
        return False
    if len(characters) == 1:
        # Single ideographs are what tissue is most often taken for.
        sure = line.confidence >= MIN_CONFIDENCE_OF_ONE and characters.isascii()
        return sure or _in_corner(line.box, shape)
    return line.confidence >= MIN_CONFIDENCE


def _item(line: Line, lines: Sequence[Line], pixels: Pixels, terms: Terms) -> Item:
    text = _tidy(line, pixels, terms)
    found = terms.of_line(text)
    kinds = {term.kind for term in found}
    # In a corner stands a maker's sign, often cut off; a word of the field that happens to stand there stays one.
    if "manufacturer" in kinds or (_in_corner(line.box, pixels.shape) and not kinds - {"clock", "depth"}):
        kind = "logo"
    elif _on_a_scale(line, lines):
        kind = "scale"
    else:
        kind = "word"
    return Item(
        kind,
        line.box,
        line.confidence,
        text,
        " ".join(dict.fromkeys(term.name for term in found)) or None,
        possible_identifying=may_identify(text, terms),
    )


def _tidy(line: Line, pixels: Pixels, terms: Terms) -> str:
    """Return the text with misread letters put right, and with the blanks that recognition dropped."""
    words = terms.words_of(line.text)
    if len(words) == 1 and len(words[0]) > 1:
        x0, y0, x1, y1 = line.box
        spaced = with_blanks(words[0], pixels[y0:y1, x0:x1].max(axis=2))
        # Abbreviations are often written in one, whole words are not.
        return spaced if " " in spaced or all(len(piece) < 4 for piece in words[0]) else " ".join(words[0])
    return " ".join("".join(pieces) for pieces in words)


def _in_corner(box: Box, shape: tuple[int, ...]) -> bool:
    height, width = shape[:2]
    beside, above = min(box[0], width - box[2]), min(box[1], height - box[3])
    small = box[2] - box[0] <= _CORNER[0] * width and box[3] - box[1] <= _CORNER[1] * height
    return small and beside <= _CORNER_GAP * width and above <= _CORNER_GAP * height


def _on_a_scale(line: Line, lines: Sequence[Line]) -> bool:
    """Return whether a number stands in a column or row of numbers, is a length in full, or a single digit."""
    if not _is_number(line):
        return False
    if re.search(r"\D$|^\d$", line.text):
        return True
    size = line.box[3] - line.box[1]
    return any(
        other is not line
        and _is_number(other)
        and (abs(other.box[2] - line.box[2]) <= size / 2 or abs(other.box[3] - line.box[3]) <= size / 3)
        for other in lines
    )


def _is_number(line: Line) -> bool:
    return re.fullmatch(r"-?\d+(?:[.,]\d+)?\s*(?:cm|mm)?", line.text, re.IGNORECASE) is not None
