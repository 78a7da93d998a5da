"""Neighbours and the audits that read them, beside scikit-learn, faiss and croma.

Run as ``python benchmarks/neighbors.py [--quick]``. Times are CPU-seconds of this process on one thread, all sides in
one run. Searches are run three times and their least time counts, as memory touched for the first time is dear on a
virtual machine. scikit-learn's brute force and the bare products answer a sample of the queries, extrapolated; faiss is
left out where it is not installed (``pip install faiss-cpu``). croma repeats its search for each metric, as its
interface has it; the audits share one.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from typing import TYPE_CHECKING, Any

import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
from croma import RI, CRoMa, MaRI
from lancedb.index import IvfFlat
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from analysis.agreement import neighbor_agreement
from analysis.audits.croma import croma
from analysis.audits.mari import mari
from analysis.audits.robustness import robustness_index
from analysis.neighbors import cosine_neighbors, unit_vectors
from analysis.permutation import permute_codes, permuted_agreement
from analysis.probed_neighbors import probed_neighbors
from analysis.space import Space

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
SAMPLE = 4_000
REPEATS = 3


def cpu(function: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return CPU-seconds, the least of some repeats, and result."""
    times = []
    for _ in range(repeats):
        result = None  # its memory serves the next
        begin = time.process_time()
        result = function()
        times.append(time.process_time() - begin)
    return min(times), result


