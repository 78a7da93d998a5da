"""Breast tissue under haematoxylin and eosin: stroma with ducts or a solid nest, benign or malignant."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from pipelines.phantoms.fields import (
    Drawing,
    Field,
    Site,
    axes,
    confine,
    look_up,
    quadrant,
    smooth_noise,
    soft_step,
)

# Optical density of each dye in red, green and blue. "a" after Ruifrok & Johnston 2001; "b" is redder and browner, as
# from another laboratory.
_STAIN_A = np.array([[0.68, 0.72, 0.30], [0.07, 0.92, 0.28]], dtype=np.float32)
_STAIN_B = np.array([[0.62, 0.88, 0.60], [0.10, 0.95, 0.55]], dtype=np.float32)
_SUPERSAMPLING = 2


# Nuclei, one a row: x, y, half length, half width, angle, density, roughness of outline.
_Nuclei = npt.NDArray[np.float64]


def draw_tissue(
    side_px: int,
    label: str,
    lesion_contrast: float,
    group: np.random.Generator,
    image: np.random.Generator,
    lesion: np.random.Generator,
    *,
    stain_shift: float,
) -> Drawing:
    """Draw one field of a slide: its stroma and dye (`group`), this field (`image`), its `lesion`.

    Nuclei are small and even in a benign lesion, large, dark and uneven in a malignant one. Most benign lesions are
    ducts and most malignant ones solid, but three in ten are the other way round. `stain_shift` moves the dyes from
    stain "a" (0) to stain "b" (1).
    """
    site = _place_site(image)
    nuclei, eosin = _draw_stroma(side_px, group, image)
    box, caption = None, "Tissue phantom, H&E, stroma without a visible lesion."
    if lesion_contrast > 0:
        malignant = label == "malignant"
        # Carcinoma can form glands and benign ducts can fill up: only the nuclei never mislead.
        solid = bool(lesion.random() < (0.7 if malignant else 0.3))
        draw = _draw_nest if solid else _draw_ducts
        region, lesion_nuclei, lesion_eosin = draw(side_px, site, lesion, malignant=malignant)
        region, box = confine(lesion_contrast * region, 0.02)
        nuclei = nuclei + region * (lesion_nuclei - nuclei)
        eosin = eosin + region * (lesion_eosin - eosin)
        caption = _describe(site, malignant=malignant, solid=solid)
    return Drawing(_stain(nuclei, eosin, group, image, stain_shift), site, box, caption)


def _describe(site: Site, *, malignant: bool, solid: bool) -> str:
    kind = "malignant" if malignant else "benign"
    shape = f"a {kind} solid nest" if solid else f"{kind} glands"
    cells = "large irregular" if malignant else "small regular"
    return f"Tissue phantom, H&E, with {shape} of {cells} nuclei, {quadrant(site)}."


def _place_site(image: np.random.Generator) -> Site:
    return Site(
        x=image.uniform(0.38, 0.62),
        y=image.uniform(0.38, 0.62),
        half_width=image.uniform(0.26, 0.36),
        half_height=image.uniform(0.26, 0.36),
    )


def _stain(nuclei: Field, eosin: Field, group: np.random.Generator, image: np.random.Generator, shift: float) -> Field:
    """Colour ``(side, side, 3)`` from the density of both dyes; slides differ a little whatever their stain."""
    dyes = _STAIN_A + np.float32(shift) * (_STAIN_B - _STAIN_A)
    dyes = dyes + group.uniform(-0.03, 0.03, size=(2, 3)).astype(np.float32)
    dyes = dyes * group.uniform(0.9, 1.1, size=(2, 1)).astype(np.float32) * np.float32(1 + 0.15 * shift)
    grain = 0.012 * image.standard_normal(nuclei.shape, dtype=np.float32)
    channels = [0.965 * np.exp(-np.maximum(nuclei * h + eosin * e, 0)) + grain for h, e in dyes.T]
    colour: Field = np.stack(channels, axis=2)
    return colour


def _draw_stroma(side_px: int, group: np.random.Generator, image: np.random.Generator) -> tuple[Field, Field]:
    """Collagen along the slide's grain, clefts, spindle nuclei and a few lymphocytes."""
    y, x = axes(side_px)
    angle = group.uniform(0, np.pi) + image.uniform(-0.2, 0.2)
    cos, sin = math.cos(angle), math.sin(angle)
    bend = 0.022 * smooth_noise(image, side_px, 4, 4)
    # Turned about the middle and shrunk, so that the corners still fall on the field of noise.
    along = 0.5 + 0.62 * ((x - 0.5) * cos + (y - 0.5) * sin)
    aside = 0.5 + 0.62 * ((y - 0.5) * cos - (x - 0.5) * sin) + bend
    fibres = look_up(smooth_noise(image, side_px, 60, 9), aside, along)
    threads = look_up(smooth_noise(image, side_px, 150, 18), aside, along)
    clefts = soft_step(-fibres - 1.5, 0.25) * 0.8
    uneven = 0.06 * smooth_noise(image, side_px, 5, 5)
    eosin = (group.uniform(0.36, 0.50) + 0.09 * fibres + 0.05 * threads + uneven) * (1 - clefts)

    n_spindle, n_round = round(group.uniform(30, 60)), round(image.uniform(0, 22))
    spindles = np.empty((n_spindle, 7))
    spindles[:, :2] = image.uniform(0, 1, size=(n_spindle, 2))
    spindles[:, 2] = image.uniform(0.018, 0.034, size=n_spindle)
    spindles[:, 3] = image.uniform(0.006, 0.010, size=n_spindle)
    spindles[:, 4] = angle + image.normal(0, 0.2, size=n_spindle)
    spindles[:, 5:] = 0.75, 0.1
    # Lymphocytes gather, in benign and malignant tissue alike.
    lymphocytes = np.tile([0, 0, 0.012, 0.011, 0, 1.0, 0.08], (n_round, 1))
    lymphocytes[:, :2] = image.uniform(0.1, 0.9, size=2) + image.normal(0, 0.12, size=(n_round, 2))
    cells = np.concatenate([spindles, lymphocytes])
    return 0.10 * eosin + _draw_nuclei(side_px, cells, image), eosin


