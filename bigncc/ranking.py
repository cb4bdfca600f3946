"""Rank correlation of windows by comparing each of its samples with each: plain loops for numba.

The rank of a sample among the n jointly valid ones of its window, doubled and about its mean, is how many of them are
below it minus how many are above it; equal samples share the mean of their ranks that way. It is a small integer, and a
row of windows is compared at a time, which is what lets the compiler use vectors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop

Array = NDArray[Any]


@compiled_loop
def compare(ranks: Array, samples: Array, others: Array) -> None:
    """Add to each rank 1 where the integer sample is above the other one, -1 where it is below."""
    for j in range(ranks.size):
        ranks[j] = ranks[j] + (1 if samples[j] > others[j] else 0) - (1 if samples[j] < others[j] else 0)


@compiled_loop
def compare_floats(ranks: Array, samples: Array, others: Array) -> None:
    """Do the same with floats, for which the compiler's vectors want it said otherwise."""
    for j in range(ranks.size):
        ranks[j] += np.int16(samples[j] > others[j]) - np.int16(samples[j] < others[j])


@compiled_loop
def compare_valid(ranks: Array, samples: Array, others: Array, valid: Array) -> None:
    """Do the same with those of the others that are valid."""
    for j in range(ranks.size):
        above, below = valid[j] & (samples[j] > others[j]), valid[j] & (samples[j] < others[j])
        ranks[j] = ranks[j] + (1 if above else 0) - (1 if below else 0)


@compiled_loop
def compare_all(ranks: Array, samples: Array, others: Array, valid: Array, how: Any) -> None:
    """Compare one sample of each window with another one."""
    masked, floats = how
    if masked:
        compare_valid(ranks, samples, others, valid)
    elif floats:
        compare_floats(ranks, samples, others)
    else:
        compare(ranks, samples, others)


@compiled_loop
def add_ranks(sums: Array, f: Array, g: Array, valid: Array, masked: bool) -> None:
    """Add the squares and the product of the ranks of one sample of each window."""
    ff, gg, fg = sums[0], sums[1], sums[2]
    for j in range(f.size):
        a, b = np.int64(f[j]), np.int64(g[j])
        if masked:
            a, b = a * valid[j], b * valid[j]
        ff[j] += a * a
        gg[j] += b * b
        fg[j] += a * b


@compiled_loop
def rank_row(images: Any, how: Any, place: Any, size: Any, ranks: Array, sums: Array) -> None:
    """Sum squares and products of ranks over the windows of one row that begin at `place`."""
    f, g, valid = images
    z, y, x = place
    masked, n = how[0], sums.shape[1]
    sums[:] = 0
    for i in range(size[0] * size[1] * size[2]):
        iz, iy, ix = z + i // (size[1] * size[2]), y + i // size[2] % size[1], x + i % size[2]
        a, b = f[iz, iy, ix : ix + n], g[iz, iy, ix : ix + n]
        ranks[:] = 0
        for j in range(size[0] * size[1] * size[2]):
            jz, jy, jx = z + j // (size[1] * size[2]), y + j // size[2] % size[1], x + j % size[2]
            c, d = f[jz, jy, jx : jx + n], g[jz, jy, jx : jx + n]
            those = valid[jz, jy, jx : jx + n] if masked else valid[0, 0]
            compare_all(ranks[0, :n], a, c, those, how)
            compare_all(ranks[1, :n], b, d, those, how)
        here = valid[iz, iy, ix : ix + n] if masked else valid[0, 0]
        add_ranks(sums, ranks[0, :n], ranks[1, :n], here, masked)


@compiled_loop
def rank(images: Any, how: Any, size: Any, space: Any, status: Array, blank: float, out: Array) -> None:
    """Write the rank correlation of every window that has a value, NaN or `blank` of the others as their status says.

    Parameters
    ----------
    images : tuple of ndarray, ``[z, y, x]``
        f, g and 1 where both are valid, with the margin of the window on each side.
    how : tuple of bool
        Whether anything may be invalid, and whether samples are floats.
    size : tuple of int
        Of the window, ``(z, y, x)``.
    space : tuple of ndarray
        To work in: ranks int8 or int16 ``[2, n]`` and sums int64 ``[3, n]``, of n columns at a time.
    status : ndarray, ``[z, y, x]``
        Of the windows.
    blank : float
        Value without contrast.
    out : ndarray, ``[z, y, x]``
        The result.
    """
    planes, rows, columns = status.shape
    ranks, sums = space
    strip = ranks.shape[1]
    for z in range(planes):
        for y in range(rows):
            for x in range(0, columns, strip):
                n = min(strip, columns - x)
                rank_row(images, how, (z, y, x), size, ranks, sums[:, :n])
                for j in range(n):
                    code = status[z, y, x + j]
                    value = np.nan if code == 2 or code == 6 or code == 7 else blank
                    both = float(sums[0, j]) * float(sums[1, j])
                    if (code == 1 or code == 8) and both > 0.0:
                        value = min(max(float(sums[2, j]) / np.sqrt(both), -1.0), 1.0)
                    out[z, y, x + j] = np.float32(value) + np.float32(0.0)
