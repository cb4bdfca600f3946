"""``python -m tests.benchmarks.shift [time] [field]``: what the shift map costs, and how well it finds a planted field.

Times are what one thread computes, in nanoseconds per pixel of the image; without words both parts run, which takes
half a minute.
"""

import sys
import time

import numpy as np
from scipy import ndimage

import bigncc
from bigncc import Window, shift
from tests import scenes
from tests.benchmarks.kernel import pair, say

SIDE = 1500
ROUNDS = 5


def once(f, g, window, radius, step, **validity):
    """Seconds that a thread computes for one search."""
    nodes = tuple(range((step - 1) // 2, n, step) for n in f.shape)
    start = time.thread_time()
    shift.local(f, g, Window((window,) * f.ndim), (radius,) * f.ndim, nodes, **validity)
    return time.thread_time() - start


def timed():
    """Print the table of times."""
    say(f"{SIDE} x {SIDE}, one thread, ns per pixel, minimum / median of {ROUNDS}\n")
    say("| dtype | window and step | search radius | samples | ns per pixel |")
    say("|---|---|---|---|---|")
    cases = [(dtype, 15, 8, masked) for dtype in ("uint8", "uint16", "float32") for masked in (False, True)]
    cases += [("uint16", 15, 4, False), ("uint16", 15, 16, False), ("uint16", 31, 8, False), ("uint16", 7, 8, False)]
    for dtype, window, radius, masked in cases:
        f, g = pair(dtype, (SIDE, SIDE))
        holes = np.random.default_rng(0).random(f.shape) > 0.3
        validity = {"reference_validity": holes.astype(np.uint8)} if masked else {}
        once(f[:100, :100], g[:100, :100], window, radius, window)
        found = np.array([once(f, g, window, radius, window, **validity) for _ in range(ROUNDS)]) * 1e9 / f.size
        samples = "30 % invalid" if masked else "all valid"
        say(f"| {dtype} | {window} | {radius} | {samples} | {found.min():.0f} / {np.median(found):.0f} |")
    volume = tuple(np.random.default_rng(seed).integers(0, 60000, (64,) * 3).astype("uint16") for seed in (1, 2))
    found = np.array([once(*volume, 9, 4, 9) for _ in range(ROUNDS)]) * 1e9 / volume[0].size
    say(f"| uint16, 64^3 | 9 | 4 | all valid | {found.min():.0f} / {np.median(found):.0f} |")


def planted(shape, seed=5, noise=0.2):
    """A pair of uint16 images and the smooth field, up to 3 pixels, by which one is displaced against the other."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    field = np.stack([3 * np.sin(y / 143) * np.cos(x / 175), 2.5 * np.cos(y / 207 + 0.5) * np.sin(x / 127)])
    # the sample at q is the scene's at p, where p + field(p) = q
    p = np.stack([y, x])
    for _ in range(20):
        p = np.stack([y, x]) - [ndimage.map_coordinates(each, p, order=1, mode="nearest") for each in field]
    scene = scenes.scene(seed, tuple(n + 40 for n in shape), 1.5)
    rng = np.random.default_rng(seed)
    views = scene[20:-20, 20:-20], ndimage.map_coordinates(scene, p + 20, order=5)
    f, g = (view + noise * rng.standard_normal(shape) for view in views)
    return np.round(20000 + 1500 * f).astype("uint16"), np.round(9000 + 900 * g).astype("uint16"), field


def error(shape, window=15, **options):
    """RMS length of the error, RMS of the uncertainty that is told, and the share of nodes with one."""
    f, g, field = planted(shape, **options)
    found = bigncc.shift_map(f, g, window)
    first = (window - 1) // 2
    wanted = field[:, first::window, first::window]
    off, told = np.hypot(found["shift_y"] - wanted[0], found["shift_x"] - wanted[1]), found["shift_uncertainty"]
    sure = np.isfinite(told)
    return np.sqrt((off[sure] ** 2).mean()), np.sqrt((told[sure].astype(float) ** 2).mean()), sure.mean()


def field():
    """Print how well a planted field is found."""
    say(f"\n{SIDE} x {SIDE} uint16, a smooth field of up to 3 pixels, search radius 8\n")
    say("| window and step | noise / texture | RMS error, pixels | RMS uncertainty | nodes with an answer |")
    say("|---|---|---|---|---|")
    for window, noise in ((15, 0.1), (15, 0.2), (15, 0.4), (31, 0.2), (31, 0.4)):
        off, told, share = error((SIDE, SIDE), window, noise=noise)
        say(f"| {window} | {noise} | {off:.3f} | {told:.3f} | {100 * share:.2f} % |")


if __name__ == "__main__":
    for name in sys.argv[1:] or ("time", "field"):
        {"time": timed, "field": field}[name]()
