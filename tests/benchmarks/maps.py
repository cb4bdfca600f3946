"""``python -m tests.benchmarks.maps [windows] [statistics]``: what further maps cost.

``windows``: four windows in one run against four runs, in turn, each run in a process of its own, on a pair of 8192 x
8192 uint16 in chunks of 1024. Nobody syncs to disk. ``statistics``: nanoseconds per pixel that each map of the windows
takes beside the coefficient, in memory, on one thread. ``BIGNCC_BENCHMARK_FOLDER`` says where there is 3 GB of disk.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bigncc.kernel import local
from bigncc.maps import Asked, Ssim
from bigncc.moments import STATISTICS
from bigncc.window import Window
from tests.benchmarks.end_to_end import MEMORY, THREADS, pair, say

SIDE = int(os.environ.get("BIGNCC_BENCHMARK_SIDE", "8192"))
ROUNDS = int(os.environ.get("BIGNCC_BENCHMARK_ROUNDS", "5"))
SIZES = (7, 15, 31, 61)
CORE = (slice(40, 980), slice(40, 1480))


def alone(place, size):
    """Make one run in this process."""
    from bigncc import allocator, config, pipeline

    os.fsync = lambda _: None
    allocator.keep_freed_memory()  # as the command line does
    out = f"{place}/out-{os.getpid()}"
    job = {
        "reference": {"url": f"{place}/a.zarr"},
        "moving": {"url": f"{place}/b.zarr"},
        "output": {"url": out},
        "registration": {"model": "none"},
        "window": {"size": size},
        "engine": {"threads": THREADS, "memory": MEMORY},
    }
    start, before = time.perf_counter(), time.process_time()
    pipeline.run(config.load([job]))
    say(f"{time.perf_counter() - start} {time.process_time() - before}")
    shutil.rmtree(out)
    shutil.rmtree(f"{out}.bigncc")


def run(place, size):
    command = [sys.executable, "-m", "tests.benchmarks.maps", "alone", str(place), str(size)]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def windows(place):
    pair(place, (SIDE, SIDE), 1024)
    once, each = [], []
    run(place, [[n, n] for n in SIZES])  # compiles
    for _ in range(ROUNDS):
        once.append(run(place, [[n, n] for n in SIZES]))
        each.append(np.sum([run(place, n) for n in SIZES], axis=0))
    say(f"{SIDE} x {SIDE} uint16, windows {', '.join(map(str, SIZES))}: median (minimum) of {ROUNDS} in turn")
    for name, found in (("one run", once), ("four runs", each)):
        wall, own = zip(*found, strict=True)
        say(f"{name}: {statistics.median(wall):.2f} ({min(wall):.2f}) s, processor {statistics.median(own):.2f} s")
    ratios = [[a / b for a, b in zip(one, four, strict=True)] for one, four in zip(once, each, strict=True)]
    wall, own = (statistics.median(values) for values in zip(*ratios, strict=True))
    say(f"one run / four runs: {wall:.2f} of the time, {own:.2f} of the processor time")


def least(function):
    """Return the least nanoseconds per pixel of the core, of some calls."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found) * 1e9 / ((CORE[0].stop - CORE[0].start) * (CORE[1].stop - CORE[1].start))


def each_statistic():
    rng = np.random.default_rng(0)
    f = rng.integers(0, 256, (1020, 1520)).astype(np.uint8)
    g = (f // 2 + rng.integers(0, 100, f.shape)).astype(np.uint8)
    kinds = (np.uint8, np.uint16, np.float32)
    say("| ns per pixel, one thread | " + " | ".join(kind.__name__ for kind in kinds) + " |")
    say("|---|" + "---|" * len(kinds))

    def nanoseconds(kind, window, *names):
        asked = Asked(names, ssim=Ssim(255.0))
        return least(lambda: local(f.astype(kind), g.astype(kind), Window(window), core=CORE, asked=asked))

    for window, names in ((15, STATISTICS), (7, ("spearman",))):
        plain = [nanoseconds(kind, window) for kind in kinds]
        say(f"| ncc, window {window} | " + " | ".join(f"{each:.1f}" for each in plain) + " |")
        for name in names:
            more = [nanoseconds(kind, window, name) - own for kind, own in zip(kinds, plain, strict=True)]
            say(f"| {name}, as many more | " + " | ".join(f"{each:.1f}" for each in more) + " |")


def main(*parts):
    if parts[:1] == ("alone",):
        alone(parts[1], json.loads(parts[2]))
        return
    if not parts or "statistics" in parts:
        each_statistic()
    if not parts or "windows" in parts:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BIGNCC_BENCHMARK_FOLDER")) as folder:
            windows(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
