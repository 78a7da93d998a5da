"""The explorer in a real browser: hover, colour, lasso, neighbours, another encoder, a view kept."""

import contextlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from assets.explorer.answers import Explorer
from assets.explorer.serving import ExplorerServer
from assets.project import Project
from store import Warehouse, open_warehouse

from .mapped import DATASET, ENCODERS, HOSTILE, IMAGES_EACH, K, image_ids, write_mapped
from .test_ui import CHROMIUM, QUIET

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install the package of that name"),
]
ALL = 2 * IMAGES_EACH


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = open_warehouse(tmp_path / "warehouse")
    write_mapped(warehouse)
    return warehouse


@pytest.fixture
def address(warehouse: Warehouse) -> Iterator[str]:
    with ExplorerServer(0, lambda address: Explorer(Project(warehouse=warehouse.uri), address)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.address
        server.shutdown()
        thread.join()


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
        expect.set_options(timeout=None)
        browser.close()


def drawn(page: Page, count: int) -> None:
    """Wait for a map that shows as many images."""
    expect(page.get_by_text(f"{count} points", exact=True).first).to_be_visible()


def place(page: Page, side: Literal["left", "right"]) -> tuple[float, float]:
    """Return where on the page a cluster of the first map is, by what is drawn half-way down."""
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    strip = page.screenshot(clip={"x": box["x"], "y": y - 1, "width": box["width"], "height": 2})
    colours = np.asarray(Image.open(io.BytesIO(strip)).convert("RGB")).astype(int)
    drawn = np.flatnonzero(np.ptp(colours, axis=2).max(axis=0) > 60)
    middle = box["width"] / 2
    return box["x"] + float(drawn[drawn < middle].mean() if side == "left" else drawn[drawn > middle].mean()), y


def lasso(page: Page, side: Literal["left", "right"], selected: str) -> None:
    """Draw a lasso around a cluster of the first map, again where the map was being drawn anew meanwhile."""
    page.get_by_title("Toggle lasso selection mode").first.click()
    for _ in range(5):
        x, y = place(page, side)
        page.mouse.move(x - 60, y - 60)
        page.mouse.down()
        for dx, dy in ((60, -60), (60, 60), (-60, 60), (-60, -50)):
            page.mouse.move(x + dx, y + dy, steps=4)
        page.mouse.up()
        with contextlib.suppress(AssertionError):
            expect(page.locator("#selected")).to_have_text(selected, timeout=5000)
            return
    expect(page.locator("#selected")).to_have_text(selected)


def test_from_a_point_to_a_view_of_its_own(address: str, warehouse: Warehouse, page: Page) -> None:
    hosts: set[str] = set()
    wrong: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.goto(address)
    drawn(page, ALL)
    expect(page.locator("#selected")).to_have_text("nothing selected")
    expect(page.get_by_role("button", name="Save view")).to_be_disabled()

    # Hover: the image, and its words as words.
    x, y = place(page, "left")
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    picture = page.locator(f"img[src*='/thumbnails/{DATASET}/']").first
    expect(picture).to_be_visible()
    expect(page.get_by_text(HOSTILE, exact=True).first).to_be_visible()
    # The viewer may draw the picture anew while it comes.
    loaded = "image => new Promise(done => image.complete ? done() : image.addEventListener('load', done))"
    for _ in range(20):
        picture.evaluate(loaded)
        if width := picture.evaluate("image => image.naturalWidth"):
            break
        page.wait_for_timeout(100)
    assert width == 64

    # A click holds it; its neighbours come with their distances.
    page.mouse.click(x, y)
    page.get_by_text("Nearest Neighbors").click()
    expect(page.get_by_text(f"{K} results.")).to_be_visible()
    for rank in range(1, K + 1):
        expect(page.get_by_text(f"{rank / 10:.5f}", exact=True)).to_be_visible()

    # Colour by a flag.
    page.keyboard.press("Escape")
    page.get_by_label("Color").first.select_option(label="text_overlay (VARCHAR)")
    legend = page.locator("table").first
    expect(legend).to_contain_text("true")
    expect(legend).not_to_contain_text("benign")

    # A lasso, and the counts that go with it.
    lasso(page, "right", f"{IMAGES_EACH} of {ALL} selected")
    expect(page.get_by_text(f"0 / {IMAGES_EACH}", exact=True).first).to_be_visible()

    # Another encoder, whose map mixes them: the same images are selected, and the colour stays.
    page.locator("#encoder").select_option(ENCODERS[1])
    drawn(page, IMAGES_EACH)
    expect(page.locator("#selected")).to_have_text(f"{IMAGES_EACH} of {ALL} selected")
    expect(page.locator("table").first).to_contain_text("true")

    # Two encoders side by side.
    page.locator("#beside").select_option(ENCODERS[0])
    expect(page.get_by_text(f"{IMAGES_EACH} points", exact=True)).to_have_count(2)

    # Kept as a view, which SQL reads.
    page.locator("#view-name").fill("right_half")
    page.get_by_role("button", name="Save view").click()
    expect(page.locator("#message")).to_contain_text(f"view right_half: {IMAGES_EACH} images")
    kept = warehouse.sql("SELECT image_id FROM right_half ORDER BY image_id")["image_id"].to_list()
    assert kept == image_ids()[IMAGES_EACH:]
    expect(page.get_by_text("view right_half", exact=True).first).to_be_visible()
    expect(page.locator("#selected")).to_have_text(f"{IMAGES_EACH} of {ALL} selected")

    # A condition of one's own.
    page.get_by_title("Clear filters").click()
    drawn(page, ALL)
    page.get_by_text("+ Add Predicate").click()
    page.get_by_placeholder("predicate name").fill("first")
    page.locator(".cm-content").click()
    page.keyboard.type("__row_index__ < 7")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("__row_index__ < 7", exact=True).click()
    expect(page.locator("#selected")).to_have_text(f"7 of {ALL} selected")

    assert page.evaluate("window.hacked") is None
    assert hosts - {""} == {urlsplit(address).netloc}
    assert wrong == []