def _draw_ducts(side_px: int, site: Site, rng: np.random.Generator, *, malignant: bool) -> tuple[Field, Field, Field]:
    """Region, nuclei and eosin of a few ducts: cells in rings about a lumen."""
    y, x = axes(side_px)
    region = np.zeros((side_px, side_px), dtype=np.float32)
    lumen = np.zeros_like(region)
    places = []
    for cx, cy, radius in _place_ducts(site, rng):
        oval, tilt, bulge = rng.uniform(0.65, 1.0), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        cos, sin = math.cos(tilt), math.sin(tilt)
        # Only the duct's own window: the rest of the field is out of its reach.
        rows, columns = (
            slice(int(max(0, c - 1.3 * radius) * side_px), int((c + 1.3 * radius) * side_px)) for c in (cy, cx)
        )
        u, v = x[:, columns] - cx, y[rows] - cy
        across, down = u * cos + v * sin, (v * cos - u * sin) / oval
        out = np.hypot(across, down) / radius + 0.08 * np.cos(3 * np.arctan2(down, across) + bulge)
        region[rows, columns] = np.maximum(region[rows, columns], soft_step(1.1 - out, 0.05))
        hollow = soft_step(rng.uniform(0.25, 0.45) - out, 0.06)
        lumen[rows, columns] = np.maximum(lumen[rows, columns], hollow)
        spacing = 0.036 if malignant else 0.026
        for ring in (0.88, 0.62):
            count = max(5, round(2 * np.pi * ring * radius / spacing))
            turns = 2 * np.pi * (np.arange(count) + rng.uniform(-0.25, 0.25, size=count)) / count
            reach = radius * (ring + rng.uniform(-0.05, 0.05, size=count) - 0.08 * np.cos(3 * turns + bulge))
            du, dv = reach * np.cos(turns), reach * oval * np.sin(turns)
            places += [np.stack([cx + du * cos - dv * sin, cy + du * sin + dv * cos, turns + tilt], axis=1)]
    cells = _grow_nuclei(np.concatenate(places), rng, malignant=malignant)
    eosin = 0.34 * (1 - 0.9 * lumen)
    return region, 0.12 * eosin + _draw_nuclei(side_px, cells, rng), eosin


