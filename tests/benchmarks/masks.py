"""``python -m tests.benchmarks.masks [SIDE]``: a whole run with three tenths of the samples left out, and without.

Pairs of SIDE x SIDE (8192) uint16 as they are stored, window 15, two threads, each run in a process of its own, in
turn. ``regions``: a mask of both images that leaves out coherent parts, as background does. ``coarse``: the same at an
eighth of the resolution, by its scales. ``scattered``: sample by sample. ``nodata``: a grey level in the images
themselves.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from tests.benchmarks.end_to_end import pair, say, smooth

ROUNDS = 3
SHARE = 0.3
WAYS = ("none", "regions", "coarse", "scattered", "nodata")


def made(folder, side):
    """Write a pair, its masks and its like with a grey level for what is left out."""
    pair(folder, (side, side), 1024)
    scene = smooth(1024, 20)
    out = np.tile(scene < np.quantile(scene, SHARE), (side // 1024, side // 1024))
    coarse = out[4::8, 4::8]
    masks = {"regions": ~out, "coarse": ~coarse, "scattered": np.random.default_rng(2).random((side, side)) > SHARE}
    for name, mask in masks.items():
        scale = 8.0 if name == "coarse" else 1.0
        steps = [{"type": "scale", "scale": [scale, scale]}]
        steps.append({"type": "translation", "translation": [(scale - 1) / 2] * 2})
        document = {"name": name, "axes": [{"name": axis, "type": "space"} for axis in "yx"]}
        document["datasets"] = [{"path": "0", "coordinateTransformations": steps}]
        group = zarr.create_group(str(folder / name), attributes={"ome": {"version": "0.5", "multiscales": [document]}})
        chunks = tuple(min(1024, n) for n in mask.shape)
        group.create_array("0", data=mask.astype("u1"), chunks=chunks)
    for name in ("a", "b"):
        image = zarr.open_array(str(folder / f"{name}.zarr"), mode="r")
        calibrated(folder / name, image[...])
        calibrated(folder / f"{name}-nodata", np.where(out, 0, image[...]))


def calibrated(path, samples):
    steps = [{"type": "scale", "scale": [1.0, 1.0]}]
    document = {"name": path.name, "axes": [{"name": axis, "type": "space"} for axis in "yx"]}
    document["datasets"] = [{"path": "0", "coordinateTransformations": steps}]
    group = zarr.create_group(str(path), attributes={"ome": {"version": "0.5", "multiscales": [document]}})
    group.create_array("0", data=samples.astype("u2"), chunks=(1024, 1024))


def alone(folder, way):
    """Run one way in this process; print its seconds."""
    from bigncc import allocator, config, pipeline

    allocator.keep_freed_memory()
    os.fsync = lambda _: None
    end = "-nodata" if way == "nodata" else ""
    sections = {"reference": {"url": f"{folder}/a{end}"}, "moving": {"url": f"{folder}/b{end}"}}
    for section in sections.values():
        if way == "nodata":
            section["nodata"] = 0
        elif way != "none":
            section["mask"] = {"url": f"{folder}/{way}"}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        science = {"registration": {"model": "none"}, "window": {"size": 15}}
        engine = {"threads": 2, "memory": "1GB"}
        output = {"url": f"{place}/out", "pyramid": False}
        begun = time.perf_counter()
        ready = pipeline.prepare(config.load([sections, science, {"output": output, "engine": engine}]))
        pipeline.rehearse(ready)  # what is compiled is loaded
        start, spent = time.perf_counter(), sum(os.times()[:2])
        result = pipeline.complete(ready)
        found = {"seconds": time.perf_counter() - start, "processor": sum(os.times()[:2]) - spent}
        found["prepare"] = start - begun
    say(json.dumps({**found, "valid": result.summary.valid / result.summary.pixels}))


def main(side):
    with tempfile.TemporaryDirectory(dir=os.environ.get("BIGNCC_BENCHMARK_FOLDER")) as place:
        made(Path(place), side)
        rounds = []
        for _ in range(ROUNDS):
            command = [sys.executable, "-m", __spec__.name, "alone", place]
            runs = {way: subprocess.run([*command, way], check=True, capture_output=True, text=True) for way in WAYS}
            rounds.append({way: json.loads(run.stdout.splitlines()[-1]) for way, run in runs.items()})
        say(f"{side} x {side}, {SHARE:.0%} of the samples left out, median of {ROUNDS} in turn:")
        heads = ("left out", "s", "of none", "processor s", "of none", "before it, s", "pixels with a value")
        say(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        middle = {
            way: {key: statistics.median(found[way][key] for found in rounds) for key in rounds[0][way]} for way in WAYS
        }
        for way, found in middle.items():
            cells = [f"{found[key]:.2f} | {found[key] / middle['none'][key]:.2f}" for key in ("seconds", "processor")]
            say(f"| {way} | {' | '.join(cells)} | {found['prepare']:.1f} | {found['valid']:.0%} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        alone(*sys.argv[2:])
    else:
        main(int((sys.argv[1:] or ["8192"])[0]))
