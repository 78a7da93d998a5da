"""A small CLIP that has learned what phantoms show and what is written on them, trained in about a minute of CPU time.

Its files are those of open_clip's own checkpoints, so it is loaded as any other encoder is: from
``<checkpoint folder>/phantom_clip/``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipelines.encoder import EncoderSpec
from pipelines.families.open_clip_family import load
from pipelines.families.open_clip_text import load_text
from pipelines.phantoms import CLASSES, PhantomSpec, draw_phantom
from pipelines.phantoms.marks import burn_words

NAME = "phantom_clip"
CLASS_NAMES = CLASSES["ultrasound"]
SIDE_PX = 128
DIMENSION = 32
# What may stand in a corner: names of classes, and words that are none.
WORDS = (*(name.upper() for name in CLASS_NAMES), "BREAST", "AXILLA", "PORTABLE")
MODEL = {
    "embed_dim": DIMENSION,
    "vision_cfg": {"image_size": SIDE_PX, "layers": 3, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
MEAN, DEVIATION = (0.25, 0.25, 0.25), (0.2, 0.2, 0.2)
PREPROCESS = {"mean": list(MEAN), "std": list(DEVIATION)}
BATCH, STEPS = 64, 420
SPEC = EncoderSpec(
    name=NAME, load=load, load_text=load_text, architecture="a vision transformer of three layers",
    checkpoint="tests/trained_clip", kind="projected", feature="projected", dimension=DIMENSION, pooled_dimension=64,
    group="general", text_side=True, pretrained_on="phantoms", licence="Apache-2.0", source="tests/trained_clip.py",
)  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """Pixels ``(n, side, side, 3)`` uint8 of phantoms, their class and the word in their corner."""

    pixels: NDArray[np.uint8]
    labels: list[str]
    words: list[str]

    def caption(self, row: int, rng: np.random.Generator) -> str:
        """Say what an image shows: the tissue, the word, or both; always true."""
        shown, word = f"ultrasound phantom, {self.labels[row]}", self.words[row].lower()
        if not word:
            return shown
        written = f"the word {word}"
        return str(rng.choice([shown, written, f"{shown}, {written}"]))


def draw_pairs(n: int, seed: int, *, worded: float = 0.6, named: float = 0.85, words: tuple[str, ...] = WORDS) -> Pairs:
    """Draw ultrasound phantoms, a share of which has a word: mostly that of its class, else any of `words`."""
    spec = PhantomSpec("ultrasound", n, SIDE_PX, lesion_contrast=1.0, images_per_group=1, seed=seed)
    rng = np.random.default_rng(seed)
    pixels, labels, written = [], [], []
    for index in range(n):
        phantom = draw_phantom(spec, index)
        own, other = phantom.label.upper(), str(rng.choice(words))
        word = "" if rng.random() >= worded else own if rng.random() < named else other
        image = phantom.pixels
        if word:
            image, _ = burn_words(image, (word,), 1.0, rng, right=bool(rng.integers(2)), top=False)
        pixels.append(image)
        labels.append(phantom.label)
        written.append(word)
    return Pairs(np.stack(pixels), labels, written)


def train(folder: Path, *, images: int = 1600, seed: int = 0, steps: int = STEPS) -> None:
    """Train the model and write its checkpoint, ``open_clip_config.json`` and ``open_clip_model.safetensors``."""
    pairs = draw_pairs(images, seed)
    tokenize = open_clip.SimpleTokenizer(context_length=MODEL["text_cfg"]["context_length"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**MODEL)
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps, pct_start=0.1)
        for rows, texts in _batches(pairs, steps, seed):
            images_ = _normalised(pairs.pixels[rows])
            image, text = (
                model.encode_image(images_, normalize=True),
                model.encode_text(tokenize(texts), normalize=True),
            )
            # Equal captions are all true of an image, so each of them is a target.
            same = torch.tensor([[one == other for other in texts] for one in texts], dtype=torch.float32)
            target = same / same.sum(1, keepdim=True)
            logits = model.logit_scale.exp() * image @ text.T
            loss = (
                torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)
            ) / 2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}))


def _batches(pairs: Pairs, steps: int, seed: int) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
    rng = np.random.default_rng([seed, 1])
    order = np.array([], np.int64)
    for _ in range(steps):
        if len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(len(pairs.labels))])
        rows, order = order[:BATCH], order[BATCH:]
        yield rows, [pairs.caption(row, rng) for row in rows.tolist()]


def _normalised(pixels: NDArray[np.uint8]) -> torch.Tensor:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def lay_down_entry_point(site: Path) -> None:
    """Write into a folder of installed distributions what registers the encoder, as pip lays it down."""
    metadata = site / "phantom_clip-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: phantom-clip\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[counterstain.encoders]\n{NAME} = {__name__}:SPEC\n")