def _place_ducts(site: Site, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centres and radii of up to six ducts in a site, apart from each other."""
    placed: list[tuple[float, float, float]] = []
    for _ in range(30):
        turn, reach = rng.uniform(0, 2 * np.pi), 0.8 * np.sqrt(rng.uniform())
        x = site.x + reach * site.half_width * np.cos(turn)
        y = site.y + reach * site.half_height * np.sin(turn)
        radius = rng.uniform(0.07, 0.115)
        if len(placed) < 6 and all(np.hypot(x - a, y - b) > 0.95 * (radius + r) for a, b, r in placed):
            placed.append((float(x), float(y), radius))
    return placed


def _draw_nest(side_px: int, site: Site, rng: np.random.Generator, *, malignant: bool) -> tuple[Field, Field, Field]:
    """Region, nuclei and eosin of a solid sheet of cells; its margin is ragged if malignant."""
    y, x = axes(side_px)
    out = np.hypot((x - site.x) / site.half_width, (y - site.y) / site.half_height)
    ragged = (0.16 if malignant else 0.06) * smooth_noise(rng, side_px, 7, 7)
    region = soft_step(1 + ragged - out, 0.06)
    eosin = 0.34 + 0.05 * smooth_noise(rng, side_px, 20, 20)
    pitch = rng.uniform(0.038, 0.048)
    reach = 1.2 * max(site.half_width, site.half_height)
    u, v = (side.ravel() for side in np.meshgrid(*[np.arange(-reach, reach, pitch)] * 2))
    within = np.hypot(u / site.half_width, v / site.half_height) < 1.4
    places = np.stack([site.x + u, site.y + v, np.zeros_like(u)], axis=1)[within]
    places += rng.normal(0, [0.25 * pitch, 0.25 * pitch, np.pi], size=places.shape)
    cells = _grow_nuclei(places, rng, malignant=malignant)
    return region, 0.14 + _draw_nuclei(side_px, cells, rng), eosin


def _grow_nuclei(places: npt.NDArray[np.float64], rng: np.random.Generator, *, malignant: bool) -> _Nuclei:
    """Nuclei at `places`, ``(n, 3)``: x, y, angle."""
    count = len(places)
    if malignant:
        length = np.minimum(rng.lognormal(math.log(0.0175), 0.28, size=count), 0.034)
        width, density = length * rng.uniform(0.6, 0.95, size=count), rng.uniform(0.65, 1.3, size=count)
    else:
        size = rng.uniform(0.0115, 0.0145, size=count)
        length, width, density = 1.2 * size, 0.85 * size, rng.uniform(0.75, 0.95, size=count)
    roughness = np.full(count, 0.2 if malignant else 0.08)
    return np.column_stack([places[:, 0], places[:, 1], length, width, places[:, 2], density, roughness])


def _draw_nuclei(side_px: int, cells: _Nuclei, rng: np.random.Generator) -> Field:
    """Density of haematoxylin in `cells`, with coarse chromatin."""
    scale = side_px * _SUPERSAMPLING
    mask = Image.new("L", (scale, scale))
    draw = ImageDraw.Draw(mask)
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    x, y, length, width, angle, density, roughness = cells.T[:, :, None]
    waves = rng.standard_normal((len(cells), turn.size))
    radius = scale * (1 + roughness * (waves + np.roll(waves, 1, axis=1)) / 2)
    along, aside = length * radius * np.cos(turn), width * radius * np.sin(turn)
    px = x * scale + along * np.cos(angle) - aside * np.sin(angle)
    py = y * scale + along * np.sin(angle) + aside * np.cos(angle)
    ink = np.minimum(255, np.rint(170 * density[:, 0])).astype(int).tolist()
    for outline, fill in zip(np.stack([px, py], axis=2).reshape(len(cells), -1).tolist(), ink, strict=True):
        draw.polygon(outline, fill=fill)
    soft = mask.reduce(_SUPERSAMPLING).filter(ImageFilter.GaussianBlur(side_px / 400))
    chromatin = 1 + 0.16 * smooth_noise(rng, side_px, side_px // 2, side_px // 2)
    stained: Field = np.asarray(soft, dtype=np.float32) * (1.15 / 170) * chromatin
    return stained
