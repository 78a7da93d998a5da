"""Breast ultrasound through a linear probe: skin, fat, gland, muscle; a mass or none."""

import numpy as np
from scipy.ndimage import gaussian_filter

from pipelines.phantoms.fields import (
    Box,
    Drawing,
    Field,
    Site,
    axes,
    confine,
    look_up,
    quadrant,
    smooth_curve,
    smooth_noise,
    soft_step,
    trace,
)


def draw_ultrasound(
    side_px: int,
    label: str,
    lesion_contrast: float,
    group: np.random.Generator,
    image: np.random.Generator,
    lesion: np.random.Generator,
) -> Drawing:
    """Draw one image of a patient: their tissue (`group`), this plane and its speckle (`image`), their `lesion`.

    A benign mass is smooth, dark and encapsulated with enhancement behind it; a malignant one is irregular, spiculated
    and blurred with a shadow behind it. Both signs behind the mass belong to its box.
    """
    site = _place_site(group, image)
    echo = _draw_tissue(side_px, group, image)
    box, caption = None, "Ultrasound phantom of breast tissue, no visible lesion."
    if label != "normal" and lesion_contrast > 0:
        echo, box = _add_mass(echo, site, lesion_contrast, lesion, malignant=label == "malignant")
        looks = "an irregular hypoechoic malignant" if label == "malignant" else "a smooth oval hypoechoic benign"
        caption = f"Ultrasound phantom with {looks} lesion, {quadrant(site)}."
    elif label == "normal":
        caption = "Ultrasound phantom of normal breast tissue, no lesion."
    return Drawing(echo * _speckle(side_px, image), site, box, caption)


def _place_site(group: np.random.Generator, image: np.random.Generator) -> Site:
    half_width = group.uniform(0.10, 0.18) * image.uniform(0.85, 1.15)
    return Site(
        x=group.uniform(0.30, 0.70) + image.uniform(-0.04, 0.04),
        y=group.uniform(0.28, 0.48) + image.uniform(-0.03, 0.03),
        half_width=half_width,
        half_height=half_width * group.uniform(0.6, 0.9),
    )


def _draw_tissue(side_px: int, group: np.random.Generator, image: np.random.Generator) -> Field:
    """Layers, fibres and septa of the patient, seen in this plane through speckle and attenuation."""
    y, x = axes(side_px)
    bend = 0.022 * smooth_curve(group, side_px, 4) + 0.008 * smooth_curve(image, side_px, 5)
    wave = 0.010 * smooth_noise(group, side_px, 5, 7) + 0.007 * smooth_noise(image, side_px, 10, 10)
    ramp = np.minimum(y / 0.12, 1)  # the skin lies flat against the probe
    depth = y + ramp * (bend + wave)

    fat = group.uniform(0.15, 0.30)
    gland = fat + group.uniform(0.22, 0.36)
    muscle = gland + group.uniform(0.10, 0.18)
    knots = [0.0, 0.03, 0.045, fat - 0.015, fat + 0.015, gland - 0.03, gland + 0.02, muscle, muscle + 0.03, 1.2]
    gland_grey = group.uniform(0.36, 0.56)
    base = trace(depth, knots, [0.6, 0.5, 0.3, 0.3, gland_grey, gland_grey - 0.06, 0.27, 0.27, 0.14, 0.06])
    fibre_share = trace(depth, knots, [0.2, 0.1, 0.05, 0.1, 0.24, 0.24, 0.3, 0.3, 0.12, 0.03])

    seen = 0.08 + 0.84 * x + image.uniform(-0.06, 0.06)
    fibres = 0.75 * smooth_noise(group, side_px, 76, 14) + 0.65 * smooth_noise(image, side_px, 88, 22)
    fibres = look_up(fibres, depth + 0.04 * bend, seen)
    cells = smooth_noise(group, side_px, 9, 6)
    septa = np.exp(-np.square(look_up(cells, depth, seen) / 0.10))
    in_fat = soft_step(depth - 0.05, 0.015) * soft_step(fat - depth, 0.02)
    sheet = np.exp(-np.square((depth - fat) / 0.008)) + np.exp(-np.square((depth - muscle) / 0.008))

    echo = base + fibre_share * (np.maximum(fibres - 0.4, 0) - 0.35 * np.maximum(-fibres - 0.3, 0))
    echo = echo + 0.22 * septa * in_fat + 0.16 * sheet * np.clip(0.6 + fibres, 0, 1.6)
    echo = np.maximum(echo, 0.03) * _shade(side_px, depth, group, image)
    skin = np.exp(-np.square((y - 0.012) / 0.006)) + 0.7 * np.exp(-np.square((y - 0.038) / 0.005))
    layered: Field = echo + 0.3 * skin
    return layered


