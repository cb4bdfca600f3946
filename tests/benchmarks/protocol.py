"""``python -m tests.benchmarks.protocol [cost] [verify] [status]``: what it costs that a run can prove itself.

``cost`` runs a pair of 16384 x 16384 in turn with the protocol and with everything but the write left out: no
read-back, no digests, no journal, no fingerprints of the inputs. ``verify`` proves that output. ``status`` asks after a
million tiles. ``BIGNCC_BENCHMARK_FOLDER`` says where there are 4 GB of disk.
"""

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from bigncc import allocator, config, inline, journal, objects, pipeline, watch
from bigncc.journal import Row
from bigncc.summary import Summary
from bigncc.tiles import roi_cells
from tests.benchmarks.end_to_end import pair, say

SIDE = 16384
ROUNDS = 6


@contextlib.contextmanager
def without_the_protocol():
    """Leave out everything but the write."""

    def write(array, roi, chunks, **_):
        cells = list(roi_cells(roi, array.chunks))
        for cell in cells:
            key = array.metadata.encode_chunk_key(cell)
            inline.run((array.store_path / key).set(chunks.pop(cell)), array.store)
        return [(0, "")] * len(cells)

    async def get(self, key, prototype, byte_range=None):
        return await self._store.get(key, prototype, byte_range)

    patches = [
        (objects, "write", write),
        (journal.Writer, "append", lambda *_: None),
        (watch.Watched, "get", get),
        (pipeline, "finish", lambda *_, **__: None),
    ]
    kept = [(place, name, getattr(place, name)) for place, name, _ in patches]
    try:
        for place, name, value in patches:
            setattr(place, name, value)
        yield
    finally:
        for place, name, value in kept:
            setattr(place, name, value)


def job(folder, paths):
    sections = {name: {"url": path} for name, path in zip(("reference", "moving"), paths, strict=True)}
    return config.load(
        [
            sections,
            {"output": {"url": str(folder / "out")}},
            "window.size=15",
            "registration.model=none",
            "output.pyramid=false",
        ]
    )


def cost(folder, paths):
    found = {"with": [], "without": []}
    for turn in range(ROUNDS + 1):
        for name in ("with", "without")[:: 1 if turn % 2 else -1]:  # neither is always the second
            means = contextlib.nullcontext() if name == "with" else without_the_protocol()
            for path in (folder / "out", folder / "out.bigncc"):
                shutil.rmtree(path, ignore_errors=True)
            ready = pipeline.prepare(job(folder, paths))
            os.sync()
            start = time.perf_counter()
            with means:
                pipeline.complete(ready)
            found[name].append(time.perf_counter() - start)
    times = {name: seconds[1:] for name, seconds in found.items()}  # the first ones warm up
    say(f"{SIDE} x {SIDE} uint16, window 15, {len(ready.job.plan)} tiles, seconds of the tiles and the end:")
    for name, seconds in times.items():
        say(f"- {name} the protocol: {', '.join(f'{s:.1f}' for s in seconds)}")
    ratios = [
        statistics.median(times["with"]) / statistics.median(times["without"]),
        min(times["with"]) / min(times["without"]),
    ]
    say(f"ratio of medians {ratios[0]:.3f}, of minima {ratios[1]:.3f}")


def verify(folder, paths):
    for path in (folder / "out", folder / "out.bigncc"):
        shutil.rmtree(path, ignore_errors=True)
    pipeline.run(job(folder, paths))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = pipeline.verify(str(folder / "out"))
        seconds.append(time.perf_counter() - start)
        assert not found.faults
    say(f"verify: {found.size / 1e9:.2f} GB in {min(seconds):.2f} s, {found.size / 1e9 / min(seconds):.2f} GB/s")


def status(folder):
    """Write the journal of a million tiles with the code that writes it, but for the fsync, and ask."""
    rng = np.random.default_rng(0)
    small = zarr.create_array(str(folder / "s.zarr"), shape=(64, 64), chunks=(64, 64), dtype="uint16")
    small[...] = rng.integers(0, 99, (64, 64))
    ready = pipeline.prepare(
        config.load(
            [
                {"reference": {"url": str(folder / "s.zarr")}, "moving": {"url": str(folder / "s.zarr")}},
                {"output": {"url": str(folder / "many")}},
                "registration.model=none",
                "window.size=3",
            ]
        )
    )
    plan = journal.read_plan(ready.job.url)
    side, chunk = 1000, 1024
    plan["tiles"] |= {name: [side * chunk] * 2 for name in ("shape", "extent")} | {
        name: [chunk] * 2 for name in ("objects", "tile")
    }
    (Path(journal.directory(ready.job.url)) / "plan.json").unlink()
    journal.settle_plan(ready.job.url, plan)
    histogram = tuple(int(n) for n in rng.integers(0, 30000, 64))
    summary = Summary((0, chunk * chunk, *[0] * 7), 123456789012, 98765432101, -0.53, 0.99, histogram)
    saw = {name: {f"0/c/{i}/{i}": "0123abcd" for i in range(2)} for name in ("reference", "moving")}
    kept, os.fsync = os.fsync, lambda _: None
    try:
        with journal.writer(ready.job.url, ready.job.plan_id) as writer:
            for tile in range(side * side):
                writer.append(
                    Row(
                        tile, summary, {"ncc": 4000000, "status": 5000}, dict.fromkeys(("ncc", "status"), "a" * 32), saw
                    )
                )
    finally:
        os.fsync = kept
    size = sum(path.stat().st_size for path in (Path(journal.directory(ready.job.url)) / "journal").iterdir())
    command = [Path(sys.executable).with_name("bigncc"), "status", str(ready.job.url)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    start = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    say(f"status of {side * side} tiles, a journal of {size / 1e6:.0f} MB: {seconds:.1f} s, {memory:.0f} MB")


def main(parts):
    allocator.keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory(dir=os.environ.get("BIGNCC_BENCHMARK_FOLDER")) as place:
        folder = Path(place)
        if "status" in parts:  # first, as a child's peak memory begins with that of its parent
            status(folder)
        paths = pair(folder, (SIDE, SIDE), 1024) if {"cost", "verify"} & parts else []
        if "cost" in parts:
            cost(folder, paths)
        if "verify" in parts:
            verify(folder, paths)


if __name__ == "__main__":
    main(set(sys.argv[1:]) or {"cost", "verify", "status"})
