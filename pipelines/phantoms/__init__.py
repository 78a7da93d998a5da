"""Synthetic medical images with known lesions and known planted background.

Audits are calibrated on them: at strength 0 nothing about the background goes with the label, and with rising strength
and association it does. Every image is drawn from its own seed, so any of them can be drawn alone.
"""

from pipelines.phantoms.draw import Phantom, draw_phantom
from pipelines.phantoms.manifest import MANIFEST_COLUMNS, write_phantoms
from pipelines.phantoms.spec import CLASSES, Modality, PhantomSpec

__all__ = [
    "CLASSES",
    "MANIFEST_COLUMNS",
    "Modality",
    "Phantom",
    "PhantomSpec",
    "draw_phantom",
    "write_phantoms",
]
