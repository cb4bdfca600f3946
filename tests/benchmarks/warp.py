"""``python -m tests.benchmarks.warp``: what it costs to pull the moving image through a transform.

Runs, in turn and each in a process of its own, on a pair of 8192 x 8192 uint16 in chunks of 1024, window 15, linear
interpolation: as it is stored, shifted by a fraction, turned by 5 and by 15 degrees, and through a displacement field
with a node every 16 pixels. Nobody syncs to disk. ``BIGNCC_BENCHMARK_FOLDER`` says where there is 1 GB of disk.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.end_to_end import MEMORY, THREADS, pair, say

SIDE = int(os.environ.get("BIGNCC_BENCHMARK_SIDE", "8192"))
ROUNDS = int(os.environ.get("BIGNCC_BENCHMARK_ROUNDS", "5"))


def affine(degrees):
    """Return a turn about the middle of the image, as its JSON file."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix, middle = np.array([[c, -s], [s, c]]), np.full(2, (SIDE - 1) / 2)
    return {"kind": "affine", "matrix": matrix.tolist(), "offset": (middle - matrix @ middle).tolist()}


def field():
    """Return smooth displacements by up to 8 pixels at nodes 16 pixels apart."""
    y, x = np.indices((SIDE // 16 + 1,) * 2) / (SIDE // 16)
    return 8 * np.stack([np.sin(2 * np.pi * (x + y)), np.cos(3 * np.pi * x) * np.sin(np.pi * y)])


WAYS = {
    "as stored": None,
    "shifted by (3.3, -4.7)": {"kind": "translation", "offset": [3.3, -4.7]},
    "turned by 5 degrees": affine(5),
    "turned by 15 degrees": affine(15),
    "displacement, step 16": "field.npy",
}


def alone(name, place, *words):
    """Run one way in this process and print what it took."""
    from bigncc import allocator, config, inputs, pipeline, reading

    os.fsync = lambda _: None
    allocator.keep_freed_memory()  # as the command line does
    folder, way, made = Path(place), WAYS[name], []

    class Noted(reading.Decoded):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    inputs.Decoded = Noted
    science = {"model": "none"}
    if isinstance(way, dict):
        (folder / "transform.json").write_text(json.dumps(way))
        science = {"transform": str(folder / "transform.json")}
    elif way is not None:
        science = {"displacement": {"url": str(folder / way), "step": 16}}
    with tempfile.TemporaryDirectory(dir=folder) as out:
        job = {
            "reference": {"url": str(folder / "a.zarr")},
            "moving": {"url": str(folder / "b.zarr")},
            "output": {"url": f"{out}/out", "pyramid": False},
            "window": {"size": 15},
            "registration": science,
            "engine": {"threads": THREADS, "memory": MEMORY},
        }
        ready = pipeline.prepare(config.load([job, *words]))
        begun, spent = time.perf_counter(), time.process_time()
        pipeline.complete(ready)
        facts = {"seconds": time.perf_counter() - begun, "processor": time.process_time() - spent}
    for which, image in zip(("reference", "moving"), made, strict=True):
        facts[which] = image.decoded * math.prod(image.chunks) / SIDE**2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3
    say(json.dumps({**facts, "tiles": ready.job.plan.tile, "peak": peak}))


def measured(name, folder, *words):
    """Return what one way took, in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "alone", name, str(folder), *words]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def main(words):
    """Print a row for each way."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BIGNCC_BENCHMARK_FOLDER")) as place:
        folder = Path(place)
        # a child's peak memory begins with that of its parent, which must stay small
        subprocess.run([sys.executable, "-m", __spec__.name, "make", place], check=True)
        rounds = [{name: measured(name, folder, *words) for name in WAYS} for _ in range(ROUNDS)]
    say(f"{SIDE} x {SIDE} uint16, window 15, {THREADS} threads, {MEMORY}: median (minimum) of {ROUNDS} in turn")
    heads = (
        "moving image",
        "s",
        "of as stored",
        "processor ns per pixel",
        "of as stored",
        "decoded of both",
        "peak MB",
    )
    say(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name in WAYS:
        found = {key: [each[name][key] for each in rounds] for key in ("seconds", "processor", "peak")}
        middle, least = statistics.median(found["seconds"]), min(found["seconds"])
        # in each round, since the machine's speed drifts
        ratios = {
            key: statistics.median(each[name][key] / each["as stored"][key] for each in rounds)
            for key in ("seconds", "processor")
        }
        decoded = f"{rounds[0][name]['reference']:.2f}, {rounds[0][name]['moving']:.2f}"
        per_pixel = statistics.median(found["processor"]) / SIDE**2 * 1e9
        cells = [name, f"{middle:.2f} ({least:.2f})", f"{ratios['seconds']:.2f}"]
        cells += [f"{per_pixel:.1f}", f"{ratios['processor']:.2f}", decoded, f"{max(found['peak']):.0f}"]
        say(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        alone(*sys.argv[2:])
    elif sys.argv[1:2] == ["make"]:
        pair(Path(sys.argv[2]), (SIDE, SIDE), 1024)
        np.save(Path(sys.argv[2]) / "field.npy", field())
    else:
        main(sys.argv[1:])
