"""Everybody's answer to the same question: one registry for the tests against the oracle and for the benchmark.

Each takes two images and an odd window and returns r as float32, as a user of that library would write it. What happens
within a radius of the edge is each one's own. A library that is not installed has no entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import dask.array as da
import numpy as np
import scipy.ndimage
from skimage.metrics import structural_similarity

from bigncc import Window
from bigncc.kernel import lattice, lattice_pivot, local

Filter = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Implementation:
    """A function, its error on textured 8-bit images that is no defect, and the largest image that it is fit for."""

    compute: Callable[[np.ndarray, np.ndarray, int], np.ndarray]
    tolerance: float = 1e-6
    side: int = 4096
    largest: int = 101


def from_means(f: np.ndarray, g: np.ndarray, mean: Filter) -> np.ndarray:
    """Pearson's r by five means, as it is usually written: 0 where a variance is not positive."""
    mean_f, mean_g = mean(f), mean(g)
    variance_f, variance_g = mean(f * f) - mean_f * mean_f, mean(g * g) - mean_g * mean_g
    covariance = mean(f * g) - mean_f * mean_g
    valid = (variance_f > 0) & (variance_g > 0)
    root = np.sqrt(np.where(valid, variance_f * variance_g, 1))
    return np.where(valid, covariance / root, 0).astype(np.float32)


def naive(reference, moving, window):
    """Two loops over patches: the forum's answer, with each patch centred on its pixel."""
    radius = window // 2
    out = np.zeros(reference.shape, np.float32)
    for y in range(radius, reference.shape[0] - radius):
        for x in range(radius, reference.shape[1] - radius):
            patch = slice(y - radius, y + radius + 1), slice(x - radius, x + radius + 1)
            f, g = reference[patch].astype(float), moving[patch].astype(float)
            f, g = f - f.mean(), g - g.mean()
            norm = np.sqrt((f * f).sum() * (g * g).sum())
            out[y, x] = (f * g).sum() / norm if norm else 0
    return out


def scipy_float64(reference, moving, window):
    f, g = reference.astype(np.float64), moving.astype(np.float64)
    return from_means(f, g, lambda image: scipy.ndimage.uniform_filter(image, window))


def integral(reference, moving, window):
    """Sums from integral images in float64."""
    radius = window // 2

    def mean(image):
        total = np.pad(np.pad(image, radius, mode="symmetric").cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        sums = total[window:, window:] - total[:-window, window:] - total[window:, :-window] + total[:-window, :-window]
        return sums / window**2

    return from_means(reference.astype(np.float64), moving.astype(np.float64), mean)


def ssim(reference, moving, window):
    """Structural similarity: another statistic of the same sums."""
    span = float(max(np.ptp(reference), np.ptp(moving)))
    return structural_similarity(reference, moving, win_size=window, full=True, data_range=span)[1].astype(np.float32)


def opencv(kind):
    import cv2

    def compute(reference, moving, window):
        def mean(image):
            return cv2.boxFilter(image, -1, (window, window), borderType=cv2.BORDER_REFLECT)

        return from_means(reference.astype(kind), moving.astype(kind), mean)

    return compute


def opencv_bands(reference, moving, window):
    """OpenCV in float64 on 64 rows at a time, whose temporaries stay in the cache: the best use that was found."""
    rows, radius, compute = reference.shape[0], window // 2, IMPLEMENTATIONS["OpenCV float64"].compute
    out = np.empty(reference.shape, np.float32)
    for top in range(0, rows, 64):
        first, last = max(0, top - radius), min(rows, top + 64 + radius)
        out[top : top + 64] = compute(reference[first:last], moving[first:last], window)[top - first :][:64]
    return out


def dask_image(reference, moving, window):
    from dask_image.ndfilters import uniform_filter

    f, g = (da.from_array(image, chunks=1024).astype(np.float64) for image in (reference, moving))
    mean_f, mean_g = (uniform_filter(image, window) for image in (f, g))
    variance_f, variance_g = (
        uniform_filter(image * image, window) - mean * mean for image, mean in ((f, mean_f), (g, mean_g))
    )
    covariance = uniform_filter(f * g, window) - mean_f * mean_g
    valid = (variance_f > 0) & (variance_g > 0)
    root = da.sqrt(da.where(valid, variance_f * variance_g, 1))
    return da.where(valid, covariance / root, 0).astype(np.float32).compute()


def torch_pool(reference, moving, window):
    import torch

    def mean(image):
        pool = torch.nn.functional.avg_pool2d
        return pool(torch.from_numpy(image)[None, None], window, 1, window // 2)[0, 0].numpy()

    return from_means(reference.astype(np.float32), moving.astype(np.float32), mean)


def bigncc(reference, moving, window):
    """The kernel on one block; status and summary are computed on the way."""
    pivot = tuple(lattice_pivot(image[np.ix_(*lattice(image.shape))]) for image in (reference, moving))
    return local(reference, moving, Window(window), pivot=pivot).ncc


IMPLEMENTATIONS = {
    "naive double loop": Implementation(naive, side=96, largest=31),
    "scipy uniform_filter": Implementation(scipy_float64),
    "numpy integral image": Implementation(integral),
    "scikit-image SSIM": Implementation(ssim, tolerance=np.inf),
}
if find_spec("cv2"):
    IMPLEMENTATIONS["OpenCV float32"] = Implementation(opencv(np.float32), tolerance=1e-2)
    IMPLEMENTATIONS["OpenCV float64"] = Implementation(opencv(np.float64))
    IMPLEMENTATIONS["OpenCV float64, bands"] = Implementation(opencv_bands)
if find_spec("dask_image"):
    IMPLEMENTATIONS["dask-image"] = Implementation(dask_image)
if find_spec("torch"):
    IMPLEMENTATIONS["torch avg_pool2d"] = Implementation(torch_pool, tolerance=1e-2, largest=15)
IMPLEMENTATIONS["bigncc"] = Implementation(bigncc, tolerance=2.0**-24)
