"""Spearman's rank correlation of the windows of a block."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.errors import InputError
from bigncc.ranking import rank
from bigncc.window import Window

Array = NDArray[Any]

LARGEST = 2**10
"""Samples of a window: each is compared with each."""

STRIP = 1024
"""Windows at a time."""


def check_small(window: Window) -> None:
    """Raise InputError if the samples of a window are too many to be compared with each other."""
    if (n := math.prod(window.shape)) > LARGEST:
        message = f"maps has spearman and window.size {list(window.shape)} has {n} samples: at most {LARGEST} "
        message += "are accepted with it"
        raise InputError(message)


def spearman(
    f: Array, g: Array, joint: Array | None, roi: tuple[int, ...], window: Window, status: Array
) -> NDArray[np.float32]:
    """Return the rank correlation of the windows of a block's core.

    Parameters
    ----------
    f, g : ndarray, ``[z, y, x]``
        Samples in any dtype that keeps their order.
    joint : ndarray of uint8 or None
        1 where both are valid; None where they are everywhere.
    roi : tuple of int
        First and last pixel of the core along each axis.
    window : Window
        Its size, at most `LARGEST` samples; where it leaves the block it is cut.
    status : ndarray of uint8, ``[z, y, x]``
        Of the core.

    Returns
    -------
    ndarray of float32, ``[z, y, x]``
        Pearson's r of the ranks among the jointly valid samples, equal samples with the mean of their ranks [1]_;
        `Window.flat` where an image has no contrast, NaN where there are too few samples.

    References
    ----------
    .. [1] C. Spearman, "The proof and measurement of association between two things", 1904.
    """
    size = (1,) * (3 - window.ndim) + window.shape
    inner, missing = [], []
    for axis, n in enumerate(size):
        start, stop, r = roi[2 * axis], roi[2 * axis + 1], n // 2
        inner.append(slice(max(0, start - r), min(stop + r, f.shape[axis])))
        missing.append((max(0, r - start), max(0, stop + r - f.shape[axis])))
    masked = joint is not None or any(map(any, missing))
    valid = np.ones(f.shape, np.uint8) if joint is None and masked else joint
    arrays = [image[tuple(inner)] for image in (f, g, *(() if valid is None else (valid,)))]
    if any(map(any, missing)):
        arrays = [np.pad(array, missing) for array in arrays]
    arrays = [np.ascontiguousarray(array) for array in arrays]
    out = np.empty(status.shape, np.float32)
    images = (*arrays, *(() if masked else (np.zeros((1, 1, STRIP), np.uint8),)))
    # a rank is at most as large as the window
    kind = np.int8 if f.dtype == np.uint8 and math.prod(size) < 2**7 else np.int16
    space = np.empty((2, STRIP), kind), np.empty((3, STRIP), np.int64)
    rank(images, (masked, f.dtype.kind == "f"), size, space, status, window.flat, out)
    return out
