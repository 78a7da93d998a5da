"""Train the network of `pipelines.overlays.marks_net` on marks planted on phantoms and noise.

The weights beside it were made by ``OMP_NUM_THREADS=1 python -m pipelines.overlays.marks_training --out
pipelines/overlays/marks_net.safetensors``, with the defaults below; nothing is read but this code. Backgrounds are
phantoms of every modality without planted background, and noise of many grains. Crosses of many makes (plain, gapped,
outlined, oblique), dotted lines and arrows are drawn on random crops; so is what only resembles them: letters, digits,
frames, strokes, specks and the crossing fibres of tissue.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from pipelines.overlays.marks_net import CHANNELS, STRIDE, WORKING_SIDE_PX, build
from pipelines.phantoms import Modality, PhantomSpec, draw_phantom

if TYPE_CHECKING:
    from collections.abc import Sequence

CROP_PX = 96
_FINE = 6  # marks are drawn so many times larger, and reduced
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghilmnorstux0123456789"

Plane = NDArray[np.float32]
Point = tuple[float, float]


def draw_backgrounds(per_kind: int, seed: int) -> list[Image.Image]:
    """Return greyscale images without marks, `per_kind` phantoms of each modality and as many of noise."""
    images = []
    for modality in get_args(Modality):
        spec = PhantomSpec(modality, n_images=per_kind, side_px=WORKING_SIDE_PX, images_per_group=1, seed=seed)
        images += [Image.fromarray(draw_phantom(spec, index).pixels.max(axis=2)) for index in range(per_kind)]
    rng = np.random.default_rng([seed, 1])
    return images + [Image.fromarray(np.clip(_noise(rng), 0, 255).astype(np.uint8)) for _ in range(per_kind)]


def _noise(rng: np.random.Generator) -> Plane:
    """Return clouds under speckle, in a band of grey levels and from black to bright across the image."""
    side = WORKING_SIDE_PX
    grain = rng.uniform(0.5, 2.5, 2)
    speckle = gaussian_filter(rng.normal(size=(side, side)), grain)
    clouds = gaussian_filter(rng.normal(size=(side, side)), rng.uniform(3, 40) * np.array([1, rng.uniform(1, 4)]))
    speckle, clouds = (field / field.std() for field in (speckle, clouds))
    along, across = np.mgrid[:side, :side] / side
    ramp = rng.normal(0, 0.8) * along + rng.normal(0, 0.8) * across
    level = rng.uniform(2.5, 4.5) + rng.uniform(0, 0.4) * speckle + rng.uniform(0, 0.6) * clouds + ramp
    # Compressed as ultrasound is: multiplicative before, additive after.
    return np.where(level > rng.uniform(-1, 3), np.exp(np.minimum(level, 5.6)), 0).astype(np.float32)


class Planter:
    """Draws marks on one crop, and where they are on the target ``(3, CROP_PX / 2, CROP_PX / 2)``."""

    def __init__(self, crop: Image.Image, rng: np.random.Generator):
        self.pixels: Plane = np.array(crop, np.float32)
        self.rng = rng
        self.target = np.zeros((len(CHANNELS), CROP_PX // STRIDE, CROP_PX // STRIDE), np.float32)

    def _burn(self, mask: Image.Image, grey: float, opacity: float) -> None:
        ink = np.asarray(mask.reduce(_FINE), np.float32) / 255
        self.pixels += (grey - self.pixels) * ink * np.float32(opacity)

    def _sheet(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        sheet = Image.new("L", (CROP_PX * _FINE, CROP_PX * _FINE))
        return sheet, ImageDraw.Draw(sheet)

    def _lines(self, lines: Sequence[Sequence[Point]], thick_px: float, grey: float, opacity: float) -> None:
        sheet, draw = self._sheet()
        for line in lines:
            draw.line(list(line), fill=255, width=round(thick_px * _FINE))
        self._burn(sheet, grey, opacity)

    def _point_at(self, channel: str, x: float, y: float) -> None:
        rows, columns = np.mgrid[: CROP_PX // STRIDE, : CROP_PX // STRIDE]
        distance = (columns - x / STRIDE) ** 2 + (rows - y / STRIDE) ** 2
        plane = self.target[CHANNELS.index(channel)]
        np.maximum(plane, np.exp(-distance / 1.2), out=plane)
        # Exactly one at the nearest place, as the loss counts marks there.
        row, column = round(y / STRIDE), round(x / STRIDE)
        if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
            plane[row, column] = 1

    def place(self) -> Point:
        """Return a random place, in px."""
        x, y = self.rng.uniform(2, CROP_PX - 2, 2)
        return float(x), float(y)

    def measurement(self) -> None:
        """Plant one to four crosses of one make, as measurements are made, some joined by dots."""
        rng = self.rng
        arms = rng.uniform(2.6, 7.5) * rng.uniform(0.8, 1.2, 2)
        thick, gap = rng.choice([0.7, 1.0, 1.5, 2.0]), rng.uniform(0.8, 2) if rng.random() < 0.12 else 0.0
        turn = math.pi / 4 if rng.random() < 0.1 else rng.normal(0, 0.02)
        grey, opacity = rng.uniform(150, 255), rng.uniform(0.65, 1)
        outlined, dotted = rng.random() < 0.2, rng.random() < 0.6
        for _ in range(rng.integers(1, 3)):
            start, angle, length = self.place(), rng.uniform(0, math.pi), rng.uniform(12, 90)
            end = (start[0] + length * math.cos(angle), start[1] + length * math.sin(angle))
            if dotted:
                self.dots(start, end, float(grey), float(opacity))
            for x, y in (start, end):
                lines = []
                for quarter in range(4):
                    way = turn + quarter * math.pi / 2
                    reach = (gap, arms[quarter % 2])
                    lines.append([((x + r * math.cos(way)) * _FINE, (y + r * math.sin(way)) * _FINE) for r in reach])
                if outlined:
                    self._lines(lines, float(thick) + 2, 0, 0.8)
                self._lines(lines, float(thick), float(grey), float(opacity))
                self._point_at("cross", x, y)
                if rng.random() < 0.3:
                    self.writing((x + rng.uniform(4, 9), y - rng.uniform(2, 9)), str(rng.integers(1, 5)))

    def dots(self, start: Point, end: Point, grey: float, opacity: float) -> None:
        """Plant a dotted line."""
        rng = self.rng
        step, size = rng.uniform(2.0, 5.5), rng.uniform(0.5, 1.1)
        opacity *= rng.uniform(0.4, 1)
        length = math.dist(start, end)
        sheet, draw = self._sheet()
        for along in np.arange(0, length, step):
            share = along / max(length, 1e-6)
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            box = [(x - size / 2) * _FINE, (y - size / 2) * _FINE, (x + size / 2) * _FINE, (y + size / 2) * _FINE]
            draw.ellipse(box, fill=255)
            self._point_at("dots", x, y)
        self._burn(sheet, grey, opacity)

    def arrow(self) -> None:
        """Plant an arrow: a solid head, mostly with a shaft."""
        rng = self.rng
        (x, y), angle, length = self.place(), rng.uniform(0, 2 * math.pi), rng.uniform(12, 32)
        head, width = length * rng.uniform(0.35, 0.6), length * rng.uniform(0.13, 0.3)
        ahead, aside = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
        tip = np.array([x, y])
        neck, tail = tip - head * ahead, tip - length * ahead
        sheet, draw = self._sheet()
        corners = [tip, neck + width * aside, neck - width * aside]
        draw.polygon([tuple(corner * _FINE) for corner in corners], fill=255)
        if rng.random() < 0.9:
            thick = max(1.0, rng.uniform(0.07, 0.18) * length)
            draw.line([tuple(neck * _FINE), tuple(tail * _FINE)], fill=255, width=round(thick * _FINE))
        self._burn(sheet, float(rng.uniform(170, 255)), float(rng.uniform(0.5, 1)))
        middle = (tip + neck) / 2
        self._point_at("arrow", float(middle[0]), float(middle[1]))

    def writing(self, at: Point | None = None, text: str | None = None) -> None:
        """Plant letters or digits, which have crossings of their own."""
        rng = self.rng
        text = text or "".join(rng.choice(list(_LETTERS), rng.integers(1, 8)))
        sheet, draw = self._sheet()
        font = ImageFont.load_default(rng.uniform(8, 20) * _FINE)
        x, y = at or self.place()
        draw.text((x * _FINE, y * _FINE), text, fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(0, 4)))
        self._burn(sheet, float(rng.uniform(140, 255)), float(rng.uniform(0.6, 1)))

    def stroke(self) -> None:
        """Plant what else is drawn on images: a frame's corner, a tick, a solid line, a speck."""
        rng = self.rng
        sheet, draw = self._sheet()
        (x, y), kind, thick = self.place(), rng.integers(4), round(rng.uniform(0.7, 2) * _FINE)
        if kind == 0:
            wide, high = rng.uniform(10, 80, 2)
            draw.rectangle([x * _FINE, y * _FINE, (x + wide) * _FINE, (y + high) * _FINE], outline=255, width=thick)
        elif kind == 1:
            for step in range(rng.integers(2, 8)):
                at = (y + 9 * step) * _FINE
                draw.line([(x * _FINE, at), ((x + 4) * _FINE, at)], fill=255, width=thick)
        elif kind == 2:
            angle, length = rng.uniform(0, math.pi), rng.uniform(5, 60)
            end = ((x + length * math.cos(angle)) * _FINE, (y + length * math.sin(angle)) * _FINE)
            draw.line([(x * _FINE, y * _FINE), end], fill=255, width=thick)
        else:
            size = rng.uniform(0.7, 3)
            draw.ellipse([(x - size) * _FINE, (y - size) * _FINE, (x + size) * _FINE, (y + size) * _FINE], fill=255)
        self._burn(sheet, float(rng.uniform(120, 255)), float(rng.uniform(0.5, 1)))


