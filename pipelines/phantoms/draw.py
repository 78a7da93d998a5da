"""Draw one phantom: tissue and lesion by modality, then what is planted on it."""

from dataclasses import dataclass

import numpy as np

from pipelines.phantoms.fields import Box, Drawing, Site
from pipelines.phantoms.marks import Pixels, burn_arrow, burn_callipers, burn_words
from pipelines.phantoms.radiograph import draw_radiograph
from pipelines.phantoms.spec import Assignment, Modality, PhantomSpec, Stream, assign, random_stream
from pipelines.phantoms.tissue import draw_tissue
from pipelines.phantoms.ultrasound import draw_ultrasound


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic image and all that is known of it.

    Attributes
    ----------
    pixels
        ``(side, side, 3)`` uint8.
    label
        One of ``CLASSES[modality]``; the same for all images of a group.
    patient, slide
        Group names; no slide but in tissue, where every slide has its own patient.
    lesion_box
        ``(x0, y0, x1, y1)`` px, half-open: all that the lesion changes, its shadow or enhancement included; none if no
        lesion was drawn.
    text_overlay, overlay_text, overlay_boxes
        Whether words are burned in, which, and a box for each of their lines.
    annotation, annotation_kinds, annotation_boxes
        Whether a reader's marks are burned in, their kinds ("calliper", "arrow"), and a box for each.
    stain
        "a" or "b", of the whole slide; none but in tissue.
    view
        Side and site of an ultrasound image, projection of a radiograph, magnification of tissue.
    caption
        A true sentence on what the tissue shows; it does not mention what is planted.
    """

    pixels: Pixels
    label: str
    patient: str
    slide: str | None
    modality: Modality
    view: str
    text_overlay: bool
    overlay_text: str | None
    overlay_boxes: tuple[Box, ...]
    annotation: bool
    annotation_kinds: tuple[str, ...]
    annotation_boxes: tuple[Box, ...]
    stain: str | None
    lesion_box: Box | None
    caption: str


def draw_phantom(spec: PhantomSpec, index: int) -> Phantom:
    """Draw image `index` of a set; the same whether or not any other was drawn.

    The lesion, the tissue and the planted background have separate seeds, so specs that differ in strength or
    association alone show the same tissue and lesions.

    Raises
    ------
    IndexError
        If `index` is not in ``0 .. n_images - 1``.
    """
    if not 0 <= index < spec.n_images:
        raise IndexError(f"index must be from 0 to {spec.n_images - 1}, not {index}")
    plan = assign(spec)[index]
    drawing = _draw_modality(spec, plan, index)
    pixels = np.rint(np.clip(drawing.image, 0, 1) * 255).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    rng = random_stream(spec, Stream.WORDS, index)
    words, right, top = _choose_words(spec.modality, plan.view, rng)
    overlay_boxes: tuple[Box, ...] = ()
    if plan.words:
        pixels, overlay_boxes = burn_words(pixels, words, spec.strength, rng, right=right, top=top)
    kinds: tuple[str, ...] = ()
    annotation_boxes: tuple[Box, ...] = ()
    if plan.mark:
        pixels, kinds, annotation_boxes = _annotate(
            spec, pixels, drawing.site, random_stream(spec, Stream.MARKS, index)
        )
    return Phantom(
        pixels=pixels,
        label=plan.label,
        patient=f"p{plan.group:04d}",
        slide=f"s{plan.group:04d}" if spec.modality == "tissue" else None,
        modality=spec.modality,
        view=plan.view,
        text_overlay=plan.words,
        overlay_text=" ".join(words) if plan.words else None,
        overlay_boxes=overlay_boxes,
        annotation=plan.mark,
        annotation_kinds=kinds,
        annotation_boxes=annotation_boxes,
        stain=plan.stain,
        lesion_box=drawing.lesion_box,
        caption=drawing.caption,
    )


def _draw_modality(spec: PhantomSpec, plan: Assignment, index: int) -> Drawing:
    group = random_stream(spec, Stream.GROUP, plan.group)
    image = random_stream(spec, Stream.IMAGE, index)
    lesion = random_stream(spec, Stream.LESION, index)
    if spec.modality == "ultrasound":
        return draw_ultrasound(spec.side_px, plan.label, spec.lesion_contrast, group, image, lesion)
    if spec.modality == "radiograph":
        return draw_radiograph(spec.side_px, plan.label, spec.lesion_contrast, group, image, lesion)
    shift = spec.strength if plan.stain == "b" else 0.0
    return draw_tissue(spec.side_px, plan.label, spec.lesion_contrast, group, image, lesion, stain_shift=shift)


def _choose_words(modality: Modality, view: str, rng: np.random.Generator) -> tuple[tuple[str, ...], bool, bool]:
    """Lines to write, and whether they stand to the right and at the top."""
    right = bool(rng.integers(2))
    if modality == "ultrasound":
        return (view.upper(),), right, False
    # The marker names the side of the patient, who faces the reader.
    marker = "L" if right else "R"
    return ((marker, "PORTABLE") if view == "ap" else (marker,)), right, True


def _annotate(
    spec: PhantomSpec, pixels: Pixels, site: Site, rng: np.random.Generator
) -> tuple[Pixels, tuple[str, ...], tuple[Box, ...]]:
    if spec.modality == "ultrasound":
        pixels, boxes = burn_callipers(pixels, site, spec.strength, rng)
        return pixels, ("calliper",), boxes
    pixels, boxes = burn_arrow(pixels, site, spec.strength, rng)
    return pixels, ("arrow",), boxes
