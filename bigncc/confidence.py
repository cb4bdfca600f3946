"""The confidence map: the correlation without its negative values, averaged over the window.

It is a filter of the map itself, so a block needs the coefficients of one more radius around its core. These are
computed as any other ones are, in strips beside it, and counted nowhere.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop
from bigncc.kernel import Block
from bigncc.tiles import Roi, Shape, roi_shape, roi_within

Array = NDArray[Any]

UNIT = 2.0**24
"""Of a coefficient of 1: whole numbers have sums that are exact in any order."""

BYTES = 14
"""Per pixel of a block: coefficients and status with what is around, and the map."""

NANOSECONDS = 4.0
"""Per pixel, for an estimate."""


@compiled_loop
def enter(values: Array, status: Array, sums: Array, counts: Array) -> None:
    """Add a row to the sums of its columns."""
    for j in range(values.size):
        valid = status[j] == 1
        # a select, not a product: what is not valid may be NaN
        value = values[j] if valid & (values[j] > np.float32(0.0)) else np.float32(0.0)
        sums[j] += np.int64(np.rint(value * np.float32(UNIT)))
        counts[j] += 1 if valid else 0


@compiled_loop
def leave(values: Array, status: Array, sums: Array, counts: Array) -> None:
    """Take a row away from the sums of its columns."""
    for j in range(values.size):
        valid = status[j] == 1
        value = values[j] if valid & (values[j] > np.float32(0.0)) else np.float32(0.0)
        sums[j] -= np.int64(np.rint(value * np.float32(UNIT)))
        counts[j] -= 1 if valid else 0


@compiled_loop
def average_row(sums: Array, counts: Array, status: Array, first: int, radius: int, out: Array) -> None:
    """Write the mean over neighbouring columns where the pixel itself is valid, else NaN."""
    total, count = np.int64(0), np.int64(0)
    for j in range(max(0, first - radius), min(sums.size, first + radius)):
        total += sums[j]
        count += counts[j]
    for j in range(out.size):
        enters, leaves = first + j + radius, first + j - radius - 1
        if enters < sums.size:
            total += sums[enters]
            count += counts[enters]
        if leaves >= 0:
            total -= sums[leaves]
            count -= counts[leaves]
        out[j] = np.float32(total / (count * UNIT)) if status[first + j] == 1 else np.float32(np.nan)


@compiled_loop
def average(values: Array, status: Array, start: Any, radius: Any, sums: Array, counts: Array, out: Array) -> None:
    """Average what is valid over windows, cut where the arrays end, for the part that begins at `start`."""
    depth, height, _ = values.shape
    for z in range(out.shape[0]):
        planes = range(max(0, start[0] + z - radius[0]), min(depth, start[0] + z + radius[0] + 1))
        sums[:] = 0
        counts[:] = 0
        for row in range(max(0, start[1] - radius[1]), min(height, start[1] + radius[1])):
            for plane in planes:
                enter(values[plane, row], status[plane, row], sums, counts)
        for y in range(out.shape[1]):
            enters, leaves = start[1] + y + radius[1], start[1] + y - radius[1] - 1
            for plane in planes:
                if enters < height:
                    enter(values[plane, enters], status[plane, enters], sums, counts)
                if leaves >= 0:
                    leave(values[plane, leaves], status[plane, leaves], sums, counts)
            average_row(sums, counts, status[start[0] + z, start[1] + y], start[2], radius[2], out[z, y])


def confidence(ncc: NDArray[np.float32], status: NDArray[np.uint8], core: Roi, radius: Shape) -> NDArray[np.float32]:
    """Return the mean of max(ncc, 0) over the pixels of status 1 around each pixel of status 1, else NaN.

    Parameters
    ----------
    ncc, status : ndarray, ``[..., [z,] y, x]``
        With one radius around the core, except where the image ends: there windows are cut.
    core : tuple of slice
        Part of the windowed axes that is wanted.
    radius : tuple of int
        Half the window along each of them.

    Returns
    -------
    ndarray of float32
        In [0, 1]; sums are exact, of coefficients in units of 2^-24.
    """
    ndim = len(core)
    batch, lifted = ncc.shape[:-ndim], (1,) * (3 - ndim)
    out = np.empty(batch + roi_shape(core), np.float32)
    start = (0,) * len(lifted) + tuple(s.start for s in core)
    reach = (0,) * len(lifted) + tuple(radius)
    sums, counts = np.empty(ncc.shape[-1], np.int64), np.empty(ncc.shape[-1], np.int64)
    for index in np.ndindex(batch):
        values, codes, means = (each[index].reshape(lifted + each.shape[-ndim:]) for each in (ncc, status, out))
        average(values, codes, start, reach, sums, counts, means)
    return out


def grown(core: Roi, radius: Shape, extent: Shape) -> Roi:
    """Return a core with one radius around it, as far as the block reaches."""
    axes = zip(core, radius, extent, strict=True)
    return tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in axes)


def beside(core: Roi, whole: Roi) -> list[Roi]:
    """Return rectangles that make up what `whole` has around `core`: none is empty, and no two share a pixel."""
    found = []
    for axis, (inner, outer) in enumerate(zip(core, whole, strict=True)):
        for part in (slice(outer.start, inner.start), slice(inner.stop, outer.stop)):
            if part.start < part.stop:
                found.append((*whole[:axis], part, *core[axis + 1 :]))
    return found


def of_block(block: Block, core: Roi, radius: Shape, extent: Shape, correlated: Callable[[Roi], Block]) -> Array:
    """Return the confidence of a block's core.

    Parameters
    ----------
    block : Block
        What the kernel made of the core.
    core, radius : tuple
        As for `confidence`, in the frame of the block's samples.
    extent : tuple of int
        Of the block along the windowed axes.
    correlated : callable
        What the kernel makes of another part of the block.
    """
    whole = grown(core, radius, extent)
    shape = block.ncc.shape[: -len(core)] + roi_shape(whole)
    ncc, status = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    for roi in [core, *beside(core, whole)]:
        part = block if roi is core else correlated(roi)
        place: Any = (..., *roi_within(roi, whole))
        ncc[place], status[place] = part.ncc, part.status
    return confidence(ncc, status, roi_within(core, whole), radius)
