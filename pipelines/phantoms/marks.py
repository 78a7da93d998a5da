"""What scanners and readers burn into an image: words, callipers, arrows."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipelines.phantoms.fields import Box, Site

Pixels = npt.NDArray[np.uint8]

_SUPERSAMPLING = 4


def burn_words(
    pixels: Pixels, lines: tuple[str, ...], strength: float, rng: np.random.Generator, *, right: bool, top: bool
) -> tuple[Pixels, tuple[Box, ...]]:
    """Write `lines` in white into a corner; size and opacity rise with `strength`.

    Returns
    -------
    tuple
        New pixels, and the half-open box of every line that left ink.
    """
    side_px = pixels.shape[0]
    size_px = _size_px(side_px, strength)
    margin_x, margin_y = (side_px * rng.uniform(0.02, 0.06, size=2)).tolist()
    x = side_px - margin_x if right else margin_x
    y = margin_y if top else side_px - margin_y - len(lines) * 1.25 * size_px
    boxes: list[Box] = []
    for number, line in enumerate(lines):
        mask = Image.new("L", (side_px, side_px))
        at = (round(x), round(y + number * 1.25 * size_px))
        _write(mask, at, line, size_px, anchor="ra" if right else "la")
        pixels, box = _burn(pixels, mask, strength)
        boxes += [box] if box else []
    return pixels, tuple(boxes)


def burn_word_into(pixels: Pixels, word: str, box: Box, strength: float) -> Pixels:
    """Write a word as `burn_words` does, drawn out or together so that its ink just fills a box; return new pixels."""
    x0, y0, x1, y1 = box
    size_px = _size_px(pixels.shape[0], strength)
    ample = Image.new("L", (size_px * (len(word) + 2), 3 * size_px))
    _write(ample, (size_px, size_px), word, size_px)
    mask = Image.new("L", (pixels.shape[1], pixels.shape[0]))
    mask.paste(ample.crop(ample.getbbox()).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC), (x0, y0))
    return _burn(pixels, mask, strength)[0]


def line_width(line: str, side_px: int, strength: float) -> float:
    """Return how wide `burn_words` writes a line into a picture of that height, in px."""
    return float(_font(_size_px(side_px, strength)).getlength(_spaced(line)))


def burn_callipers(
    pixels: Pixels, site: Site, strength: float, rng: np.random.Generator
) -> tuple[Pixels, tuple[Box, ...]]:
    """Measure `site` along two axes: a dotted line between two crosses, and its number."""
    tilt = rng.uniform(-0.3, 0.3)
    boxes: list[Box] = []
    for number, (half, angle) in enumerate(((site.half_width, tilt), (site.half_height, tilt + np.pi / 2)), start=1):
        reach = 1.08 * half * np.array([np.cos(angle), np.sin(angle)])
        start, end = np.array([site.x, site.y]) - reach, np.array([site.x, site.y]) + reach
        mask = _draw_calliper(pixels.shape[0], start, end, str(number), strength)
        pixels, box = _burn(pixels, mask, strength)
        boxes += [box] if box else []
    return pixels, tuple(boxes)


def burn_arrow(pixels: Pixels, site: Site, strength: float, rng: np.random.Generator) -> tuple[Pixels, tuple[Box, ...]]:
    """Point at `site` with an arrow, as on a key image."""
    side_px = pixels.shape[0]
    scale = side_px * _SUPERSAMPLING
    angle = rng.uniform(0, 2 * np.pi)
    ahead, aside = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    tip = np.array([site.x, site.y]) - (max(site.half_width, site.half_height) + 0.02) * ahead
    length = 0.06 + 0.05 * strength
    neck, tail, width = tip - 0.45 * length * ahead, tip - length * ahead, 0.012 + 0.012 * strength
    mask = Image.new("L", (scale, scale))
    draw = ImageDraw.Draw(mask)
    draw.polygon(
        [_point(tip, scale), _point(neck + width * aside, scale), _point(neck - width * aside, scale)], fill=255
    )
    draw.line([_point(neck, scale), _point(tail, scale)], fill=255, width=max(1, round(0.011 * scale)))
    pixels, box = _burn(pixels, mask.reduce(_SUPERSAMPLING), strength)
    return pixels, (box,) if box else ()


def _draw_calliper(
    side_px: int, start: npt.NDArray[Any], end: npt.NDArray[Any], number: str, strength: float
) -> Image.Image:
    mask = Image.new("L", (side_px, side_px))
    draw = ImageDraw.Draw(mask)
    arm = max(2, round(side_px * (0.014 + 0.012 * strength)))
    thick = max(1, round(side_px * (0.004 + 0.004 * strength)))
    for tip in (start, end):
        x, y = _point(tip, side_px)
        draw.line([(x - arm, y), (x + arm, y)], fill=255, width=thick)
        draw.line([(x, y - arm), (x, y + arm)], fill=255, width=thick)
    span = float(np.hypot(*(end - start))) * side_px
    for step in np.linspace(0, 1, max(2, round(span / max(3.0, side_px * 0.014)))):
        draw.point(_point(start + step * (end - start), side_px), fill=255)
    x, y = _point(start, side_px)
    draw.text((x - arm, y - arm), number, fill=255, font=_font(max(6, round(side_px * 0.04))), anchor="rb")
    return mask


def _point(place: npt.NDArray[Any], side_px: int) -> tuple[int, int]:
    return round(float(place[0]) * side_px), round(float(place[1]) * side_px)


def _size_px(side_px: int, strength: float) -> int:
    return max(6, round(side_px * (0.040 + 0.024 * strength)))


def _write(mask: Image.Image, at: tuple[int, int], line: str, size_px: int, anchor: str = "la") -> None:
    ImageDraw.Draw(mask).text(at, _spaced(line), fill=255, font=_font(size_px), anchor=anchor, stroke_width=0.3)


def _spaced(line: str) -> str:
    # The font's own space is too narrow for capitals.
    return line.replace(" ", "  ")


@lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _burn(pixels: Pixels, mask: Image.Image, opacity: float) -> tuple[Pixels, Box | None]:
    """Blend white into a copy of `pixels` where `mask` has ink; what it leaves alone stays exactly as it was."""
    box = mask.getbbox()
    burned = pixels.copy()
    if box is None:
        return burned, None
    x0, y0, x1, y1 = box
    ink = np.asarray(mask.crop(box), dtype=np.float32)[..., None] * (opacity / 255)
    under = pixels[y0:y1, x0:x1].astype(np.float32)
    burned[y0:y1, x0:x1] = np.rint(under + (255 - under) * ink)
    return burned, box
