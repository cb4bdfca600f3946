"""From a coefficient and its variance by chance to a probability and a bound; plain loops for numba, pixel by pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled, inlined_loop
from bigncc.discoveries import LEAST

Array = NDArray[Any]


FARTHEST = 16.0
"""Where the table of `probability` ends; farther out p is 0 in float32."""


@inlined_loop
def probability(r: float, variance: float, table: Array) -> float:
    """Return the probability of a coefficient at least as far from 0 whose variance by chance is given.

    Student's t with ``1 / variance - 1`` degrees of freedom. With y = sqrt(-df ln(1 - r^2)) the normal deviate of the
    same probability is y times a factor, between 0 and 1 and smooth in y and sqrt(variance), which the table has.
    """
    if not variance < 1.0:
        return 1.0
    if abs(r) >= 1.0:
        return 0.0
    y = min(FARTHEST, math.sqrt((1.0 / variance - 1.0) * -math.log1p(-r * r)))
    rows, columns = table.shape[0] - 1, table.shape[1] - 1
    a, b = math.sqrt(variance) * rows, y * (columns / FARTHEST)
    i, j = min(int(a), rows - 1), min(int(b), columns - 1)
    a -= i
    b -= j
    low = table[i, j] + (table[i, j + 1] - table[i, j]) * b
    high = table[i + 1, j] + (table[i + 1, j + 1] - table[i + 1, j]) * b
    return math.erfc((low + (high - low) * a) * y * math.sqrt(0.5))


@inlined_loop
def lower_bound(r: float, variance: float, deviate: float) -> float:
    """Return the lower confidence bound of a coefficient by Fisher's z, in which it errs by 1 / sqrt(n - 3)."""
    freedom = 1.0 / variance - 2.0
    if not freedom > 0.0:
        return -1.0
    step = math.tanh(deviate / math.sqrt(freedom))
    # the tangent of a difference: an r of 1 stays 1
    return max(-1.0, (r - step) / (1.0 - r * step)) if r < 1.0 else 1.0


@inlined_loop
def beside(i: int, size: int, cells: int) -> Any:
    """Return the cells whose middles are before and after a pixel, and the weight of the second."""
    # in integers, so that it is the same wherever a block begins
    twice = 2 * i + 1 - size
    low = twice // (2 * size)
    return min(max(low, 0), cells - 1), min(max(low + 1, 0), cells - 1), (twice - 2 * size * low) / (2.0 * size)


@inlined_loop
def blend(cells: Array, z: int, y: int, size: Array, line: Array) -> None:
    """Fill `line` with sums over the cells before and after a row, as far as they are known, and with their weights."""
    front, back, a = beside(z, size[0], cells.shape[1])
    above, below, b = beside(y, size[1], cells.shape[2])
    for k in range(line.shape[1]):
        line[0, k] = line[1, k] = line[2, k] = 0.0
        for i, w in ((front, 1.0 - a), (back, a)):
            for j, v in ((above, 1.0 - b), (below, b)):
                here = cells[0, i, j, k]
                if here == here:
                    line[0, k] += w * v * here
                    line[1, k] += w * v * cells[1, i, j, k]
                    line[2, k] += w * v


@compiled
def judge(
    r: Array, status: Array, spans: Any, counts: Array, masked: bool, cells: Array, corner: Array, size: Array,
    samples: int, deviate: float, table: Array, out: Any, histogram: Array,
) -> None:  # fmt: skip
    """Fill `out` with the probability and the lower bound of each coefficient, NaN where there is none.

    Parameters
    ----------
    r, status : ndarray, ``[z, y, x]``
        Coefficients of a block's core, of which those of status 1 count.
    spans : tuple of ndarray
        How long the windows are along each axis, which the image's edge may cut.
    counts : ndarray, ``[z, y, x]``
        How many samples they have, if `masked`; else it is the product of their lengths.
    cells : ndarray, ``[2, z, y, x]``
        Made by `bigncc.autocorrelation.settle`.
    corner, size : ndarray
        Where the core begins after the beginning of the first cell; and samples of a cell, per axis.
    samples : int
        Of a full window.
    deviate : float
        Of the standard normal distribution, for the lower bound.
    table : ndarray
        For `probability`.
    out : (ndarray, ndarray)
        Float32.
    histogram : ndarray of int64
        Added to: see `bigncc.discoveries`.
    """
    deep, tall, wide = spans
    chances, bounds = out
    number = np.empty(1, np.float32)
    bits = number.view(np.uint32)
    line = np.empty((3, cells.shape[3]))
    for z in range(r.shape[0]):
        for y in range(r.shape[1]):
            blend(cells, corner[0] + z, corner[1] + y, size, line)
            for x in range(r.shape[2]):
                chances[z, y, x] = bounds[z, y, x] = np.float32(np.nan)
                if status[z, y, x] != 1:
                    continue
                left, right, w = beside(corner[2] + x, size[2], cells.shape[3])
                weight = (1.0 - w) * line[2, left] + w * line[2, right]
                if not weight > 0.0:
                    continue
                variance = ((1.0 - w) * line[0, left] + w * line[0, right]) / weight
                n = counts[z, y, x] if masked else deep[z] * tall[y] * wide[x]
                if n < samples:
                    power = ((1.0 - w) * line[1, left] + w * line[1, right]) / weight
                    variance = min(1.0, variance * math.exp(power * math.log((samples - 1.0) / (n - 1.0))))
                value = np.float64(r[z, y, x])
                chances[z, y, x] = number[0] = probability(value, variance, table)
                bounds[z, y, x] = np.float32(lower_bound(value, variance, deviate)) + np.float32(0.0)
                index: Any = max(0, np.int64(bits[0] >> 20) - LEAST)
                histogram[index] += 1
