"""Numbers and pictures as the Dagster UI shows them: markdown tables and inline PNG."""

import base64

import dagster as dg
import polars as pl

MAX_ROWS = 30


def picture(png: bytes, alternative: str) -> dg.MarkdownMetadataValue:
    """Return a PNG as metadata that the UI draws in place."""
    return dg.MetadataValue.md(f"![{_cell(alternative, 120)}](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(frame: pl.DataFrame, max_rows: int = MAX_ROWS, max_characters: int = 120) -> dg.MarkdownMetadataValue:
    """Return a frame as a markdown table, its first `max_rows` rows; cells are text, never markup."""
    lines = [
        "| " + " | ".join(_cell(name, max_characters) for name in frame.columns) + " |",
        "|" + " --- |" * frame.width,
    ]
    lines += [
        "| " + " | ".join(_cell(value, max_characters) for value in row) + " |"
        for row in frame.head(max_rows).iter_rows()
    ]
    if frame.height > max_rows:
        lines.append(f"\n… and {frame.height - max_rows} more rows")
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object, max_characters: int) -> str:
    if value is None:
        return "–"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if len(text) > max_characters:
        text = text[: max_characters - 1] + "…"
    # Labels and file names are untrusted: what markdown or HTML would read as markup is written as entities.
    return "".join(c if c.isalnum() or c in " .,:;%+/" else f"&#{ord(c)};" for c in text)
