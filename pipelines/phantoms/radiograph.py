"""Frontal chest radiograph: lungs, ribs, mediastinum; a nodule, an opacity or neither."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from pipelines.phantoms.fields import Box, Drawing, Field, Site, axes, confine, smooth_noise, soft_step, trace


def draw_radiograph(
    side_px: int,
    label: str,
    lesion_contrast: float,
    group: np.random.Generator,
    image: np.random.Generator,
    lesion: np.random.Generator,
) -> Drawing:
    """Draw one film of a patient: their chest (`group`), this exposure (`image`), their `lesion`.

    A nodule is a small dense disc with a clear margin, an opacity a faint cloud without one.
    """
    site = _place_site(group, image)
    grey = _draw_chest(side_px, group, image)
    box, caption = None, "Chest radiograph phantom, no visible lesion."
    if label != "no_finding" and lesion_contrast > 0:
        nodule = label == "nodule"
        effect, box = _draw_nodule(side_px, site, lesion) if nodule else _draw_opacity(side_px, site, lesion)
        grey = grey + lesion_contrast * effect * (1 - 0.6 * np.clip(grey, 0, 1))
        looks = "a small round nodule" if nodule else "a diffuse opacity"
        caption = f"Chest radiograph phantom with {looks} in the {_name_zone(site)}."
    elif label == "no_finding":
        caption = "Chest radiograph phantom with clear lungs, no finding."
    return Drawing(grey, site, box, caption)


def _place_site(group: np.random.Generator, image: np.random.Generator) -> Site:
    side = float(group.choice([-1.0, 1.0]))
    half = group.uniform(0.022, 0.038) * image.uniform(0.9, 1.1)
    return Site(
        x=0.5 + side * group.uniform(0.17, 0.27) + image.uniform(-0.02, 0.02),
        y=group.uniform(0.28, 0.58) + image.uniform(-0.02, 0.02),
        half_width=half,
        half_height=half,
    )


def _name_zone(site: Site) -> str:
    """Name lung and zone; the patient faces the reader, so their right is on the left."""
    zone = "upper" if site.y < 0.36 else "middle" if site.y < 0.49 else "lower"
    return f"{zone} zone of the {'right' if site.x < 0.5 else 'left'} lung"


def _draw_chest(side_px: int, group: np.random.Generator, image: np.random.Generator) -> Field:
    rows, columns = axes(side_px)
    y = (rows - 0.5) * group.uniform(0.93, 1.06) + 0.5 + group.uniform(-0.02, 0.03) + image.uniform(-0.015, 0.015)
    x = (columns - 0.5) * group.uniform(0.92, 1.10) + image.uniform(-0.015, 0.015) + image.uniform(-0.03, 0.03) * rows
    out = np.abs(x)
    lungs = _draw_lungs(x, y, group)

    neck_to_hip = trace(y, [0.0, 0.05, 0.16, 0.3, 1.0], [0.13, 0.19, 0.45, 0.485, 0.47])
    body = soft_step(neck_to_hip - out, 0.012)
    flank = np.clip((neck_to_hip - out) / 0.16, 0, 1)
    tissue = 0.30 + 0.32 * np.sqrt(flank)
    spine = np.exp(-np.square(x / 0.055))
    vertebrae = 0.5 + 0.5 * np.cos(2 * np.pi * (y + 0.01) / 0.062)
    belly = soft_step(y - 0.80, 0.05)
    solid = tissue + 0.15 * spine + 0.03 * spine * vertebrae + 0.10 * belly
    aerated = group.uniform(0.14, 0.22) + 0.10 * np.clip((y - 0.45) / 0.4, 0, 1) + 0.06 * spine
    grey = solid * (1 - lungs) + aerated * lungs
    windpipe = np.exp(-np.square((x + 0.005) / 0.020)) * soft_step(0.36 - y, 0.04)
    grey = grey - 0.10 * windpipe
    grey = grey + _draw_ribs(x, y, group) * (0.35 + 0.65 * lungs)
    grey = grey + lungs * _draw_vessels(side_px, group)
    grey = grey + 0.018 * smooth_noise(group, side_px, 12, 12) + 0.012 * smooth_noise(image, side_px, 30, 30)
    exposed = np.clip(grey, 0, 1.2) ** group.uniform(0.85, 1.15) * image.uniform(0.95, 1.05) * body + 0.015
    film: Field = exposed + 0.014 * smooth_noise(image, side_px, side_px, side_px)
    return film


def _draw_lungs(x: Field, y: Field, group: np.random.Generator) -> Field:
    """Both lungs, 1 inside; `x` from the midline, positive to the patient's left."""
    out = np.abs(x)
    outer = trace(y, [0.10, 0.13, 0.18, 0.28, 0.45, 0.70, 0.9], [0.06, 0.15, 0.22, 0.30, 0.36, 0.395, 0.40])
    inner_right = trace(y, [0.10, 0.3, 0.42, 0.5, 0.62, 0.8], [0.055, 0.055, 0.085, 0.075, 0.085, 0.075])
    inner_left = trace(y, [0.10, 0.24, 0.36, 0.44, 0.8], [0.055, 0.055, 0.065, 0.085, 0.085])
    inner = np.where(x < 0, inner_right, inner_left)
    heart = 1 - np.hypot((x - 0.06) / (0.125 + group.uniform(0, 0.045)), (y - 0.645) / group.uniform(0.165, 0.2))
    aorta = 1 - np.hypot((x - 0.045) / 0.05, (y - 0.315) / group.uniform(0.04, 0.055))
    # Domes: the liver lifts the right one, and both fall to the angle at the ribs.
    top = np.where(x < 0, np.float32(0.735), np.float32(0.765)) + group.uniform(-0.03, 0.04)
    dome = top + 1.6 * np.square(np.maximum(out - 0.2, 0)) + 2.2 * np.maximum(out - 0.345, 0)
    edge = np.minimum(outer - out, out - inner)
    lungs = soft_step(edge, 0.010) * soft_step(dome - y, 0.008) * soft_step(y - 0.095, 0.02)
    clear: Field = lungs * soft_step(-heart, 0.06) * soft_step(-aorta, 0.15)
    return clear


