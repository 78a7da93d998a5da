"""Is the model the limit? Images per second of the streaming loop against the model alone on ready tensors.

    python benchmarks/encoding.py [--encoder NAME] [--images N] [--repeats R] [--quick]

What is timed, in turn, as often as there are repeats, so that a load from elsewhere falls on all of them:

- ``model``: ready tensors, whole batches in as many threads as the loop uses;
- ``model, plain``: the same tensors, one batch after the other, torch dividing each operation among the cores;
- ``decode``: reading, decoding and preprocessing alone;
- ``loop``: `pipelines.encode.encode`, files to vectors;
- ``naive``: one image decoded, one batch encoded, one after the other.

The loop shares its cores between decoding and model, so it cannot do more than 1 / (1 / model + 1 / decode) images per
second: this is the ``limit``. CPU-milliseconds an image are given too, as they say the same on a busy machine.
"""

import argparse
import io
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipelines.decoding import content_hash, open_image, to_rgb
from pipelines.encode import encode
from pipelines.encoder import Encoder, LoadOptions
from pipelines.encoders import load_encoder
from pipelines.sources import Source, read_file
from pipelines.threads import map_ordered
from pipelines.wanted import Wanted

BATCH_SIZES = (1, 4, 8, 16, 32)
KINDS = {"512² JPEG": ("JPEG", 512), "256² PNG": ("PNG", 256)}


def write_images(folder: Path, kind: str, side_px: int, n: int) -> list[Source]:
    """Write smooth pictures with a little noise, which compress about as photographs do."""
    rng = np.random.default_rng(0)
    sources = []
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (side_px // 16, side_px // 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side_px, side_px), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (smooth + rng.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, kind, quality=90)
        path = folder / f"{kind}-{i}"
        path.write_bytes(buffer.getvalue())
        sources.append(Source(path.name, partial(read_file, path)))
    return sources


def prepare(encoder: Encoder, source: Source) -> torch.Tensor:
    """Do what the loop does to one image before the model."""
    payload = source.load()
    content_hash(payload)
    return encoder.preprocess(to_rgb(open_image(payload)))


def batches(tensors: list[torch.Tensor], batch_size: int) -> Iterator[torch.Tensor]:
    """Yield the tensors stacked, `batch_size` at a time."""
    for start in range(0, len(tensors), batch_size):
        yield torch.stack(tensors[start : start + batch_size])


def exhaust(iterator: Iterator[object]) -> None:
    """Compute all, keep nothing."""
    for _ in iterator:
        pass


def arms(encoder: Encoder, sources: list[Source], batch_size: int, workers: int) -> dict[str, Callable[[], None]]:
    """Return what is timed, by name."""
    tensors = [prepare(encoder, source) for source in sources]
    wanted = {source.uri: Wanted(source.uri, content_hash(source.load())) for source in sources}
    cores = torch.get_num_threads()

    def in_threads(function: Callable[[object], object], items: Iterator[object]) -> None:
        torch.set_num_threads(max(1, cores // workers))
        exhaust(map_ordered(function, items, workers, look_ahead=2 * workers))
        torch.set_num_threads(cores)

    def naive() -> None:
        for start in range(0, len(sources), batch_size):
            encoder.encode(torch.stack([prepare(encoder, source) for source in sources[start : start + batch_size]]))

    return {
        "model": lambda: in_threads(encoder.encode, batches(tensors, batch_size)),
        "model, plain": lambda: exhaust(map(encoder.encode, batches(tensors, batch_size))),
        "decode": lambda: in_threads(partial(prepare, encoder), iter(sources)),
        "loop": lambda: exhaust(encode(encoder, sources, wanted, batch_size=batch_size, workers=workers)),
        "naive": naive,
    }


def compare(encoder: Encoder, sources: list[Source], batch_size: int, workers: int, repeats: int) -> None:
    """Time every arm `repeats` times in turn and print medians, and medians of ratios within a repeat."""
    timed = arms(encoder, sources, batch_size, workers)
    timed["loop"]()  # what happens once only
    rates: dict[str, list[float]] = {name: [] for name in timed}
    cpu_ms: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeats):
        for name, run in timed.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            rates[name].append(len(sources) / (time.perf_counter() - wall))
            cpu_ms[name].append((time.process_time() - cpu) / len(sources) * 1e3)
    for name in timed:
        low, middle, high = min(rates[name]), statistics.median(rates[name]), max(rates[name])
        used = statistics.median(cpu_ms[name])
        print(f"  {name:13s} {middle:7.1f} images/s ({low:.1f}–{high:.1f})   {used:6.1f} CPU-ms an image")
    pairs = list(zip(rates["model"], rates["decode"], rates["loop"], rates["naive"], strict=True))
    model, decode, loop = (statistics.median(cpu_ms[name]) for name in ("model", "decode", "loop"))
    print(f"  loop ÷ model  {statistics.median(run / alone for alone, _, run, _ in pairs):.2f}", end="")
    print(f"   (limit {statistics.median(dec / (alone + dec) for alone, dec, _, _ in pairs):.2f})", end="")
    print(f"   loop ÷ naive {statistics.median(run / plain for _, _, run, plain in pairs):.2f}")
    print(f"  in CPU time: model ÷ loop {model / loop:.2f}   (limit {model / (model + decode):.2f})")


def sweep(encoder: Encoder, tensor: torch.Tensor, images: int, repeats: int) -> None:
    """Print images per second of the model alone at each batch size, one thread and all of them."""
    cores = torch.get_num_threads()
    for threads in sorted({1, cores}):
        torch.set_num_threads(threads)
        rates: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
        for _ in range(repeats):
            for size in BATCH_SIZES:
                batch = tensor.expand(size, *tensor.shape).contiguous()
                start, runs = time.perf_counter(), max(1, images // size)
                for _ in range(runs):
                    encoder.encode(batch)
                rates[size].append(runs * size / (time.perf_counter() - start))
        row = "   ".join(f"{size}: {statistics.median(rates[size]):.1f}" for size in BATCH_SIZES)
        print(f"  images/s by batch size, {threads} thread{'s' * (threads > 1)}: {row}")
    torch.set_num_threads(cores)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", action="append", help="registered name; may be repeated")
    parser.add_argument("--images", type=int, default=96, help="of each kind, for encoders that are fast")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="16 images, 2 repeats")
    options = parser.parse_args()
    images, repeats = (16, 2) if options.quick else (options.images, options.repeats)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for name in options.encoder or ("efficientnet_lite0", "untrained_vit_b16"):
        encoder = load_encoder(name, LoadOptions())
        n = max(16, images // 4) if name == "untrained_vit_b16" else images
        loaded_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with tempfile.TemporaryDirectory() as folder:
            for what, (kind, side_px) in KINDS.items():
                print(f"{name}, {n} × {what}, batches of {options.batch_size}, {options.workers} threads:")
                sources = write_images(Path(folder), kind, side_px, n)
                compare(encoder, sources, options.batch_size, options.workers, repeats)
            tensor = prepare(encoder, sources[0])
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  peak memory {peak_mib:.0f} MiB, of which {loaded_mib:.0f} before the first image")
        print(f"{name}, model alone:")
        sweep(encoder, tensor, min(n, 32), min(repeats, 3))


if __name__ == "__main__":
    main()
