"""Images to rows: readers, decoding, encoders; torch lives here, and only here."""
