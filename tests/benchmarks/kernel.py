"""``python -m tests.benchmarks.kernel [table] [masked] [volumes] [threads] [exactness] [identity] [limit]``.

What the kernel costs and how exact it is, beside everybody else's. Whatever is compared runs in turn, A B C A B C, in
one process; times are nanoseconds per pixel. Without words all parts run, which takes some twenty minutes.
"""

import ctypes
import gc
import resource
import sys
import threading
import time
from functools import partial
from itertools import product
from pathlib import Path

import dask
import numba
import numpy as np
from scipy.ndimage import gaussian_filter

import bigncc
from bigncc import Window
from bigncc.kernel import lattice_pivot, local
from tests import oracle, strategies
from tests.implementations import IMPLEMENTATIONS, scipy_float64

SIDE = 4096
WINDOWS = (3, 7, 15, 31, 101)
DTYPES = ("uint8", "uint16", "float32")
ROUNDS = 5


def say(line=""):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def pair(dtype, shape=(SIDE, SIDE)):
    """Two smooth scenes with the same structure and noise of their own."""
    rng = np.random.default_rng(0)
    scene = gaussian_filter(rng.normal(0, 1, shape).astype(np.float32), 2)
    scene /= scene.std()
    scale, middle = (40, 128) if dtype == "uint8" else (6000, 20000)
    limit = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else np.inf
    images = (scene + 0.3 * rng.normal(0, 1, shape).astype(np.float32) for _ in range(2))
    return tuple(np.clip(middle + scale * image, 0, limit).astype(dtype) for image in images)


def interleaved(tasks, rounds=ROUNDS):
    """Run each task once to warm up, then all in turn; the seconds of each."""
    for task in tasks:
        task()
    times = [[] for _ in tasks]
    for _ in range(rounds):
        for task, found in zip(tasks, times, strict=True):
            start = time.perf_counter()
            task()
            found.append(time.perf_counter() - start)
    return [np.array(found) for found in times]


def threads(n):
    """Tell the libraries that have threads of their own how many to use."""
    dask.config.set(scheduler="threads" if n > 1 else "synchronous", num_workers=n)
    if any(name.startswith("OpenCV") for name in IMPLEMENTATIONS):
        import cv2

        cv2.setNumThreads(n)
    if "torch avg_pool2d" in IMPLEMENTATIONS:
        import torch

        torch.set_num_threads(n)


def extra_memory(compute, f, g, window):
    """Bytes per pixel at the peak of a call, without its inputs and its float32 result."""
    compute(f[:200, :200], g[:200, :200], window)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be used again, unseen
    Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().split()
    before = int(status[status.index("VmRSS:") + 1])
    result = compute(f, g, window)
    status = Path("/proc/self/status").read_text().split()
    return (int(status[status.index("VmHWM:") + 1]) - before) * 1024 / result.size - 4


