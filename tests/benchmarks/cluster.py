"""``python -m tests.benchmarks.cluster [SIDE] [TILES]``: how a run scales with workers, and what the scheduler costs.

Two images of SIDE x SIDE pixels (8192 by default) are correlated by one worker and by two, each of one thread and on a
processor of its own, as what stores a tile beside the next one would else take another's. Then
TILES tasks (a million by default, which takes an hour) that do nothing are sent through the window of a run, and
the memory of the client, in which the scheduler is, is told as it goes. At last the rows of as many tiles are read as
whoever finishes a run reads them. `flat TILES` and `rows TILES` are these two by themselves.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import zarr
from distributed.diagnostics.plugin import SchedulerPlugin

from bigncc import cluster, config, journal, pipeline, tasks
from bigncc.ledger import Row
from bigncc.machine import ClusterConfig
from bigncc.summary import BINS, STATUS, Summary
from bigncc.totals import sums_of

MEMORY = 2 * 10**9


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def image(path, side, seed):
    """Write noise of two bytes, chunk row by chunk row."""
    array = zarr.create_array(str(path), shape=(side, side), chunks=(1024, 1024), dtype="uint16")
    rng = np.random.default_rng(seed)
    for start in range(0, side, 1024):
        array[start : start + 1024] = rng.integers(0, 4096, array[start : start + 1024].shape, np.uint16)


def asked(folder, out, *words):
    sections = {"reference": {"url": f"{folder}/a.zarr"}, "moving": {"url": f"{folder}/b.zarr"}}
    return config.load([sections, {"output": {"url": f"{folder}/{out}"}}, *words])


@contextmanager
def pinned(connect, spent, *words):
    """Let each worker have one processor; note what they took of them together."""
    with connect(*words) as client:
        processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        for process, processor in zip(processes, sorted(os.sched_getaffinity(0)), strict=False):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, {processor})
        yield client
        spent.append(sum(sum(process.cpu_times()[:2]) for process in processes))


def computing(folder, out, *words):
    """Return the seconds from the first tile that is sent to the last one that is done, and of the whole run."""
    spans = []

    @contextmanager
    def progress(*_):
        start = time.perf_counter()
        yield None
        spans.append(time.perf_counter() - start)

    start = time.perf_counter()
    pipeline.run(asked(folder, out, *words), progress=progress)
    return spans[0], time.perf_counter() - start


def scaling(folder, side):
    for name, seed in (("a", 1), ("b", 2)):
        image(folder / f"{name}.zarr", side, seed)
    shift = folder / "shift.json"
    shift.write_text('{"kind": "translation", "offset": [0, 0]}')
    words = [f"registration.transform={shift}", "window.size=31", f"engine.memory={MEMORY}", "engine.threads=1"]
    # of many tiles, so that the last ones cost little
    words.append("output.chunks=[512, 512]")
    pipeline.run(asked(folder, "warm", *words, "output.region=0:512,0:512"))
    spent, took = [], []
    cluster.connect = partial(pinned, cluster.connect, spent)
    for count in (1, 2):
        took.append(computing(folder, f"by-{count}", *words, "cluster.kind=processes", f"cluster.workers={count}"))
        say(
            f"{count} workers: {took[-1][0]:.1f} s for the tiles, {took[-1][1]:.1f} s with start and end, "
            f"{spent[-1]:.1f} s of processors"
        )
    say(f"2 workers against 1: {took[0][0] / took[1][0]:.2f} times as fast, {spent[1] / spent[0]:.2f} times the work")


class Counted(SchedulerPlugin):
    """How many tasks there have been."""

    new = 0

    def transition(self, _key, start, finish, *_, **__):
        self.new += start == "released" and finish != "forgotten"


def stub(item):
    return item


def flat(count):
    """Send tasks that do nothing; tell memory and how many of them the scheduler knows and has known."""
    chosen = ClusterConfig(kind="processes", workers=2)
    with cluster.connect(chosen, 2, MEMORY) as client:
        seen, counted = client.cluster.scheduler, Counted()
        seen.add_plugin(counted)
        this, start, most = psutil.Process(), time.perf_counter(), 0
        for number, _ in enumerate(tasks.results(client, stub, range(count), lambda: 6, lambda *_: None), 1):
            most = max(most, len(seen.tasks))
            if number in (1, 1000, count) or number % 100_000 == 0:
                taken = this.memory_info().rss / 1e6
                say(f"{number} tiles: {taken:.0f} MB, {number / (time.perf_counter() - start):.0f} per second")
        say(f"{counted.new / count:.2f} tasks for each tile, at most {most} of them at a time known to the scheduler")


def rows(count):
    """Write the rows of many tiles; tell what whoever adds them up takes."""
    rng = np.random.default_rng(1)
    sync, os.fsync = os.fsync, lambda _: None
    with tempfile.TemporaryDirectory() as place:
        url, plan = f"{place}/out", "0" * 32
        with journal.writer(url, plan) as writer:
            for tile in range(count):
                histogram = tuple(map(int, rng.integers(0, 10**6, BINS)))
                counts = (0, sum(histogram), *(0,) * (len(STATUS) - 2))
                summary = Summary(counts, int(rng.integers(2**50)), int(rng.integers(2**50)), -0.9, 0.9, histogram)
                digests = {name: f"{int(rng.integers(2**62)):032x}" for name in ("ncc", "status")}
                saw = {name: {f"c/{tile}/{k}": "0123abcd" for k in range(4)} for name in ("reference", "moving")}
                writer.append(Row(tile, summary, {"ncc": 10**6, "status": 10**4}, digests, saw))
        os.fsync = sync
        this, start = psutil.Process(), time.perf_counter()
        before = this.memory_info().rss
        found = journal.rows(url, plan)
        sums = sums_of(found.values())
        took, seconds = this.memory_info().rss - before, time.perf_counter() - start
        say(f"rows of {sums.tiles} tiles: {took / 1e6:.0f} MB, {seconds:.0f} s to add them up")


def main(side=8192, count=10**6):
    with tempfile.TemporaryDirectory() as place:
        scaling(Path(place), side)
    # in a process of its own, whose memory has held nothing else
    alone = [sys.executable, "-m", __spec__.name]
    return max(subprocess.run([*alone, what, str(count)], check=False).returncode for what in ("flat", "rows"))


if __name__ == "__main__":
    if sys.argv[1:2] in (["flat"], ["rows"]):
        {"flat": flat, "rows": rows}[sys.argv[1]](int(sys.argv[2]))
    else:
        sys.exit(main(*map(int, sys.argv[1:])))
