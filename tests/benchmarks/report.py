"""``python -m tests.benchmarks.report [SIDE]``: time, memory and size of the report of a large result.

The pair is uint16, the moving image shifted by a part of a pixel and changed in some places. Both are stored with
their levels, and again without any.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from scipy import ndimage

SCRIPT = Path(sys.executable).with_name("bigncc")
CHUNK = 1024


def image(path, tile, side, changed, *, levels):
    """Write a mosaic of a tile as OME-Zarr, some of whose chunks show something else."""
    group = zarr.create_group(str(path))
    sides = [side >> k for k in range(5 if levels else 1)]
    for k, n in enumerate(sides):
        array = group.create_array(str(k), shape=(n, n), chunks=(CHUNK, CHUNK), dtype="uint16")
        small = tile.reshape(CHUNK >> k, 1 << k, CHUNK >> k, 1 << k).mean(axis=(1, 3)).astype(np.uint16)
        for row in range(0, side, CHUNK):
            cells = [small[::-1] if (row // CHUNK, c) in changed else small for c in range(side // CHUNK)]
            array[row >> k : (row + CHUNK) >> k] = np.concatenate(cells, axis=1)
    scales = [{"type": "scale", "scale": [float(1 << k)] * 2} for k in range(len(sides))]
    moves = [{"type": "translation", "translation": [((1 << k) - 1) / 2] * 2} for k in range(len(sides))]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": name, "type": "space"} for name in "yx"],
                "datasets": [
                    {"path": str(k), "coordinateTransformations": [*each]}
                    for k, each in enumerate(zip(scales, moves, strict=True))
                ],
            }
        ],
    }


def timed(*words):
    """Run the command line; return seconds and megabytes of its process."""
    start = time.perf_counter()
    child = subprocess.Popen([str(SCRIPT), *map(str, words)], stdout=subprocess.DEVNULL)
    _, code, usage = os.wait4(child.pid, 0)
    child.returncode = code
    assert code == 0
    return time.perf_counter() - start, usage.ru_maxrss / 1000


def main(side):
    rng = np.random.default_rng(1)
    tile = ndimage.gaussian_filter(rng.standard_normal((CHUNK, CHUNK)), 2, mode="wrap")
    other = ndimage.shift(tile, (0.4, -2.7), order=3, mode="grid-wrap")
    first, second = ((20000 + 60000 * each).clip(0, 65535).astype(np.uint16) for each in (tile, other))
    sys.stdout.write("| result | images | report, s | peak, MB | page, MB |\n|---|---|---|---|---|\n")
    for levels in (True, False):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            image(folder / "a.zarr", first, side, (), levels=levels)
            image(folder / "b.zarr", second, side, {(3, 5), (9, 2), (9, 3)}, levels=levels)
            paths = folder / "a.zarr", folder / "b.zarr", folder / "out.zarr"
            timed("run", *paths, "--window", 31)
            seconds, memory = timed("report", folder / "out.zarr")
            size = (folder / "out.html").stat().st_size / 1e6
            kind = "with levels" if levels else "one level each"
            row = f"{side} x {side}", kind, f"{seconds:.1f}", f"{memory:.0f}", f"{size:.2f}"
            sys.stdout.write(f"| {' | '.join(row)} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 16384)