def _draw_ribs(x: Field, y: Field, group: np.random.Generator) -> Field:
    """Posterior ribs fall outwards, the fainter anterior ones inwards; collar bones across the tops."""
    out = np.abs(x)
    spacing = group.uniform(0.075, 0.088)
    offset = group.uniform(0, 1)
    fall = 1.35 * np.square(np.maximum(out - 0.10, 0)) - 0.10 * out
    back = np.cos(2 * np.pi * ((y - fall) / spacing + offset))
    rise = -0.55 * out + 0.55 * np.square(out)
    front = np.cos(2 * np.pi * ((y - rise) / (spacing * 1.25) + offset + 0.4))
    thorax = soft_step(0.42 - out, 0.02) * soft_step(y - 0.09, 0.02) * soft_step(0.86 - y, 0.05)
    # Cortex is denser than marrow, so a rib is brightest along both margins.
    back_rib = soft_step(back - 0.15, 0.25) + 0.35 * np.exp(-np.square((back - 0.25) / 0.25))
    front_rib = soft_step(front - 0.35, 0.3) * soft_step(out - 0.13, 0.05)
    bone = (0.075 * back_rib * soft_step(out - 0.03, 0.01) + 0.04 * front_rib) * thorax
    collar = 0.145 - 0.22 * (out - 0.04) + 0.5 * np.square(out - 0.18)
    clavicle = (
        np.exp(-np.square(np.square((y - collar) / 0.016))) * soft_step(out - 0.03, 0.01) * soft_step(0.36 - out, 0.02)
    )
    ribs: Field = bone + 0.11 * clavicle
    return ribs


def _draw_vessels(side_px: int, group: np.random.Generator) -> Field:
    """Vessels that leave each hilum, fork and thin out; a bright knot at the root."""
    mask = Image.new("L", (side_px * 2, side_px * 2))
    draw = ImageDraw.Draw(mask)
    for side in (-1, 1):
        for angle in np.linspace(-1.2, 1.2, 7).tolist():
            start = (0.5 + side * 0.085, 0.45 + 0.05 * angle)
            _branch(draw, side_px * 2, start, side, angle + group.uniform(-0.2, 0.2), 0.013, group)
    soft = mask.reduce(2).filter(ImageFilter.GaussianBlur(side_px / 256))
    y, x = axes(side_px)
    root = np.exp(-np.square((np.abs(x - 0.5) - 0.10) / 0.035) - np.square((y - 0.455) / 0.06))
    vessels: Field = np.asarray(soft, dtype=np.float32) * (0.16 / 255) + 0.17 * root
    return vessels


def _branch(
    draw: ImageDraw.ImageDraw,
    scale: int,
    start: tuple[float, float],
    side: int,
    angle: float,
    width: float,
    group: np.random.Generator,
) -> None:
    x, y = start
    for _ in range(4):
        length = group.uniform(0.02, 0.045)
        end = (x + side * length * math.cos(angle), y + length * math.sin(angle))
        ink = round(255 * min(1, width / 0.011))
        draw.line(
            [(x * scale, y * scale), (end[0] * scale, end[1] * scale)], fill=ink, width=max(1, round(width * scale))
        )
        (x, y), width, angle = end, width * 0.8, angle + group.uniform(-0.25, 0.25)
        if width > 0.006 and group.random() < 0.6:
            _branch(draw, scale, end, side, angle + float(group.choice([-0.6, 0.6])), width * 0.75, group)


def _draw_nodule(side_px: int, site: Site, rng: np.random.Generator) -> tuple[Field, Box | None]:
    y, x = axes(side_px)
    across, down = (x - site.x) / site.half_width, (y - site.y) / site.half_height
    turn = np.arctan2(down, across)
    lobes = 1 + 0.06 * np.cos(2 * turn + rng.uniform(0, 6)) + 0.03 * np.cos(3 * turn + rng.uniform(0, 6))
    disc = soft_step(lobes - np.hypot(across, down), 0.22)
    return confine(rng.uniform(0.40, 0.60) * disc, 0.01)


def _draw_opacity(side_px: int, site: Site, rng: np.random.Generator) -> tuple[Field, Box | None]:
    """Draw a cloud centred on the site, several times its size."""
    y, x = axes(side_px)
    wide, high = rng.uniform(0.075, 0.11), rng.uniform(0.09, 0.14)
    cloud = np.exp(-np.square((x - site.x) / wide) - np.square((y - site.y) / high))
    patches = np.clip(0.9 + 0.2 * smooth_noise(rng, side_px, 12, 12) + 0.1 * smooth_noise(rng, side_px, 40, 40), 0.2, 2)
    return confine(rng.uniform(0.34, 0.5) * cloud * patches, 0.015)