def error(compute, f, g, window, points=100):
    """Largest error at random pixels whose windows lie inside, against exact rational arithmetic."""
    rng, valid, got = np.random.default_rng(1), np.ones(f.shape, np.uint8), compute(f, g, window).astype(float)
    worst = 0.0
    for _ in range(points):
        y, x = rng.integers(window // 2, f.shape[0] - window // 2, 2)
        exact, _ = oracle.pixel(f, g, valid, valid, Window(window), (y, x))
        worst = max(worst, abs(got[y, x] - float(exact)))
    return worst


def wrong_flats(compute, dtype, window):
    """Pixels that are not 0 although one window is exactly flat."""
    level = {"uint8": 201, "uint16": 60001, "float32": 0.7}[dtype]
    f, g = pair(dtype, (256, 256))
    f[:, :128] = level
    radius = window // 2
    return int((compute(f, g, window)[radius:-radius, radius : 128 - radius] != 0).sum())


def table():
    """Time, errors and memory of each implementation; the ratio is that of the medians to bigncc's."""
    say(f"{SIDE} x {SIDE}, one thread, ns per pixel, minimum / median of {ROUNDS}; numba {numba.__version__}\n")
    cells = " | ".join(f"w={w}" for w in WINDOWS)
    say(f"| dtype | | {cells} | error | offset 1e4 | wrong flats | extra B/px |")
    say("|---|---|" + "---|" * (len(WINDOWS) + 4))
    threads(1)
    for dtype in DTYPES:
        images, small = pair(dtype), pair(dtype, (200, 200))
        raised = tuple((10000 + image / 6000).astype("f4") if dtype == "float32" else None for image in small)
        timings = {name: [] for name in IMPLEMENTATIONS}
        for w in WINDOWS:
            able = {name: entry for name, entry in IMPLEMENTATIONS.items() if w <= entry.largest}
            tasks = [partial(e.compute, *(image[: e.side, : e.side] for image in images), w) for e in able.values()]
            found = dict(zip(able, interleaved(tasks), strict=True))
            for name in IMPLEMENTATIONS:
                timings[name].append(found[name] / able[name].side ** 2 * 1e9 if name in found else None)
        for name, entry in IMPLEMENTATIONS.items():
            row = []
            for times, ours in zip(timings[name], timings["bigncc"], strict=True):
                ratio = "" if name == "bigncc" or times is None else f" ({np.median(times) / np.median(ours):.1f}x)"
                row.append("-" if times is None else f"{times.min():.1f} / {np.median(times):.1f}{ratio}")
            row.append(f"{error(entry.compute, *small, 15):.0e}" if np.isfinite(entry.tolerance) else "other statistic")
            row.append(
                f"{error(entry.compute, *raised, 15):.0e}" if dtype == "float32" and row[-1][0].isdigit() else "-"
            )
            row.append(str(wrong_flats(entry.compute, dtype, 15)))
            row.append(f"{extra_memory(entry.compute, *images, 7):.1f}" if entry.side == SIDE else "~0")
            say(f"| {dtype} | {name} | " + " | ".join(row) + " |")


def masked():
    """What masks cost: none, all valid, 30 % of the samples invalid."""
    say("\n| dtype | w | unmasked | all valid | 30 % invalid | ratios of minima |\n|---|---|---|---|---|---|")
    rng = np.random.default_rng(2)
    for dtype, w in product(DTYPES, WINDOWS):
        f, g = pair(dtype)
        masks = [None, np.ones(f.shape, np.uint8), (rng.random(f.shape) > 0.3).astype(np.uint8)]
        times = interleaved([partial(local, f, g, Window(w), reference_validity=m) for m in masks])
        ns = [t.min() / f.size * 1e9 for t in times]
        say(
            f"| {dtype} | {w} | "
            + " | ".join(f"{t:.2f}" for t in ns)
            + f" | {ns[1] / ns[0]:.2f}, {ns[2] / ns[0]:.2f} |"
        )


def volumes():
    """Three axes against scipy, 256^3, and flat windows on the same volume."""
    say("\n| dtype | window | scipy | bigncc | ratio of medians |\n|---|---|---|---|---|")
    for dtype, size in product(DTYPES, ((3, 3, 3), (7, 7, 7), (1, 7, 7))):
        f, g = pair(dtype, (256, 256, 256))
        times = interleaved([partial(scipy_float64, f, g, size), partial(local, f, g, Window(size))], rounds=3)
        a, b = (t / f.size * 1e9 for t in times)
        cells = f"{a.min():.0f} / {np.median(a):.0f} | {b.min():.2f} / {np.median(b):.2f}"
        say(f"| {dtype} | {size} | {cells} | {np.median(a) / np.median(b):.0f} |")


def two_threads():
    """Blocks of 512 rows on one thread and on two."""
    say("\n| dtype | w | one thread | two threads | ratio of minima |\n|---|---|---|---|---|")

    def work(f, g, w, start, step):
        for top in range(start, SIDE, step):
            local(f[top : top + 512], g[top : top + 512], Window(w))

    def both(f, g, w):
        workers = [threading.Thread(target=work, args=(f, g, w, k * 512, 1024)) for k in (0, 1)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    for dtype, w in product(DTYPES, (3, 15, 101)):
        f, g = pair(dtype)
        one, two = interleaved([partial(work, f, g, w, 0, 512), partial(both, f, g, w)])
        cells = " | ".join(f"{t.min() / SIDE**2 * 1e9:.2f}" for t in (one, two))
        say(f"| {dtype} | {w} | {cells} | {one.min() / two.min():.2f} |")


def exactness():
    """Errors in units in the last place for integers, absolute ones for floats, and what one bad sample changes."""
    say("\n| integers | window | pixels | largest error, ulp (limit 0.5 (1 + 2^-26)) |\n|---|---|---|---|")
    for dtype, size, shape in (
        ("uint8", (15, 15), (1014, 1014)), ("uint16", (15, 15), (1014, 1014)), ("uint8", (301, 301), (1300, 1300)),
        ("uint16", (301, 301), (1300, 1300)), ("uint8", (37, 37, 37), (136, 136, 136)),
        ("uint16", (37, 37, 37), (136, 136, 136)),
    ):  # fmt: skip
        f, g = (strategies.image(seed, shape, dtype, "noise") for seed in (1, 2))
        inner = tuple(slice(n // 2, -(n // 2)) for n in size)
        got = local(f, g, Window(size)).ncc[inner]
        say(f"| {dtype} | {size} | {got.size} | {oracle.ulps(got, f, g, size):.10f} |")
    say("\n| floats | largest error |\n|---|---|")
    compute = IMPLEMENTATIONS["bigncc"].compute
    texture = [image.astype(np.float64) / 6000 for image in pair("float32", (300, 300))]
    for offset in (0.0, 1e4, 1e6):
        f, g = ((image + offset).astype(np.float32) for image in texture)
        say(f"| float32, standard deviation 1, offset {offset:.0e} | {error(compute, f, g, 31):.1e} |")
    for scale in (1e-100, 1e77, 1e200):
        f, g = (image * scale for image in texture)
        say(f"| float64, scale {scale:.0e} | {error(compute, f, g, 31):.1e} |")
    say()
    for dtype in DTYPES:
        say(f"flats of {dtype}, windows {WINDOWS}: {[wrong_flats(compute, dtype, w) for w in WINDOWS]} wrong pixels")
    f, g = texture
    clean = local(f.astype("f4"), g.astype("f4"), Window(31)).ncc
    for bad in (np.nan, np.inf, 1e30):
        spoilt = f.astype("f4")
        spoilt[150, 140] = bad
        changed = local(spoilt, g.astype("f4"), Window(31)).ncc.view("u4") != clean.view("u4")
        inside = changed[135:166, 125:156].sum()
        say(f"one sample of {bad}: {changed.sum() - inside} pixels changed outside of its windows, {inside} inside")


def identity(cases=1000):
    """Random shapes, dtypes, windows, borders, masks and chunks: the map in chunks is the whole map, to the bit."""
    rng, wrong = np.random.default_rng(3), 0
    for case in range(cases):
        ndim = 2 + case % 2
        shape = tuple(int(n) for n in rng.integers(9, 70 if ndim == 2 else 24, ndim))
        dtype = str(rng.choice([*strategies.INTEGERS, *strategies.FLOATS]))
        kinds = ("noise", "levels", "flat", "extremes")
        images = [strategies.image(case + i, shape, dtype, str(rng.choice(kinds))) for i in (0, cases)]
        size = tuple(2 * int(rng.integers(0, min(7, (n + 1) // 2))) + 1 for n in shape)
        border = str(rng.choice(["shrink", "valid", "reflect", "mirror", "nearest", "constant"]))
        window = Window(size if max(size) > 1 else (3,) * ndim, border=border, min_std=(float(rng.integers(0, 2)), 0))
        masks = [rng.random(shape) > 0.2 if rng.random() < 0.5 else None for _ in images]
        pivot = tuple(lattice_pivot(image) for image in images)
        options = {"reference_mask": masks[0], "moving_mask": masks[1], "pivot": pivot}
        validity = [None if m is None else m.astype(np.uint8) for m in masks]
        whole = local(*images, window, reference_validity=validity[0], moving_validity=validity[1], pivot=pivot)
        chunks = tuple(int(rng.integers(1, n + 1)) for n in shape)
        lazy = [dask.array.from_array(image, chunks=chunks) for image in images]
        maps = dask.compute(bigncc.local_maps(*lazy, window, **options), scheduler="synchronous")[0]
        same = (maps["ncc"].view("u4") == whole.ncc.view("u4")).all() and (maps["status"] == whole.status).all()
        wrong += not same
    say(f"\n{cases} random cases, chunked against whole: {wrong} differ in a bit")


@numba.njit(nogil=True)
def stream(f, g, out):
    """Read two images and write one: what memory allows."""
    for j in range(f.size):
        out[j] = np.float32(f[j]) + np.float32(g[j])


def fresh_stream(f, g):
    """Do the same into memory that the kernel of the system has to clear first, as each result needs it."""
    stream(f, g, np.empty(f.size, np.float32))


def limit():
    """How far the kernel is from a loop that only moves the bytes, into memory that is there, and into fresh memory."""
    say("\n| dtype | w | read two, write one | the same, fresh memory | bigncc |\n|---|---|---|---|---|")
    for dtype, w in product(DTYPES, (3, 15, 101)):
        f, g = pair(dtype)
        out = np.empty(f.size, np.float32)
        a, b = f.reshape(-1), g.reshape(-1)
        tasks = [partial(stream, a, b, out), partial(fresh_stream, a, b), partial(local, f, g, Window(w))]
        say(f"| {dtype} | {w} | " + " | ".join(f"{t.min() / f.size * 1e9:.2f}" for t in interleaved(tasks)) + " |")


PARTS = {
    "table": table, "masked": masked, "volumes": volumes, "threads": two_threads, "exactness": exactness,
    "identity": identity, "limit": limit,
}  # fmt: skip


def main(words):
    """Run the parts named by `words`, or all of them."""
    for word in words or PARTS:
        PARTS[word]()
    say(f"\npeak memory of all this: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
