"""The Dagster UI on a materialized project, in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from .conftest import Ran

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install the package of that name"),
]
# Nothing but the page itself may ask the network for anything.
QUIET = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def address(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the UI on a free loopback port until the tests are done."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from assets.cli import main; main()", "ui", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
    log = tmp_path_factory.mktemp("ui") / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env=environment | {"COUNTERSTAIN_WAREHOUSE": ran.project.warehouse},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield _wait(f"http://127.0.0.1:{port}", server, log.read_text)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)


def _wait(address: str, server: subprocess.Popen[bytes], log: object) -> str:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert server.poll() is None, log()  # type: ignore[operator]
        try:
            with urllib.request.urlopen(f"{address}/server_info"):
                return address
        except urllib.error.URLError:
            time.sleep(0.5)  # the server tells nobody when it is up
    raise AssertionError(log())  # type: ignore[operator]


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(180_000)
        yield page
        browser.close()


def test_from_the_graph_to_the_picture(address: str, page: Page) -> None:
    hosts: set[str] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

    page.goto(f"{address}/asset-groups/")
    for group in ("data", "features", "analysis", "findings"):
        expect(page.get_by_text(group, exact=True).first).to_be_visible(timeout=180_000)
    expect(page.get_by_text("Join the Dagster community")).to_have_count(0)

    page.goto(f"{address}/assets/umap_layouts?view=overview")
    expect(page.get_by_text("by text_overlay")).to_be_visible(timeout=180_000)
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.locator("img[alt^='UMAP by']")
    expect(picture).to_be_visible(timeout=180_000)
    assert picture.evaluate("image => image.naturalWidth") > 400

    page.goto(f"{address}/assets/svm_probes?view=overview")
    expect(page.get_by_text("published cv accuracy")).to_be_visible(timeout=180_000)

    assert hosts - {""} == {urlsplit(address).netloc}
    assert errors == []
