"""A few samples of an image, evenly spread: for its pivots, and to know it again."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc import kernel
from bigncc.kernel import Pivots
from bigncc.storage import Image

Samples = dict[str, list[NDArray[Any]]]
"""Samples of both images, channel by channel where these are a batch."""


def samples_of(image: Image) -> list[NDArray[Any]]:
    """Read five points per axis of an image: of each channel, if there are channels."""
    shape = image.array.shape
    axes = [
        tuple(range(n)) if name == "c" else points
        for name, n, points in zip(image.axes, shape, kernel.lattice(shape), strict=True)
    ]
    found = np.empty(tuple(map(len, axes)), image.array.dtype)
    for cell, place in zip(np.ndindex(found.shape), product(*axes), strict=True):
        found[cell] = image.array[tuple(slice(i, i + 1) for i in place)].item()
    return list(np.moveaxis(found, image.axes.index("c"), 0)) if "c" in image.axes else [found]


def pivots(samples: Samples) -> list[Pivots]:
    """Return the pivots of each channel, or of the pair where channels are no batch."""
    both = zip(samples["reference"], samples["moving"], strict=True)
    return [(kernel.lattice_pivot(first), kernel.lattice_pivot(second)) for first, second in both]
