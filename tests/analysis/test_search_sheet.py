"""Contact sheets of searches: what they show, and that what they are made of stays harmless."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from analysis.figures import SearchHit, SearchQuery, search_page, search_sheet
from analysis.figures.style import PALETTE

NASTY = '<script>alert(1)</script>"><img src=x onerror=alert(1)> $\\frac{1}$ {{ 7 * 7 }}'


def picture(form="PNG", value=90):
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), value, np.uint8)).save(buffer, form)
    return buffer.getvalue()


def hits(count, **replaced):
    return [
        SearchHit(
            **{
                "image": picture("JPEG"),
                "distance": i / 10,
                "label": "ab"[i % 2],
                "flags": ("words: AXILLA",),
                "dataset": "d",
                "name": f"{i}.png",
                **replaced,
            }
        )
        for i in range(count)
    ]


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.text.append(text)


def colours(png):
    return {tuple(each) for each in np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)}


def test_frames_tell_who_shares_the_label():
    same, other = (tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in (PALETTE[0], PALETTE[3]))
    both = colours(search_sheet(SearchQuery("q", picture(), "a"), hits(2)))
    assert {same, other} <= both
    assert not {same, other} & colours(search_sheet(SearchQuery("q", picture()), hits(2)))
    assert not {same, other} & colours(search_sheet(SearchQuery("q", None, None), hits(2, label=None)))
    page = Page(search_page(SearchQuery("q", picture(), "a"), hits(3)))
    assert [a.get("class") for tag, a in page.tags if tag == "li"] == ["query", "same", "other", "same"]


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_a_sheet_has_room_for_all(count):
    with_query = search_sheet(SearchQuery("q", picture()), hits(count))
    image = Image.open(io.BytesIO(with_query))
    tiles = count + 1
    rows, across = -(-tiles // 6), min(6, max(3, tiles))
    assert image.height / image.width == pytest.approx((2.07 * rows + 0.62) / (1.55 * across), rel=0.02)


def test_a_picture_that_cannot_be_decoded_is_left_out():
    assert search_sheet(SearchQuery("q"), hits(2, image=b"no picture")).startswith(b"\x89PNG")
    page = search_page(SearchQuery("q", b"<svg onload=alert(1)>"), hits(2, image=b"GIF89a"))
    assert "<img" not in page
    assert page.count("no picture") == 3


def test_the_page_holds_all_and_fetches_nothing():
    page = Page(search_page(SearchQuery("Nearest\n3 images", picture(), "a", ("calliper",)), hits(3)))
    images = [a for tag, a in page.tags if tag == "img"]
    assert [re.match("data:image/(png|jpeg);base64,", a["src"])[1] for a in images] == ["png", "jpeg", "jpeg", "jpeg"]
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert {"script", "link", "iframe", "a"}.isdisjoint(tag for tag, _ in page.tags)
    said = " ".join(page.text)
    for each in ("Nearest", "3 images", "0.100", "words: AXILLA", "calliper", "d / 2.png"):
        assert each in said


@pytest.mark.parametrize("draw", [search_page, search_sheet])
def test_text_is_taken_literally(draw):
    hit = hits(1, label=NASTY, flags=(NASTY,), dataset=NASTY, name=NASTY)
    drawn = draw(SearchQuery(NASTY, picture(), NASTY, (NASTY,)), hit)
    if isinstance(drawn, str):
        page = Page(drawn)
        assert "script" not in {tag for tag, _ in page.tags}
        assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
        # Twice in the heading, the query's label and flag, the hit's label, flag, and its data set and name.
        assert " ".join(page.text).count(NASTY) == 8


@pytest.mark.parametrize("draw", [search_page, search_sheet])
def test_nothing_found(draw):
    with pytest.raises(ValueError, match="no image"):
        draw(SearchQuery("q"), [])
