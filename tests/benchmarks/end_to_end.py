"""``python -m tests.benchmarks.end_to_end [time] [where] [processes] [memory]``: what a run costs beside a copy.

``time`` runs, in turn and each in a process of its own, on a pair of 16384 x 16384 uint16 in three layouts: a plain
copy (zarr-python reads both images and writes the values and status of a map, two threads), dask's copy of the same,
``map_overlap`` with scipy as a user would write it, and bigncc. Nobody syncs to disk. ``where`` says on what bigncc's
time goes, ``processes`` compares two threads with two processes, and ``memory`` runs ever larger images.
``BIGNCC_BENCHMARK_FOLDER`` says where there are 12 GB of disk.
"""

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

SIDE = int(os.environ.get("BIGNCC_BENCHMARK_SIDE", "16384"))
THREADS = 2
ROUNDS = 3
LAYOUTS = {"1024": (1024, None), "512": (512, None), "sharded 4096/512": (512, 4096)}
MEMORY = "1GB"


def say(line=""):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def smooth(side, blur=2):
    """Return a periodic scene of standard deviation 1."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).normal(0, 1, (side, side)).astype(np.float32)
    scene = gaussian_filter(noise, blur, mode="wrap")
    return scene / scene.std()


def pair(folder, shape, chunk, shard=None):
    """Write two views of a smooth scene, each with noise of its own, uint16; return their paths."""
    rng, paths, band = np.random.default_rng(1), [], 4096
    scene = 6000 * smooth(2048)
    for name in ("a", "b"):
        paths.append(str(folder / f"{name}.zarr"))
        shards = None if shard is None else (shard, shard)
        array = zarr.create_array(paths[-1], shape=shape, chunks=(chunk, chunk), shards=shards, dtype="uint16")
        for y in range(0, shape[0], band):
            part = (min(band, shape[0] - y), shape[1])
            noise = rng.normal(0, 1800, part).astype(np.float32)
            tiled = np.tile(scene, [-(-n // 2048) for n in part])[: part[0], : part[1]]
            array[y : y + part[0]] = np.clip(20000 + tiled + noise, 0, 65535)
    return paths


def outputs(folder, chunk, shard):
    """Make arrays for values and status, encoded as bigncc's."""
    return [
        zarr.create_array(
            str(folder / name),
            shape=(SIDE, SIDE),
            chunks=(chunk, chunk),
            shards=None if shard is None else (shard, shard),
            dtype=dtype,
            fill_value=fill,
            serializer=BytesCodec(),
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()],
            config={"write_empty_chunks": True},
        )
        for name, dtype, fill in (("values", "float32", np.nan), ("status", "uint8", 0))
    ]


def real_values(paths, side):
    """Return a map as it is: what compresses like a map."""
    import bigncc

    a, b = (zarr.open_array(path, mode="r")[:side, :side] for path in paths)
    return bigncc.ncc(a, b, window=15)


def copy(folder, paths, chunk, shard, window):
    block = shard or 1024
    values, status = outputs(folder, chunk if shard else 1024, shard)
    real, ones = real_values(paths, block), np.ones((block, block), np.uint8)
    a, b = (zarr.open_array(path, mode="r") for path in paths)

    def one(corner):
        roi = tuple(slice(c, c + block) for c in corner)
        _ = a[roi], b[roi]
        values[roi], status[roi] = real, ones

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, [(y, x) for y in range(0, SIDE, block) for x in range(0, SIDE, block)]))
    return time.perf_counter() - start, {}


