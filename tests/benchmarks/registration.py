"""How far estimated transforms are off, what is refused, and what a registration of a large pair takes.

Each part prints its own lines: ``python -m tests.benchmarks.registration [shifts] [models] [unrelated] [aligned]
[motorcycle] [large] [pyramid]``.
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
from scipy.ndimage import map_coordinates
from skimage import data

from bigncc import local_maps, pipeline, variants
from bigncc.errors import InputError, RegistrationError
from bigncc.registration import MODELS, estimate
from bigncc.transform import Affine, Displacement, Translation, compose
from tests import pairs, scenery, scenes

SHAPE = (3000, 3000)
BLURS = (0.7, 1.5, 3.0)
NOISE = 0.3
LARGE = 16384
LEVELS = 6


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
            own.append(off(estimate(*lazy(*scenes.pair(number, SHAPE, sigma, offset, noise=NOISE))), offset))
        say(f"blur {sigma}: {' '.join(f'{error:.4f}' for error in own)}")
        errors += own
    say(f"{len(errors)} shifts: median error {np.median(errors):.4f} px, worst {max(errors):.4f} px")


def models():
    """50 random transforms of each model of photographs, enlarged and noised, without and with a fifth masked."""
    side = 1500
    for model in ("translation", "rigid", "similarity", "affine"):
        for masked in (0.0, 0.2):
            errors, unsure = [], []
            for seed in range(50):
                true = scenery.transform(seed, model, side)
                views = lazy(*scenery.pair(seed, true, side, masked=masked))
                try:
                    found = estimate(*views, model)
                except RegistrationError as refusal:
                    say(f"{model} {seed}: {refusal.reason}")
                    continue
                errors.append(scenery.corner_error(found.measured, true, side))
                unsure.append(np.hypot(*found.uncertainty))
            share = 100 * np.mean(np.array(errors) <= unsure)
            say(
                f"{model}, {100 * masked:.0f} % masked: {len(errors)} of 50 found, error at the corners median "
                f"{np.median(errors):.4f} px, worst {max(errors):.4f}; {share:.0f} % within the uncertainty"
            )


def refused(pairs_of_images, model="translation"):
    """Count refusals; say what was accepted."""
    count = total = 0
    for name, first, second in pairs_of_images:
        total += 1
        try:
            say(f"accepted: {name}: {estimate(*lazy(first, second), model)}")
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
    two = [*combinations(grey, 2)][:100]
    for model in MODELS:
        say(f"photographs, {model}: {refused(((f'{a}, {b}', grey[a], grey[b]) for a, b in two), model)}")
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


def motorcycle():
    """The stereo pair: as it is, pulled through an estimated displacement, and through the measured one."""
    left, right, disparity = data.stereo_motorcycle()
    first, second = (np.round(view @ (0.299, 0.587, 0.114)).astype(np.uint8) for view in (left, right))
    truth = np.stack([np.where(np.isfinite(disparity), 0.0, np.nan), -disparity])
    begin = time.monotonic()
    found = estimate(*lazy(first, second), "displacement")
    say(f"displacement estimated in {time.monotonic() - begin:.1f} s: {found.votes}")
    for name, transform in (("as it is", None), ("estimated", found), ("measured", Displacement(truth))):
        maps = local_maps(first, second, 9, transform=transform)
        valid = maps["status"] == 1
        say(f"{name}: mean NCC {maps['ncc'][valid].mean():.3f} of {100 * valid.mean():.1f} % of the pixels")
    for name, field in (("given", truth), ("swapped", truth[::-1]), ("negated", -truth)):
        try:
            variants.check(*lazy(first, second), Displacement(field), None)
            say(f"{name}: accepted")
        except InputError as refusal:
            say(f"{name}: refused: {refusal}")


def write_large(folder, offset, side=LARGE):
    """Write one scene for each band of rows, so that the whole is never in memory."""
    images = [
        zarr.create_array(f"{folder}/{name}.zarr", shape=(side, side), chunks=(1024, 1024), dtype="uint16")
        for name in "ab"
    ]
    for start in range(0, side, 2048):
        band = scenes.scene([start, 7], (2048, side + 200), 1.5)
        rng = np.random.default_rng(start)
        for image, (y, x), gain in zip(images, ((0, 100), (offset[0], 100 - offset[1])), (1500, 900), strict=True):
            part = band[: min(2048, side - start - y), x : x + side]
            noise = NOISE * rng.standard_normal(part.shape, dtype=np.float32)
            image[start + y : start + y + len(part)] = (9000 + gain * (part + noise)).astype(np.uint16)


def write_turned(folder, side):
    """Write one photograph, enlarged, and the same seen through an affine transform, each with its pyramid."""
    image = scenery.photograph("gravel")
    zoom = (min(image.shape) - 24) / side
    turn = compose(Affine(((1.02, 0.09), (-0.1, 0.99)), (0.0, 0.0)), Translation((-side / 2, -side / 2)))
    true = compose(Translation((side / 2 + 57.3, side / 2 - 91.6)), turn)
    for name, back in (("a", None), ("b", true.inverse())):
        group = zarr.create_group(f"{folder}/{name}.ome.zarr", attributes=multiscales(side))
        arrays = [
            group.create_array(str(k), shape=(side >> k,) * 2, chunks=(1024,) * 2, dtype="uint16")
            for k in range(LEVELS)
        ]
        rng = np.random.default_rng(ord(name))
        for start in range(0, side, 1024):
            rows, columns = np.arange(start, start + 1024)[:, None], np.arange(side)[None]
            matrix, offset = (np.eye(2), (0, 0)) if back is None else (np.array(back.matrix), back.offset)
            where = [12 + zoom * (m[0] * rows + m[1] * columns + b) for m, b in zip(matrix, offset, strict=True)]
            # finer than the photograph: its own texture, tiled, at the scale of the pixels
            fine = [np.mod(w / zoom / 8, min(image.shape) - 2) for w in where]
            part = sum(map_coordinates(image, at, order=1, mode="reflect") for at in (where, fine))
            part = (5000 + 30 * part + 300 * rng.standard_normal(part.shape)).astype(np.uint16)
            for k, array in enumerate(arrays):
                small = part.reshape(1024 >> k, 1 << k, side >> k, 1 << k).mean((1, 3))
                array[start >> k : (start + 1024) >> k] = small.astype(np.uint16)
    return true


def multiscales(side):
    """Return what OME-Zarr wants of a pyramid of two axes."""
    axes = [{"name": name, "type": "space"} for name in "yx"]
    steps = [
        [{"type": "scale", "scale": [2.0**k] * 2}, {"type": "translation", "translation": [(2**k - 1) / 2] * 2}]
        for k in range(LEVELS)
    ]
    datasets = [{"path": str(k), "coordinateTransformations": step} for k, step in enumerate(steps)]
    return {"ome": {"version": "0.5", "multiscales": [{"name": "scene", "axes": axes, "datasets": datasets}]}}


def apart(function, *words):
    """Call a function in a process of its own: a process inherits the peak of the one that starts it."""
    maker = get_context("spawn").Process(target=function, args=words)
    maker.start()
    maker.join()
    assert maker.exitcode == 0


def registered(folder, suffix, *words):
    """Register a pair in a process of its own; say what it took."""
    begin = time.monotonic()
    paths = (f"{folder}/{name}{suffix}" for name in "ab")
    command = (Path(sys.executable).with_name("bigncc"), "register", *paths, *words)
    done = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = done.stdout.read()
    _, status, usage = os.wait4(done.pid, 0)
    assert status == 0
    say(f"{time.monotonic() - begin:.1f} s, peak RSS {usage.ru_maxrss / 1e3:.0f} MB\n{said}")


def large():
    """A pair of 16384 x 16384 pixels without a pyramid."""
    with tempfile.TemporaryDirectory() as folder:
        offset = (57, -91)
        apart(write_large, folder, offset)
        say(f"offset {offset}")
        registered(folder, ".zarr")


def pyramid():
    """A pair of 32768 x 32768 pixels with a pyramid, turned and stretched."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BIGNCC_BENCHMARK_FOLDER")) as folder:
        apart(write_turned, folder, 32768)
        for model in ("affine", "displacement"):  # no rigid one stretches along one axis
            say(f"{model} of 32768 x 32768 with a pyramid:")
            registered(folder, ".ome.zarr", f"registration.model={model}", "engine.memory=1GB")


if __name__ == "__main__":
    parts = {part.__name__: part for part in (shifts, models, unrelated, aligned, motorcycle, large, pyramid)}
    for part in sys.argv[1:] or parts:
        parts[part]()
