"""Zero-shot classification: what an encoder says of an image when it is asked in words."""
