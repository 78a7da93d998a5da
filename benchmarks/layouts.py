"""The UMAP grid of 50 layouts against fifty separate fits of umap-learn, in CPU seconds.

Run: ``python benchmarks/layouts.py`` (both sizes), ``python benchmarks/layouts.py few`` or ``… many``. Only ratios
measured in one run mean anything on a machine that is shared.

Of umap-learn one fit per n_neighbors is timed, at the middle min_dist, and counted five times: min_dist changes the
curve and not the work. Compilation is left out on its side and counted on ours, as a grid is made once per process.
"""

import argparse
import os
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

from analysis.layouts import STUDY_MIN_DIST, STUDY_N_NEIGHBORS, umap_grid, umap_learn

# Images, features, clusters, whether umap-learn is seeded (then it runs on one thread), and the ratio to reach.
CASES = {
    "few": (2_870, 1_280, 4, True, 20),
    "many": (7_909, 1_280, 8, False, 10),
}
MIDDLE = STUDY_MIN_DIST[2]


def features(n: int, d: int, clusters: int) -> np.ndarray:
    """Return clustered features that lie near a few dimensions, with a broad spectrum, as encoders' do."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(clusters, d))
    spectrum = 1 / np.sqrt(1 + np.arange(d) / 8)
    noise = rng.normal(size=(n, d)) * spectrum
    return (centres[rng.integers(clusters, size=n)] * spectrum + noise + 0.5).astype(np.float32)


def timed(function, *arguments, **options):
    """Return CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    function(*arguments, **options)
    return time.process_time() - cpu, time.perf_counter() - wall


def umap_fit(vectors: np.ndarray, n_neighbors: int, *, seeded: bool) -> None:
    """Fit one layout as a loop over the grid would."""
    umap = umap_learn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"random_state": 0} if seeded else {"n_jobs": 2}
        umap.UMAP(n_neighbors=n_neighbors, min_dist=MIDDLE, metric="cosine", **options).fit_transform(vectors)


def run(name: str) -> None:
    """Time one case and print what was found."""
    n, d, clusters, seeded, target = CASES[name]
    vectors = features(n, d, clusters)
    ours = timed(umap_grid, vectors, n_neighbors=STUDY_N_NEIGHBORS, min_dist=STUDY_MIN_DIST, seed=0, workers=2)
    print(
        f"{name}: n = {n:,}, d = {d:,}, 50 layouts judged, two workers: {ours[0]:.1f} CPU-s, {ours[1]:.1f} s",
        flush=True,
    )
    umap_fit(vectors[:300], 15, seeded=seeded)
    umap_fit(vectors[: min(n, 4_200)], 5, seeded=seeded)
    total = np.zeros(2)
    for size in STUDY_N_NEIGHBORS:
        spent = np.array(timed(umap_fit, vectors, size, seeded=seeded))
        total += spent * len(STUDY_MIN_DIST)
        print(f"  umap-learn, n_neighbors {size}: {spent[0]:.1f} CPU-s, {spent[1]:.1f} s", flush=True)
    how = "seeded, one thread" if seeded else "unseeded, two threads"
    print(f"  fifty fits, {how}, extrapolated from ten: {total[0]:.0f} CPU-s, {total[1]:.0f} s")
    print(f"  ratio in CPU time {total[0] / ours[0]:.1f}, in wall time {total[1] / ours[1]:.1f}; to reach: {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=CASES)
    chosen = parser.parse_args().case
    for case in [chosen] if chosen else CASES:
        run(case)
