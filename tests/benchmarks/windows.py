"""``python -m tests.benchmarks.windows``: what other windows than boxes cost, in less than a minute.

Gaussian windows beside OpenCV and scipy, and a disk beside OpenCV: five filters of float64 images each, as their users
would write it. What is compared runs in turn in one process on one thread; times are nanoseconds per pixel, the minimum
of the rounds, and in brackets the ratio to ours.
"""

import sys
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter

from bigncc import Window
from bigncc.kernel import lattice_pivot, local
from bigncc.weights import gaussian_size
from tests.benchmarks.kernel import interleaved, pair, say, threads
from tests.implementations import from_means

PLANE = (768, 768)
VOLUME = (40, 96, 96)
DTYPES = ("uint8", "uint16", "float32")


def ours(window, dtype, shape):
    """The kernel on one block, with status and summary."""
    f, g = pair(dtype, shape)
    return partial(local, f, g, window, pivot=(lattice_pivot(f), lattice_pivot(g)))


def theirs(mean, shape):
    """Five filters."""
    f, g = (image.astype(np.float64) for image in pair("float32", shape))
    return partial(from_means, f, g, mean)


def opencv_gaussian(sigma):
    import cv2

    size = gaussian_size((sigma,), 3.5) * 2
    return lambda image: cv2.GaussianBlur(image, size, sigma, borderType=cv2.BORDER_REFLECT)


def opencv_table(window):
    import cv2

    mass = window.table.array / window.table.array.sum()
    return lambda image: cv2.filter2D(image, -1, mass, borderType=cv2.BORDER_REFLECT)


def row(name, window, others, shape, rounds):
    """Time a window on all dtypes, and others on float64."""
    tasks = {dtype: ours(window, dtype, shape) for dtype in DTYPES}
    tasks |= {other: theirs(mean, shape) for other, mean in others.items()}
    times = {
        key: each.min() / np.prod(shape) * 1e9
        for key, each in zip(tasks, interleaved(list(tasks.values()), rounds), strict=True)
    }
    cells = [f"{times[dtype]:.1f}" for dtype in DTYPES]
    cells += [
        f"{times[other]:.0f} ({times[other] / times['float32']:.1f}x)" if other in times else "-"
        for other in ("OpenCV", "scipy")
    ]
    say(f"| {name} | " + " | ".join(cells) + " |")


def main():
    """Print the table."""
    threads(1)
    say(f"| window | {' | '.join(DTYPES)} | OpenCV float64 | scipy float64 |\n|---|---|---|---|---|---|")
    for sigma in (1.5, 3.0):
        window = Window(weights="gaussian", sigma=sigma)
        scipy = partial(gaussian_filter, sigma=sigma, truncate=3.5)
        others = {"OpenCV": opencv_gaussian(sigma), "scipy": scipy}
        row(f"Gaussian, sigma {sigma:g}, {window.shape[0]}^2", window, others, PLANE, 3)
        volume = Window(weights="gaussian", sigma=(sigma,) * 3)
        row(f"Gaussian, sigma {sigma:g}, {window.shape[0]}^3", volume, {"scipy": scipy}, VOLUME, 2)
    disk = Window(31, weights="footprint", footprint="disk")
    row("disk of radius 15", disk, {"OpenCV": opencv_table(disk)}, PLANE, 3)
    table = Window(weights="footprint", footprint=np.random.default_rng(0).random((9, 9)) + 0.1)
    row("any 9 x 9 weights", table, {"OpenCV": opencv_table(table)}, PLANE, 3)
    ball = Window((11, 11, 11), weights="footprint", footprint="ball")
    row("ball of radius 5", ball, {}, VOLUME, 2)
    row("box, 31 x 31", Window(31), {}, PLANE, 3)


if __name__ == "__main__":
    sys.exit(main())
