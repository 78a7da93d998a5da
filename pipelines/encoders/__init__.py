"""Encoders: each module declares one ``SPEC``; other distributions add theirs by entry point."""

import sys
from functools import cache

from pipelines.discovery import discover
from pipelines.encoder import Encoder, EncoderSpec, LoadOptions
from store.schema import CounterstainError


@cache
def encoder_specs() -> dict[str, EncoderSpec]:
    """Return the registered encoders by name."""
    return discover(sys.modules[__name__], "SPEC", "counterstain.encoders", EncoderSpec)


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