def _shade(side_px: int, depth: Field, group: np.random.Generator, image: np.random.Generator) -> Field:
    """Gain and attenuation with depth, poor contact at one side, shadows below ligaments: none tells the label."""
    gain = group.uniform(0.95, 1.3)
    fade = trace(depth, [0, 0.35, 0.65, 1.0], [1.0, 1.0, group.uniform(0.6, 0.95), group.uniform(0.15, 0.45)])
    contact = np.clip(1 + 0.22 * smooth_curve(group, side_px, 3), 0.35, 1.25)
    streaks = soft_step(smooth_curve(image, side_px, 12) - 1.25, 0.45)
    shadow = 1 - 0.6 * streaks * soft_step(depth - image.uniform(0.15, 0.4), 0.10)
    shaded: Field = gain * fade * contact * shadow
    return shaded


def _speckle(side_px: int, image: np.random.Generator) -> Field:
    """Rayleigh amplitude with grains wider than deep, compressed as a scanner does."""
    noise = image.standard_normal((2, side_px, side_px), dtype=np.float32)
    grain = gaussian_filter(noise, (0, side_px / 450, side_px / 230), truncate=3)
    amplitude = np.hypot(grain[0], grain[1])
    compressed: Field = np.maximum(1 + 0.34 * np.log(amplitude / amplitude.mean() + 0.18), 0.4)
    return compressed


def _add_mass(
    echo: Field, site: Site, contrast: float, rng: np.random.Generator, *, malignant: bool
) -> tuple[Field, Box | None]:
    """Cover the tissue by the mass, and dim or enhance what lies behind it."""
    y, x = axes(echo.shape[0])
    across, down = (x - site.x) / site.half_width, (y - site.y) / site.half_height
    radius = np.sqrt(np.square(across) + np.square(down))
    outline = _outline(rng, malignant=malignant)
    turn = np.arctan2(down, across) / (2 * np.pi) + 0.5
    edge = outline[(turn * (outline.size - 1)).astype(np.int32)]
    inside = soft_step(edge - radius, 0.16 if malignant else 0.07)
    behind = soft_step(down - 0.2, 0.25) * np.clip((4.2 - down) / 2.0, 0, 1) * soft_step(0.85 - np.abs(across), 0.25)
    if malignant:
        rim = 0.35 * np.exp(-np.square((radius - edge - 0.35) / 0.22)) * (down < 0.3)
        around = rim - rng.uniform(0.45, 0.8) * behind
    else:
        rim = 0.55 * np.exp(-np.square((radius - edge - 0.09) / 0.07))
        around = rim + rng.uniform(0.35, 0.75) * behind
    cover, _ = confine(contrast * inside, 0.02)
    gain, _ = confine(contrast * (1 - inside) * around, 0.02)
    _, box = confine(cover + np.abs(gain), 0.0)
    core = rng.uniform(0.03, 0.10)
    changed: Field = echo * (1 + gain) * (1 - cover) + core * cover
    return changed, box


def _outline(rng: np.random.Generator, *, malignant: bool) -> Field:
    """Radius of the mass by direction, ``(512,)``, about 1."""
    turn = np.linspace(0, 2 * np.pi, 512, dtype=np.float32)
    outline = np.ones(512, dtype=np.float32)
    for wave in (2, 3):
        outline += rng.uniform(0, 0.05) * np.cos(wave * turn + rng.uniform(0, 2 * np.pi))
    if malignant:
        for wave in range(3, 8):
            outline += rng.uniform(0.02, 0.09) * np.cos(wave * turn + rng.uniform(0, 2 * np.pi))
        for _ in range(int(rng.integers(6, 11))):
            off = np.abs((turn - rng.uniform(0, 2 * np.pi) + np.pi) % (2 * np.pi) - np.pi)
            outline += rng.uniform(0.15, 0.5) * np.exp(-off / rng.uniform(0.05, 0.12))
        outline *= 0.88
    return outline
