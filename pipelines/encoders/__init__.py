"""Encoders: each module declares one ``SPEC``; other distributions add theirs by entry point."""

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.discovery import discover
from pipelines.encoder import Encoder, EncoderSpec, LoadOptions
from pipelines.finetuning.tuned import finetuned_specs
from store.schema import CounterstainError

if TYPE_CHECKING:
    from pipelines.text_encoder import TextEncoder


@cache
def encoder_specs() -> dict[str, EncoderSpec]:
    """Return the registered encoders by name; one whose model has two kinds of feature is there under two names."""
    declared = discover(sys.modules[__name__], "SPEC", "counterstain.encoders", EncoderSpec)
    variants = [variant for spec in declared.values() for variant in spec.variants()]
    for variant in variants:
        if declared.get(variant.name, variant).variant_of != variant.variant_of:
            raise CounterstainError(
                f"{variant.name!r} names an encoder of its own and the pooled feature of {variant.variant_of!r}: "
                "give one of them another name."
            )
    return {variant.name: variant for variant in variants}


def available_specs(finetuned_dir: Path | None) -> dict[str, EncoderSpec]:
    """Return the registered encoders and those that were fine-tuned into a folder, by name."""
    return encoder_specs() | finetuned_specs(finetuned_dir, encoder_specs())


def load_encoder(name: str, options: LoadOptions) -> Encoder:
    """Load a registered or a fine-tuned encoder.

    Raises
    ------
    CounterstainError
        If there is no such encoder, or its checkpoint is missing or does not fit.
    """
    specs = available_specs(options.finetuned_dir)
    if name not in specs:
        raise CounterstainError(f"no encoder {name!r}; encoders: {', '.join(sorted(specs))}.")
    spec = specs[name]
    return spec.load(spec, options)


def load_text_encoder(name: str, options: LoadOptions) -> "TextEncoder":
    """Load the text side of a registered encoder.

    Raises
    ------
    CounterstainError
        If it has none, or its checkpoint is missing or does not fit.
    """
    spec = encoder_specs().get(name)
    if spec is None or spec.load_text is None:
        raise CounterstainError(f"{name}: {why_no_texts(name)}. Encoders that have: {', '.join(encoders_of_texts())}.")
    return spec.load_text(spec, options)


def why_no_texts(name: str) -> str | None:
    """Return why an encoder cannot encode texts; None where it can. A name that is not registered was imported."""
    spec = encoder_specs().get(name)
    if spec is None:
        return "it is no registered encoder, so there is no text side to its vectors"
    if not spec.text_side:
        return "it has no text side"
    if spec.kind != "projected":
        return f"its vectors are not in the space of texts; those of {spec.variant_of or 'its projection'} are"
    return None if spec.load_text else "its text side cannot be run here"


def encoders_of_texts() -> list[str]:
    """Names of the registered encoders that encode texts, sorted."""
    return [name for name in sorted(encoder_specs()) if why_no_texts(name) is None]
