"""``python -m tests.benchmarks.memory [N]``: peak memory of N runs of random geometry against what `plan` promised.

Each run is a process of its own, in two or three dimensions, with chunks that fit nothing, windows from 3 to several
hundred pixels, pulled or as it is, masked or not, plain or sharded. The exit code is 1 if one of them took more.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr

from bigncc import config, pipeline
from bigncc.errors import DoesNotFitError

SCRIPT = Path(sys.executable).with_name("bigncc")


def say(line=""):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def image(path, rng, shape, chunks, dtype):
    """Write noise, chunk row by chunk row."""
    array = zarr.create_array(str(path), shape=shape, chunks=chunks, dtype=dtype, compressors=None)
    for start in range(0, shape[0], chunks[0]):
        part = (min(chunks[0], shape[0] - start), *shape[1:])
        noise = rng.integers(0, 250, part, np.uint8)
        array[start : start + part[0]] = noise.astype(dtype)
    return str(path)


def geometry(rng, folder):
    """Make a random pair; return the words of its run."""
    volume = rng.random() < 0.3
    if volume:
        shape = tuple(int(n) for n in rng.integers((20, 150, 150), (120, 400, 400)))
        chunks = tuple(int(n) for n in rng.integers((1, 30, 30), (64, 200, 200)))
        radius = rng.integers(1, 9, 3)
    else:
        shape = tuple(int(n) for n in rng.integers(1500, 5000, 2))
        chunks = tuple(int(n) for n in rng.integers(100, 1500, 2))
        radius = rng.integers(1, (200, 200)[0] if rng.random() < 0.3 else 20, 2)
    chunks = tuple(min(n, c) for n, c in zip(shape, chunks, strict=True))
    other = tuple(
        min(n, int(c)) for n, c in zip(shape, np.array(chunks) * rng.uniform(0.5, 2, len(shape)) + 1, strict=True)
    )
    kinds = rng.choice(["uint8", "uint16", "float32", "float64"], 2)
    paths = [
        image(folder / f"{k}.zarr", rng, shape, c, d) for k, c, d in zip("ab", (chunks, other), kinds, strict=True)
    ]
    objects = [int(n) for n in (rng.integers(8, 48, 3) if volume else rng.integers(64, 700, 2))]
    words = [
        f"window.size={[int(2 * r + 1) for r in radius]}",
        f"output.chunks={objects}",
        f"engine.memory={int(rng.uniform(420, 1100))}MB",
        f"engine.threads={int(rng.integers(1, 5))}",
    ]
    if rng.random() < 0.3:
        words.append(f"output.shards={[n * int(rng.integers(1, 4)) for n in objects]}")
    if rng.random() < 0.3:
        words.append("moving.nodata=7")
    if rng.random() < 0.5:
        offset = [round(float(x), 2) for x in rng.uniform(-3, 3, len(shape))]
        (folder / "t.json").write_text(f'{{"kind": "translation", "offset": {offset}}}')
        words.append("registration.transform=t.json")
    else:
        words.append("registration.model=none")
    return paths, [*words], f"{shape} {chunks} {' '.join(kinds)} {' '.join(words)}"


def peak(folder, words):
    """Run the command line in a process of its own; return its peak resident memory."""
    process = subprocess.Popen([SCRIPT, "run", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        message = f"{words}: {process.stderr.read().decode()}"
        raise SystemExit(message)
    process.stderr.close()
    process.returncode = 0
    return usage.ru_maxrss * 1024


def main(count):
    rng = np.random.default_rng(0)
    found, refused = [], 0
    here = Path.cwd()
    while len(found) < count:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            paths, words, text = geometry(rng, folder)
            os.chdir(folder)  # the transform's path is relative
            sections = [{name: {"url": path}} for name, path in zip(("reference", "moving"), paths, strict=True)]
            try:
                estimate = pipeline.plan(config.load([*sections, {"output": {"url": "out"}}, *words]))
            except DoesNotFitError:
                refused += 1
                continue
            finally:
                os.chdir(here)
            taken = peak(folder, [*paths, "out", *words])
            found.append((taken / estimate.memory, taken / estimate.memory_limit))
            if found[-1][0] > 1 or "-v" in sys.argv:
                say(f"{found[-1][0]:.3f} of {estimate.memory / 1e6:.0f} MB projected: {text}")
    for name, shares in zip(("projected", "allowed"), zip(*found, strict=True), strict=True):
        numbers = ", ".join(
            f"{word} {of(shares):.3f}"
            for word, of in (("minimum", min), ("median", statistics.median), ("maximum", max))
        )
        say(f"peak memory / {name} over {count} geometries: {numbers}")
    say(f"{refused} geometries were refused beforehand")
    return max(share for share, _ in found) > 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
