"""``python -m tests.benchmarks.prefilters [time] [shading]``: what prefilters and the confidence map cost, and do.

Times are what one thread computes, in nanoseconds per pixel of one image; without words both parts run, which takes
half a minute.
"""

import sys
import time

import numpy as np
from scipy import ndimage

import bigncc
from bigncc import Prefilter
from bigncc.confidence import confidence
from bigncc.filtering import filtered
from bigncc.kernel import Pivot
from tests import scenes
from tests.benchmarks.kernel import pair, say

SIDE = 1500
ROUNDS = 5
LOG, DOG, STD = "laplacian_of_gaussian", "difference_of_gaussians", "local_standardisation"


def spent(task):
    """Nanoseconds that a thread computes, minimum and median of some rounds after a first one."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.thread_time()
        task()
        times.append((time.thread_time() - start) * 1e9)
    return np.array([min(times[1:]), np.median(times[1:])])


def standardised(smooth, f):
    """What people write."""
    mean = smooth(f)
    return (f - mean) / np.sqrt(smooth(f * f) - mean**2)


CASES = (
    (Prefilter(LOG, sigma=1), lambda f: ndimage.gaussian_laplace(f, 1)),
    (Prefilter(LOG, sigma=3), lambda f: ndimage.gaussian_laplace(f, 3)),
    (Prefilter(DOG, sigma=1.5), lambda f: ndimage.gaussian_filter(f, 1.5) - ndimage.gaussian_filter(f, 2.4)),
    (Prefilter(STD, sigma=5), lambda f: standardised(lambda a: ndimage.gaussian_filter(a, 5), f)),
    (Prefilter(STD, size=15), lambda f: standardised(lambda a: ndimage.uniform_filter(a, 15), f)),
)


def timed():
    """Print the table of times."""
    f, _ = pair("uint16", (SIDE, SIDE))
    g = pair("uint16", (SIDE // 20, 170, 170))[0]
    holes = (np.random.default_rng(0).random(f.shape) > 0.3).astype(np.uint8)
    say(f"uint16, one thread, ns per pixel of one image, minimum / median of {ROUNDS}\n")
    say("| prefilter | all valid | 30 % invalid | scipy, all valid | volume, all valid |")
    say("|---|---|---|---|---|")
    for prefilter, rival in CASES:

        def ours(image, codes, prefilter=prefilter):
            return filtered(image, codes, prefilter, tuple(slice(0, n) for n in image.shape), Pivot(20000.0))

        double = f.astype(np.float64)
        found = [spent(lambda: ours(f, None)), spent(lambda: ours(f, holes)), spent(lambda: rival(double))]  # noqa: B023
        cells = [each / f.size for each in found] + [spent(lambda: ours(g, None)) / g.size]
        how = f"size {prefilter.size}" if prefilter.size else f"sigma {prefilter.sigma}"
        say(f"| {prefilter.kind}, {how} | {' | '.join(f'{a:.1f} / {b:.1f}' for a, b in cells)} |")
    maps = bigncc.local_maps(*pair("uint16", (SIDE, SIDE)), 15)
    core = tuple(slice(0, n) for n in f.shape)
    a, b = spent(lambda: confidence(maps["ncc"], maps["status"], core, (7, 7))) / f.size
    say(f"\nconfidence, window 15: {a:.1f} / {b:.1f} ns per pixel of the map")


def shading():
    """Print the correlation of unrelated and of related images that are lit by the same uneven lamp."""
    y, x = np.mgrid[:600, :600] / 600 * 4 * np.pi
    lamp = 6000 * np.cos(y) * np.cos(x)
    first, second = scenes.pair(3, lamp.shape, 1.0, (0.0, 0.0), noise=0.5)
    other = scenes.scene(4, lamp.shape, 1.0) * 900 + 9000
    say("\n600 x 600, the same uneven light on both images, window 31: median NCC\n")
    say("| prefilter | unrelated | related |")
    say("|---|---|---|")
    for prefilter in (Prefilter(), Prefilter(LOG, sigma=1.5), Prefilter(DOG, sigma=1.5), Prefilter(STD, size=15)):
        found = (np.median(bigncc.ncc(first + lamp, g + lamp, 31, prefilter=prefilter)) for g in (other, second))
        say(f"| {prefilter.kind} | {' | '.join(f'{r:.2f}' for r in found)} |")


if __name__ == "__main__":
    for name in sys.argv[1:] or ("time", "shading"):
        {"time": timed, "shading": shading}[name]()
