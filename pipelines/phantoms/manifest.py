"""Write a set of phantoms as PNG files and one table."""

import csv
import json
import os
from pathlib import Path

from PIL import Image

from pipelines.phantoms.draw import Phantom, draw_phantom
from pipelines.phantoms.spec import PhantomSpec

MANIFEST_COLUMNS = (
    "path",
    "label",
    "patient",
    "slide",
    "modality",
    "view",
    "text_overlay",
    "overlay_text",
    "overlay_boxes",
    "annotation",
    "annotation_kinds",
    "stain",
    "lesion_box",
    "caption",
)


def write_phantoms(root: Path, spec: PhantomSpec) -> Path:
    """Write ``images/000000.png`` … and ``manifest.csv`` under `root`; equal specs give equal bytes.

    The manifest comes last and at once, and an older one goes first, so a folder that has one is whole. Cells are empty
    where there is nothing; flags are ``true`` or ``false``; boxes are JSON, ``[x0, y0, x1, y1]`` in pixels, half-open.
    Files that the manifest does not name are left alone.

    Returns
    -------
    Path
        The manifest; the paths in it are relative to its folder.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    manifest = root / "manifest.csv"
    manifest.unlink(missing_ok=True)
    (root / "images").mkdir(parents=True, exist_ok=True)
    unfinished = root / "manifest.csv.part"
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, MANIFEST_COLUMNS, lineterminator="\n")
        table.writeheader()
        for index in range(spec.n_images):
            phantom = draw_phantom(spec, index)
            path = f"images/{index:06d}.png"
            # The lightest compression: speckle hardly shrinks, and drawing should take the time.
            Image.fromarray(phantom.pixels).save(root / path, compress_level=1)
            table.writerow(_row(path, phantom))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(manifest)
    return manifest


def _row(path: str, phantom: Phantom) -> dict[str, str]:
    return {
        "path": path,
        "label": phantom.label,
        "patient": phantom.patient,
        "slide": phantom.slide or "",
        "modality": phantom.modality,
        "view": phantom.view,
        "text_overlay": json.dumps(phantom.text_overlay),
        "overlay_text": phantom.overlay_text or "",
        "overlay_boxes": json.dumps(phantom.overlay_boxes) if phantom.overlay_boxes else "",
        "annotation": json.dumps(phantom.annotation),
        "annotation_kinds": ";".join(phantom.annotation_kinds),
        "stain": phantom.stain or "",
        "lesion_box": json.dumps(phantom.lesion_box) if phantom.lesion_box else "",
        "caption": phantom.caption,
    }
