"""Cost of finding overlays, and how much of what was planted is found.

Run as ``python benchmarks/overlays.py [--images N]``. Times are CPU-seconds of this process on one thread for images of
256²; the limit is 0.30. Recovery is on phantoms at full strength, false positives on phantoms with nothing planted.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import TYPE_CHECKING

import torch

from pipelines.overlays.detectors import detectors
from pipelines.overlays.item import MARKS, Item
from pipelines.overlays.terms import read_terms
from pipelines.phantoms import Modality, PhantomSpec, draw_phantom

if TYPE_CHECKING:
    from pipelines.phantoms import Phantom

MODALITIES: tuple[Modality, ...] = ("ultrasound", "radiograph", "tissue")


def search(phantom: Phantom, seconds: Counter[str]) -> list[Item]:
    """Return what each detector finds, and add up its time."""
    found: list[Item] = []
    for name, detector in detectors().items():
        begin = time.process_time()
        found += detector.find(phantom.pixels, read_terms(), found)
        seconds[name] += time.process_time() - begin
    return found


def measure(modality: Modality, strength: float, images: int) -> str:
    """Return one line of the table."""
    spec = PhantomSpec(modality=modality, n_images=images, strength=strength, seed=1)
    seconds: Counter[str] = Counter()
    right: Counter[str] = Counter()
    search(draw_phantom(spec, 0), Counter())  # models are loaded once
    for index in range(images):
        phantom = draw_phantom(spec, index)
        found = search(phantom, seconds)
        words = " ".join(item.text or "" for item in found if item.kind == "word")
        marks = {item.kind for item in found if item.kind in MARKS}
        right["text"] += bool(words) == phantom.text_overlay
        right["string"] += words == (phantom.overlay_text or "")
        right["marks"] += marks == set(phantom.annotation_kinds)
    shares = "".join(f"{right[name] / images:>9.3f}" for name in ("text", "string", "marks"))
    costs = "".join(f"{seconds[name] / images:>11.3f}" for name in detectors())
    return f"{modality:<12}{strength:>9.1f}{shares}{costs}{sum(seconds.values()) / images:>9.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("Shares of images on which presence of text, its string, and the kinds of marks are right; CPU-s an image.")
    columns = "".join(f"{name:>11}" for name in detectors())
    print(f"{'phantoms':<12}{'strength':>9}{'text':>9}{'string':>9}{'marks':>9}{columns}{'all':>9}")
    for strength in (1.0, 0.0):
        for modality in MODALITIES:
            print(measure(modality, strength, arguments.images), flush=True)


if __name__ == "__main__":
    main()
