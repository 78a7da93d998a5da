"""Encoders: each module declares one ``SPEC``; other distributions add theirs by entry point."""

import sys
from functools import cache

from pipelines.discovery import discover
from pipelines.encoder import Encoder, EncoderSpec, LoadOptions
from store.schema import CounterstainError


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


def load_encoder(name: str, options: LoadOptions) -> Encoder:
    """Load a registered encoder.

    Raises
    ------
    CounterstainError
        If there is no such encoder, or its checkpoint is missing or does not fit.
    """
    if name not in encoder_specs():
        raise CounterstainError(f"no encoder {name!r}; encoders: {', '.join(sorted(encoder_specs()))}.")
    spec = encoder_specs()[name]
    return spec.load(spec, options)