def features(n: int, d: int, *, slide: float = 0.5, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Return vectors, labels (4), slides' sources (5) and slides of 8 images, with a power-law spectrum."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) // 8
    label, source = rng.integers(0, 4, n // 8 + 1)[groups], rng.integers(0, 5, n // 8 + 1)[groups]
    vectors = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.4
    vectors += 0.3 * rng.normal(size=(4, d))[label] + slide * 0.3 * rng.normal(size=(5, d))[source]
    vectors += slide * 0.3 * rng.normal(size=(n // 8 + 1, d))[groups]
    return vectors.astype(np.float32), label, source, groups


def search(n: int, d: int, sizes: tuple[int, ...]) -> None:
    """Compare exact searches."""
    vectors, *_ = features(n, d)
    unit = unit_vectors(vectors)
    # Compile outside of the measurement.
    cosine_neighbors(vectors[: min(n, 6_000)], 20)
    sample = min(SAMPLE, n)
    product, _ = cpu(lambda: [unit[s : s + 1000] @ unit.T for s in range(0, sample, 1000)], REPEATS)
    product *= n / sample
    print(f"{n} x {d}: the bare product {product:.2f} s")
    try:
        import faiss  # type: ignore[import-not-found]  # optional

        faiss.omp_set_num_threads(1)
    except ImportError:
        faiss = None
    for k in sizes:
        ours, found = cpu(lambda k=k: cosine_neighbors(vectors, k), REPEATS)
        brute = NearestNeighbors(n_neighbors=k + 1, metric="cosine", algorithm="brute").fit(vectors)
        theirs, (distances, _) = cpu(lambda brute=brute: brute.kneighbors(vectors[:sample]), REPEATS)
        theirs *= n / sample
        line = f"  k = {k:<5} ours {ours:6.2f}   scikit-learn {theirs:6.2f} ({theirs / ours:.1f}x)"
        if faiss is not None:
            flat = faiss.IndexFlatIP(d)
            flat.add(unit)
            flat_seconds, _ = cpu(lambda flat=flat, k=k: flat.search(unit, k + 1), REPEATS)
            line += f"   faiss flat {flat_seconds:6.2f} ({flat_seconds / ours:.1f}x)"
        error = float(np.abs(found.distances[:sample] - distances[:, 1:]).max())
        line += f"   product / ours {100 * product / ours:.0f} %   largest difference {error:.1e}"
        print(line, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  peak memory of the process {peak:.2f} GiB")


def approximate(n: int, d: int, k: int) -> None:
    """Compare the search by the store's index with the exact one."""
    vectors, _, _, groups = features(n, d)
    with tempfile.TemporaryDirectory() as folder:
        rows = pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), d)})
        table = lancedb.connect(folder).create_table("vectors", rows)
        index, _ = cpu(lambda: table.create_index("vector", config=IvfFlat(distance_type="cosine")))
        centres = table.to_lance().centroids(index_name="vector_idx")
    centres = np.asarray(centres.flatten(), np.float32).reshape(len(centres), d)
    exact, _ = cpu(lambda: cosine_neighbors(vectors, k, groups=groups))
    seconds, found = cpu(lambda: probed_neighbors(vectors, centres, k, groups=groups, seed=0))
    print(
        f"{n} x {d}, k = {k}: exact {exact:.1f} s   by index {seconds:.1f} s ({exact / seconds:.1f}x), made in "
        f"{index:.1f} s on all cores; {found.probes} of {found.lists} lists, recall {found.recall:.4f}",
        flush=True,
    )


def robustness(n: int, d: int, *, slide: float) -> None:
    """Compare robustness index, MaRI and CRoMa."""
    vectors, label, source, groups = features(n, d, slide=slide)
    k = 15

    def ours() -> list[float | None]:
        neighbors = cosine_neighbors(vectors, 100, groups=groups)
        space = Space.of(vectors)
        lists = neighbors, label, source, groups
        results = [*robustness_index(*lists, k=k, seed=0), *mari(*lists, k=k, seed=0)]
        return [r.value for r in (*results, croma(*lists, k=k, seed=0, space=space)[0])]

    def theirs() -> list[float]:
        table = pd.DataFrame(
            {
                "sample_id": [f"i{i}" for i in range(n)],
                "image_path": [f"{i}.png" for i in range(n)],
                "label": label.astype(str),
                "group_id": groups.astype(str),
                "site": source.astype(str),
            }
        )
        sizes = list(range(1, k + 1, 2))
        wide = vectors.astype(np.float64)
        with warnings.catch_warnings():
            # It reports images without an informative neighbour.
            warnings.simplefilter("ignore", RuntimeWarning)
            return [
                RI.compute(wide, table, confounder_column="site", k_candidates=sizes).value,
                MaRI.compute(wide, table, confounder_column="site", k_candidates=sizes).value,
                CRoMa.compute(wide, table, confounder_column="site").value,
            ]

    ours_seconds, found = cpu(ours)
    theirs_seconds, expected = cpu(theirs)
    difference = max(abs(a - b) for a, b in zip(found, expected, strict=True) if a is not None)
    print(
        f"{n} x {d}, slide effect {slide:g}: RI, MaRI, CRoMa ours (search, intervals and tests included) "
        f"{ours_seconds:.2f}   croma {theirs_seconds:.2f} ({theirs_seconds / ours_seconds:.1f}x)   "
        f"largest difference {difference:.1e}",
        flush=True,
    )


def permutations(n: int, d: int) -> None:
    """Compare 999 permutations with plain evaluations of the same statistic."""
    vectors, label, source, groups = features(n, d)
    neighbors = cosine_neighbors(vectors, 15, groups=groups)
    listed = neighbors.indices
    queries, weights = np.repeat(np.arange(n), 15), np.full(n * 15, 1 / (n * 15))
    plain, _ = cpu(lambda: [(source[listed] == source[:, None]).mean(axis=1).mean() for _ in range(50)])
    plain /= 50

    def permute(seed: int) -> Any:
        permuted = permute_codes(source, groups, seed=seed, within=label)
        return permuted, permuted_agreement(permuted, queries, listed.ravel(), weights)

    permute(0)  # compiles
    drawing, permuted = cpu(lambda: permute_codes(source, groups, seed=1, within=label))
    counting, _ = cpu(lambda: permuted_agreement(permuted, queries, listed.ravel(), weights))
    audit, _ = cpu(lambda: neighbor_agreement(neighbors, source, groups, metric="m", k=15, seed=2, within=label))
    print(
        f"{n} images, k = 15: a plain evaluation {1000 * plain:.2f} ms; 999 permutations {counting / plain:.1f} of it,"
        f" drawn once for all audits of an attribute in {drawing / plain:.1f}; the whole audit with its interval "
        f"{1000 * audit:.0f} ms",
        flush=True,
    )


def main() -> None:
    """Print all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    quick = parser.parse_args().quick
    with threadpool_limits(limits=1):
        permutations(*((2_000, 64) if quick else (2_870, 512)))
        if not quick:
            permutations(10_000, 512)
        search(*((5_000, 128, (100,)) if quick else (25_000, 768, (100, 1000))))
        approximate(*((10_000, 64, 20) if quick else (100_000, 512, 100)))
        robustness(*((2_000, 64) if quick else (10_000, 512)), slide=0.5)
        if not quick:
            robustness(8_000, 512, slide=4)


if __name__ == "__main__":
    main()
