"""The answer to a search as one HTML page that reaches for nothing outside itself."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from analysis.figures.search_sheet import shares_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.figures.search_sheet import SearchHit, SearchQuery

# What a file begins with, for the only two kinds of picture that are put into a page.
_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


def search_page(query: SearchQuery, hits: Sequence[SearchHit]) -> str:
    """Write the answer to a search, nearest first, after the image that was looked for.

    Returns
    -------
    str
        One HTML document. Pictures are inside it, nothing is fetched and no script runs; every text that comes from
        data is escaped. What is neither JPEG nor PNG is left out.

    Raises
    ------
    ValueError
        If there is no hit.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if not hits:
        raise ValueError("no image to show")
    environment = Environment(
        loader=PackageLoader("analysis.figures", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("search_page.html.jinja").render(
        heading=query.words.split("\n"),
        query=query,
        picture=_data_uri(query.image),
        hits=[(hit, _data_uri(hit.image), shares_label(query, hit)) for hit in hits],
    )


def _data_uri(image: bytes | None) -> str | None:
    for beginning, kind in _KINDS.items():
        if image is not None and image.startswith(beginning):
            return f"data:{kind};base64,{base64.b64encode(image).decode()}"
    return None
