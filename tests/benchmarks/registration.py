"""How far estimated shifts are off, what is refused, and what a registration of a large pair takes.

Each part prints its own lines: ``python -m tests.benchmarks.registration [shifts] [unrelated] [aligned] [large]``.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from skimage import data

from bigncc import pipeline
from bigncc.errors import RegistrationError
from bigncc.registration import translation
from tests import pairs, scenes

SHAPE = (3000, 3000)
BLURS = (0.7, 1.5, 3.0)
NOISE = 0.3
LARGE = 16384


def say(text):
    sys.stdout.write(f"{text.rstrip()}\n")
    sys.stdout.flush()


def lazy(*images):
    return (da.from_array(image, chunks=1024) for image in images)


def off(found, offset):
    return float(np.abs(np.subtract(found.transform.offset, offset)).max())


def shifts():
    """20 random shifts for each blur, other gain and offset, noise of 0.3 standard deviations in both images."""
    errors = []
    for sigma in BLURS:
        own = []
        for seed in range(20):
            number = 1000 * int(10 * sigma) + seed
            offset = scenes.offset(number, 400)
            own.append(off(translation(*lazy(*scenes.pair(number, SHAPE, sigma, offset, noise=NOISE))), offset))
        say(f"blur {sigma}: {' '.join(f'{error:.4f}' for error in own)}")
        errors += own
    say(f"{len(errors)} shifts: median error {np.median(errors):.4f} px, worst {max(errors):.4f} px")


def refused(pairs_of_images):
    """Count refusals; say what was accepted."""
    count = total = 0
    for name, first, second in pairs_of_images:
        total += 1
        try:
            say(f"accepted: {name}: {translation(*lazy(first, second))}")
        except RegistrationError:
            count += 1
    return f"{count} of {total} refused"


def unrelated():
    """Scenes of other seeds, photographs of other things, and small scenes, by which the limits were chosen."""
    kinds = [(seed, BLURS[seed % 3]) for seed in range(50)]
    views = ((seed, *(scenes.scene([seed, i], SHAPE, sigma) for i in (0, 1))) for seed, sigma in kinds)
    say(f"unrelated scenes of 3000 x 3000: {refused(views)}")
    named = {
        name: getattr(data, name)() for name in ("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins")
    }
    named |= {name: getattr(data, name)() for name in ("grass", "gravel", "hubble_deep_field", "immunohistochemistry")}
    named |= {name: getattr(data, name)() for name in ("moon", "page", "retina", "rocket", "text", "horse", "clock")}
    grey = {name: np.asarray(p, float) if p.ndim == 2 else p[..., :3].mean(-1) for name, p in named.items()}
    for side in (None, 200, 120):
        cut = {name: photo if side is None else photo[50 : 50 + side, 60 : 60 + side] for name, photo in grey.items()}
        photos = ((f"{a}, {b}", cut[a], cut[b]) for a, b in combinations(cut, 2))
        say(f"photographs{'' if side is None else f' of {side} x {side}'}: {refused(photos)}")
    for side in (64, 128, 300):
        small = (
            (f"{sigma} {seed}", *(scenes.scene([seed, i], (side, side), sigma) for i in (0, 1)))
            for sigma in (*BLURS, 6.0) for seed in range(25)
        )  # fmt: skip
        say(f"unrelated scenes of {side} x {side}: {refused(small)}")


def aligned():
    """Pairs that lie on each other: the identity, and the same map as with --as-is."""
    for seed in range(10):
        images = scenes.pair(7000 + seed, SHAPE, BLURS[seed % 3], (0, 0), noise=NOISE)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            paths = [pairs.store(folder / part, image, (500, 500)) for part, image in zip("ab", images, strict=True)]
            large = "output.chunks=[1024, 1024]"
            result = pipeline.run(pairs.job(*paths, folder / "registered", "registration.model=translation", large))
            pipeline.run(pairs.job(*paths, folder / "as-is", large))
            pairs.same(pairs.maps(folder / "registered"), pairs.maps(folder / "as-is"))
        say(f"{result.headline}; the map is that of --as-is to the bit")


def write_large(folder, offset):
    """Write one scene for each band of rows, so that the whole is never in memory."""
    images = [
        zarr.create_array(f"{folder}/{name}.zarr", shape=(LARGE, LARGE), chunks=(1024, 1024), dtype="uint16")
        for name in "ab"
    ]
    for start in range(0, LARGE, 2048):
        band = scenes.scene([start, 7], (2048, LARGE + 200), 1.5)
        rng = np.random.default_rng(start)
        for image, (y, x), gain in zip(images, ((0, 100), (offset[0], 100 - offset[1])), (1500, 900), strict=True):
            part = band[: min(2048, LARGE - start - y), x : x + LARGE]
            noise = NOISE * rng.standard_normal(part.shape, dtype=np.float32)
            image[start + y : start + y + len(part)] = (9000 + gain * (part + noise)).astype(np.uint16)


def large():
    """A pair of 16384 x 16384 pixels without a pyramid, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        offset = (57, -91)
        # a process inherits the peak of the one that starts it
        maker = get_context("spawn").Process(target=write_large, args=(folder, offset))
        maker.start()
        maker.join()
        begin = time.monotonic()
        words = (Path(sys.executable).with_name("bigncc"), "register", f"{folder}/a.zarr", f"{folder}/b.zarr")
        done = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        said = done.stdout.read()
        _, status, usage = os.wait4(done.pid, 0)
        assert status == 0
        say(f"offset {offset}: {time.monotonic() - begin:.1f} s, peak RSS {usage.ru_maxrss / 1e3:.0f} MB\n{said}")


if __name__ == "__main__":
    parts = {part.__name__: part for part in (shifts, unrelated, aligned, large)}
    for part in sys.argv[1:] or parts:
        parts[part]()