def dask_copy(folder, paths, chunk, shard, window):
    import dask
    import dask.array as da

    block = shard or 1024
    targets = outputs(folder, chunk if shard else 1024, shard)
    real, ones = real_values(paths, block), np.ones((block, block), np.uint8)
    a, b = (da.from_zarr(path, chunks=(block, block)) for path in paths)
    values = da.map_blocks(lambda _a, _b: real, a, b, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    status = da.map_blocks(lambda _v: ones, values, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    start = time.perf_counter()
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        da.store([values, status], targets, lock=False)
    return time.perf_counter() - start, {}


def scipy_overlap(folder, paths, chunk, shard, window):
    import dask
    import dask.array as da
    from scipy.ndimage import uniform_filter

    def ncc(f, g):
        f, g = f.astype(np.float64), g.astype(np.float64)
        mean = partial(uniform_filter, size=window)
        mf, mg = mean(f), mean(g)
        vf, vg, c = mean(f * f) - mf * mf, mean(g * g) - mg * mg, mean(f * g) - mf * mg
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(vf * vg > 0, c / np.sqrt(vf * vg), 0).astype(np.float32)

    block = shard or 1024
    values, _ = outputs(folder, chunk if shard else 1024, shard)
    a, b = (da.from_zarr(path, chunks=(block, block)) for path in paths)
    found = da.map_overlap(ncc, a, b, depth=window // 2, boundary="reflect", dtype=np.float32)
    start = time.perf_counter()
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        da.store(found, values, lock=False)
    return time.perf_counter() - start, {}


def job(folder, paths, chunk, shard, window, *words):
    """Return the config of a run: the images as they are, objects as the copy's."""
    from bigncc import config

    sections = {name: {"url": path} for name, path in zip(("reference", "moving"), paths, strict=True)}
    layout = {} if shard is None else {"chunks": [chunk, chunk], "shards": [shard, shard]}
    engine = {"threads": THREADS, "memory": MEMORY}
    output = {"url": str(folder / "out"), "pyramid": False, **layout}
    science = {"registration": {"model": "none"}, "window": {"size": window}}
    return config.load([sections, {"output": output, "engine": engine, **science}, *words])


def counted_tasks():
    """Return a list that the number of tasks of each graph is added to that dask computes from now on."""
    from dask import local

    start, counts = local.start_state_from_dask, []

    def noted(*args, **options):
        state = start(*args, **options)
        counts.append(len(state["ready"]) + len(state["waiting"]))
        return state

    local.start_state_from_dask = noted
    return counts


def bigncc_run(folder, paths, chunk, shard, window, *words):
    from bigncc import allocator, inputs, pipeline, reading

    allocator.keep_freed_memory()  # as the command line does
    made = []

    class Noted(reading.Decoded):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    inputs.Decoded = Noted
    start = time.perf_counter()
    ready = pipeline.prepare(job(folder, paths, chunk, shard, window, *words))
    tasks, begun = counted_tasks(), time.perf_counter()
    with allocator.what_is_there_stays():  # this, too
        pipeline.complete(ready)
    seconds = time.perf_counter() - begun
    cells = sum(math.prod(-(-n // c) for n, c in zip(image.shape, image.chunks, strict=True)) for image in made)
    return seconds, {
        "prepare": begun - start,
        "decodes": sum(image.decoded for image in made) / cells,
        "tiles": len(ready.job.plan),
        "tasks": sum(tasks) / math.prod(-(-n // chunk) for n in ready.job.plan.shape),
    }


WAYS = {
    "copy (zarr-python)": copy,
    "copy (dask)": dask_copy,
    "map_overlap + scipy": scipy_overlap,
    "bigncc": bigncc_run,
    "bigncc, halo=read": bigncc_run,
    "bigncc, with pyramid": bigncc_run,
}
WORDS = {"bigncc, halo=read": "engine.halo=read", "bigncc, with pyramid": "output.pyramid=true"}


def alone(name, *args):
    """Run one way in this process and print what it took."""
    folder, layout, window, words = Path(args[0]), args[1], int(args[2]), list(args[3:])
    os.fsync = lambda _: None
    words += [WORDS[name]] if name in WORDS else []
    chunk, shard = LAYOUTS[layout]
    paths = [str(folder / layout.replace("/", "-") / f"{n}.zarr") for n in "ab"]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        seconds, facts = WAYS[name](Path(place), paths, chunk, shard, window, *words)
    say(json.dumps({"seconds": seconds, **facts}))


def measured(name, folder, layout, window, *words):
    """Return what one way took, in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "alone", name, str(folder), layout, str(window), *words]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def timed(folder):
    say(f"{SIDE} x {SIDE} uint16, {THREADS} threads, median (minimum) of {ROUNDS} in turn; seconds, ns per pixel:")
    heads = ("layout", "way", "window", "s", "ns", "of the copy", "decodes/chunk", "tasks/chunk", "prepare s")
    say(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for layout, (chunk, shard) in LAYOUTS.items():
        place = folder / layout.replace("/", "-")
        pair(place, (SIDE, SIDE), chunk, shard)
        rows = [(name, 15) for name in WAYS] + [("bigncc", 101)]
        rounds = [{row: measured(row[0], folder, layout, row[1]) for row in rows} for _ in range(ROUNDS)]
        copies = [found["copy (zarr-python)", 15]["seconds"] for found in rounds]
        for name, window in rows:
            each = [found[name, window] for found in rounds]
            seconds = [facts["seconds"] for facts in each]
            middle, least = statistics.median(seconds), min(seconds)
            ratio = f"{middle / statistics.median(copies):.2f} ({least / min(copies):.2f})"
            keys = ("decodes", "tasks", "prepare")
            more = [f"{each[0][key]:.2f}" if key in each[0] else "-" for key in keys]
            per_pixel = f"{middle / SIDE**2 * 1e9:.1f} ({least / SIDE**2 * 1e9:.1f})"
            cells = [layout, name, window, f"{middle:.2f} ({least:.2f})", per_pixel, ratio, *more]
            say(f"| {' | '.join(map(str, cells))} |")
        shutil.rmtree(place)


def where(folder):
    """Print on what the threads spend bigncc's time."""
    from bigncc import kernel, objects, pipeline, reading, storage

    spent, marks = Counter(), []

    def watched(place, name, label):
        function = getattr(place, name)

        def noted(*args, **options):
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent[label] += time.perf_counter() - start

        setattr(place, name, noted)

    os.fsync = lambda _: None
    paths = pair(folder / "where", (SIDE, SIDE), 1024)
    for place, name, label in (
        (kernel, "local", "kernel"),
        (reading.Decoded, "__getitem__", "reading"),
        (storage.View, "__getitem__", "decoding"),
        (objects, "encoded", "encoding"),
        (objects, "write", "writing"),
        (objects, "_put", "putting"),
    ):
        watched(place, name, label)
    complete = pipeline.complete

    def mark():
        marks.append((time.perf_counter(), sum(os.times()[:2])))

    def after_preparing(ready):
        spent.clear()
        mark()
        complete(ready)
        mark()

    pipeline.complete = after_preparing
    bigncc_run(folder, paths, 1024, None, 15)
    wall, processor = (ended - begun for begun, ended in zip(*marks, strict=True))
    parts = {
        "decoding": spent["decoding"],
        "halo assembly from decoded chunks": spent["reading"] - spent["decoding"],
        "kernel": spent["kernel"],
        "encoding": spent["encoding"],
        "putting": spent["putting"],
        "read-back and digests": spent["writing"] - spent["putting"],
    }
    scale = 1e9 / SIDE**2
    say(f"bigncc, window 15: {wall * scale:.1f} ns per pixel, {processor * scale:.1f} of processors; over all threads:")
    for label, seconds in parts.items():
        say(f"- {label}: {seconds * scale:.2f}")
    rest = THREADS * wall - sum(parts.values())
    say(f"- everything else (dask, margins between blocks, waiting): {rest * scale:.2f}")
    shutil.rmtree(folder / "where")


def processes(folder):
    """Compare one process of two threads with two processes of one."""
    paths = pair(folder / "processes", (SIDE, SIDE), 1024)
    script, found = Path(sys.executable).with_name("bigncc"), {"threads": [], "processes": []}
    for _ in range(ROUNDS):
        for how, jobs in (("threads", 1), ("processes", 2)):
            out = folder / f"out-{how}"
            words = [*paths, str(out), "--as-is", "--window", "15", f"engine.threads={THREADS // jobs}"]
            subprocess.run([script, "prepare", *words], check=True, stdout=subprocess.DEVNULL)
            start = time.perf_counter()
            parts = [
                subprocess.Popen(
                    [script, "run", *words, "--part", f"{i}/{jobs}"] if jobs > 1 else [script, "run", *words],
                    stdout=subprocess.DEVNULL,
                )
                for i in range(jobs)
            ]
            assert not any(part.wait() for part in parts)
            found[how].append(time.perf_counter() - start)
            for path in (out, Path(f"{out}.bigncc")):
                shutil.rmtree(path)
    threads, apart = (statistics.median(found[how]) for how in ("threads", "processes"))
    say(
        f"one process of {THREADS} threads {threads:.2f} s, {THREADS} of one thread {apart:.2f} s, their start included"
    )
    shutil.rmtree(folder / "processes")


def memory(folder):
    """Print the peak memory of ever larger runs of the command line."""
    script = Path(sys.executable).with_name("bigncc")
    for shape in ((8192, 8192), (16384, 16384), (16384, 65536)):
        # a child's peak memory begins with that of its parent, which must stay small
        make = [sys.executable, "-m", __spec__.name, "pair", str(folder / "memory"), *map(str, shape)]
        subprocess.run(make, check=True)
        paths = [str(folder / "memory" / f"{name}.zarr") for name in "ab"]
        for window in (15, 101):
            out = folder / "out"
            words = [
                *paths,
                str(out),
                "--as-is",
                "--window",
                str(window),
                f"engine.memory={MEMORY}",
                f"engine.threads={THREADS}",
            ]
            process = subprocess.Popen([script, "run", *words], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
            assert not status
            say(f"{' x '.join(map(str, shape))}, window {window}: peak {usage.ru_maxrss * 1.024e-3:.0f} MB of {MEMORY}")
            for path in (out, Path(f"{out}.bigncc")):
                shutil.rmtree(path)
        shutil.rmtree(folder / "memory")


PARTS = {"time": timed, "where": where, "processes": processes, "memory": memory}

if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        alone(*sys.argv[2:])
    elif sys.argv[1:2] == ["pair"]:
        pair(Path(sys.argv[2]), tuple(map(int, sys.argv[3:])), 1024)
    elif len(sys.argv) == 2:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BIGNCC_BENCHMARK_FOLDER")) as place:
            PARTS[sys.argv[1]](Path(place))
    else:
        for part in sys.argv[1:] or PARTS:
            # each in a process of its own, as one that has grown gives its size to those that it starts
            subprocess.run([sys.executable, "-m", __spec__.name, part], check=True)