def _fibres(pixels: Plane, rng: np.random.Generator) -> None:
    """Draw bright curves, some crossing, soft and wavering in brightness as tissue's are."""
    sheet = Image.new("L", (CROP_PX * 2, CROP_PX * 2))
    draw = ImageDraw.Draw(sheet)
    for _ in range(rng.integers(1, 7)):
        middle, angle = rng.uniform(0, CROP_PX * 2, 2), rng.normal(0, 0.5) + (math.pi / 2 if rng.random() < 0.3 else 0)
        along = np.linspace(-1, 1, 24) * rng.uniform(8, CROP_PX)
        aside = (
            rng.normal(0, 6) * np.sin(along / rng.uniform(6, 40) + rng.uniform(0, 6)) + rng.normal(0, 2e-3) * along**2
        )
        x = middle[0] + along * math.cos(angle) - aside * math.sin(angle)
        y = middle[1] + along * math.sin(angle) + aside * math.cos(angle)
        draw.line(
            list(zip(x.tolist(), y.tolist(), strict=True)),
            fill=int(rng.integers(90, 256)),
            width=int(rng.integers(1, 7)),
        )
    ink = np.asarray(sheet.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.8))), np.float32) / 255
    waver = gaussian_filter(rng.normal(size=ink.shape), rng.uniform(1, 3))
    ink = ink * np.clip(0.75 + 0.4 * waver / waver.std(), 0, 1).astype(np.float32)
    pixels += (np.float32(rng.uniform(90, 250)) - pixels) * ink * np.float32(rng.uniform(0.3, 1))


