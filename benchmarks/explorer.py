"""How long the explorer takes from opening its page to a drawn map, for 25,000 images; in seconds.

Run: ``python benchmarks/explorer.py``. It needs Chromium. The warehouse has three encoders with the study's 50 layouts
each. The first opening reads it; the second finds it read; then the encoder is switched with images selected. The goal
is 5 seconds for the first.
"""

import io
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from analysis.layouts import STUDY_MIN_DIST, STUDY_N_NEIGHBORS
from assets.explorer.answers import Explorer
from assets.explorer.serving import ExplorerServer
from assets.project import Project
from store import Warehouse, open_warehouse
from store.images import write_images
from store.results import write_results
from store.schema import IMAGES, LAYOUTS, NEIGHBORS

N_IMAGES = 25_000
ENCODERS = ("encoder_a", "encoder_b", "encoder_c")
SETTINGS = [(n_neighbors, min_dist) for n_neighbors in STUDY_N_NEIGHBORS for min_dist in STUDY_MIN_DIST]
K = 15
GOAL_SECONDS = 5.0


def image_batches(rng: np.random.Generator) -> Iterator[pa.RecordBatch]:
    """Yield rows of ``images`` with thumbnails of noise, which compress worse than any image."""
    for start in range(0, N_IMAGES, 1000):
        rows = []
        for i in range(start, start + 1000):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).resize((128, 128)).save(buffer, "JPEG")
            rows.append(
                {
                    "dataset": "many", "image_id": f"{i:064x}", "content_hash": f"{i:064x}", "uri": f"{i}.png",
                    "thumbnail": buffer.getvalue(), "label": f"class {i % 9}", "patient": f"p{i // 4}",
                    "text_overlay": bool(i % 2), "overlay_text": ("BREAST", "AXILLA", None)[i % 3],
                }
            )  # fmt: skip
        yield pa.RecordBatch.from_pylist(rows, schema=IMAGES.schema)


def write_warehouse(folder: str) -> Warehouse:
    """Write images, and layouts and neighbours of every encoder."""
    warehouse = open_warehouse(folder)
    rng = np.random.default_rng(0)
    write_images(warehouse, "many", image_batches(rng))
    ids = pl.Series([f"{i:064x}" for i in range(N_IMAGES)])
    for encoder in ENCODERS:
        layouts = [
            pl.DataFrame(
                {"image_id": ids, "x": rng.normal(size=N_IMAGES), "y": rng.normal(size=N_IMAGES)},
                schema_overrides={"x": pl.Float32, "y": pl.Float32},
            ).with_columns(pl.lit(n_neighbors, pl.Int32).alias("n_neighbors"), pl.lit(min_dist).alias("min_dist"))
            for n_neighbors, min_dist in SETTINGS
        ]
        write_results(warehouse, LAYOUTS, pl.concat(layouts), dataset="many", encoder=encoder)
        neighbors = pl.DataFrame(
            {
                "image_id": ids.gather(np.repeat(np.arange(N_IMAGES), K)),
                "rank": np.tile(np.arange(1, K + 1, dtype=np.int32), N_IMAGES),
                "neighbor_id": ids.gather(rng.integers(N_IMAGES, size=N_IMAGES * K)),
                "distance": rng.random(N_IMAGES * K, np.float32),
                "same_label": True,
            }
        ).with_columns(pl.lit([], pl.List(pl.String)).alias("same_background"))
        write_results(warehouse, NEIGHBORS, neighbors, dataset="many", encoder=encoder)
    return warehouse


def seconds_to_map(page: Page, address: str) -> float:
    """Return the seconds from asking for the page to all points being drawn."""
    started = time.perf_counter()
    page.goto(address)
    page.get_by_text(f"{N_IMAGES:,} points", exact=True).wait_for(timeout=120_000)
    return time.perf_counter() - started


def main() -> None:
    """Write, serve, open, and print."""
    with tempfile.TemporaryDirectory() as folder:
        warehouse = write_warehouse(folder)
        print(f"{N_IMAGES} images, {len(ENCODERS)} encoders; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        server = ExplorerServer(0, lambda address: Explorer(Project(warehouse=warehouse.uri), address))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            cpu = time.process_time()
            first = seconds_to_map(page, server.address)
            print(f"first opening: {first:.1f} s (server's CPU {time.process_time() - cpu:.1f} s)")
            print(f"again: {seconds_to_map(page, server.address):.1f} s")
            page.get_by_role("button", name="class 3").click()
            page.get_by_text(f" of {N_IMAGES} selected").wait_for()
            started = time.perf_counter()
            page.locator("#encoder").select_option(ENCODERS[1])
            selected = page.get_by_text("2,778 points", exact=True)
            selected.wait_for(state="hidden", timeout=60_000)  # the map before
            selected.wait_for(timeout=60_000)
            print(f"another encoder, 2,778 images selected: {time.perf_counter() - started:.1f} s")
            browser.close()
        server.shutdown()
        server.server_close()
        if first > GOAL_SECONDS:
            raise SystemExit(f"the goal is {GOAL_SECONDS} s")


if __name__ == "__main__":
    main()