def _background(backgrounds: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    """Return a crop at another size, contrast and brightness, some with speckle, fibres or a bare margin."""
    image = backgrounds[int(rng.integers(len(backgrounds)))]
    side = min(WORKING_SIDE_PX, round(CROP_PX * math.exp(rng.uniform(-0.6, 0.9))))
    left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
    crop = image.resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gamma = np.float32(math.exp(rng.uniform(-0.5, 0.7)))
    pixels: Plane = np.asarray(255 * (np.asarray(crop, np.float32) / 255) ** gamma, np.float32)
    pixels *= np.float32(rng.uniform(0.6, 2))
    if rng.random() < 0.4:
        _fibres(pixels, rng)
    if rng.random() < 0.4:
        speckle = gaussian_filter(rng.normal(size=pixels.shape), rng.uniform(0.4, 1.6, 2))
        pixels *= np.exp(rng.uniform(0.05, 0.6) * speckle / speckle.std()).astype(np.float32)
    if rng.random() < 0.15:
        # The margin of an image that does not fill its frame.
        edge, margin = int(rng.integers(8, CROP_PX - 8)), rng.uniform(0, 25)
        if rng.random() < 0.5:
            pixels[edge:] = margin
        else:
            pixels[:, edge:] = margin
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def sample(backgrounds: Sequence[Image.Image], rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Return a crop ``(CROP_PX, CROP_PX)`` in [0, 1] with marks or without, and its target."""
    planter = Planter(_background(backgrounds, rng), rng)
    for draw, likely in (
        (planter.writing, 0.4),
        (planter.stroke, 0.4),
        (planter.measurement, 0.7),
        (planter.arrow, 0.5),
    ):
        if rng.random() < likely:
            draw()
    grey = Image.fromarray(np.clip(planter.pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        grey = grey.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
    if rng.random() < 0.3:
        buffer = io.BytesIO()
        grey.save(buffer, "JPEG", quality=int(rng.integers(50, 95)))
        grey = Image.open(buffer)
    pixels: Plane = np.asarray(grey, np.float32) * np.float32(rng.uniform(0.85, 1) / 255)
    return pixels, planter.target


def focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the loss of heat maps whose marks are ones with a halo (CenterNet, arXiv:1904.07850, eq. 1)."""
    likely = logits.sigmoid()
    marks = (target == 1).float()
    hit = -functional.logsigmoid(logits) * (1 - likely) ** 2 * marks
    false = -functional.logsigmoid(-logits) * likely**2 * (1 - target) ** 4 * (1 - marks)
    # Each kind of mark counts alike: a measurement has two crosses, and thirty dots.
    per_channel = (hit + false).sum(dim=(0, 2, 3)) / marks.sum(dim=(0, 2, 3)).clamp(min=1)
    return per_channel.sum()


def train(out: Path, *, steps: int, batch: int, seed: int, per_kind: int) -> None:
    """Train from random weights, and write the weights after every 200 steps."""
    from safetensors.torch import save_file

    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    # Sums in one order, whatever the machine's cores.
    torch.set_num_threads(1)
    backgrounds = draw_backgrounds(per_kind, seed)
    # A third faster than the planes one after the other.
    network = build().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    mean = 0.0
    for step in range(1, steps + 1):
        crops, targets = zip(*(sample(backgrounds, rng) for _ in range(batch)), strict=True)
        logits = network(torch.from_numpy(np.stack(crops))[:, None].contiguous(memory_format=torch.channels_last))
        loss = focal_loss(logits, torch.from_numpy(np.stack(targets)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        mean += 0.02 * (loss.item() - mean) if step > 1 else loss.item()
        if step % 200 == 0 or step == steps:
            save_file(
                {
                    name: tensor.contiguous(memory_format=torch.contiguous_format)
                    for name, tensor in network.state_dict().items()
                },
                out,
            )
            print(f"step {step}: loss {mean:.3f}", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-kind", type=int, default=120, help="backgrounds of each modality, and of noise")
    arguments = parser.parse_args()
    train(arguments.out, steps=arguments.steps, batch=arguments.batch, seed=arguments.seed, per_kind=arguments.per_kind)


if __name__ == "__main__":
    main()
