"""Compiled loops of the pyramid: one row of a coarser level out of the rows of a finer one that it covers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop, inlined_loop

Array = NDArray[Any]

VALID = 1


@inlined_loop
def add_pair(values: Array, codes: Array, j: int, width: int, total: float, counts: int) -> Any:
    """Add the pixels of a cell in one row to the sum of the valid ones and to the counts, four bits for each code."""
    for i in range(j, j + width):
        code: Any = np.int64(codes[i])
        counts += 1 << (4 * code)
        if code == VALID:
            total += np.float64(values[i])
    return total, counts


@inlined_loop
def settle(total: float, counts: int, size: int, flat: Any, out: Array, status: Array, i: int) -> None:
    """Write the pixel of a cell: the mean where at least half is valid, else the commonest other code, the smallest."""
    valid = (counts >> 4) & 15
    if 2 * valid >= size:
        status[i] = VALID
        out[i] = np.float32(total / valid) + np.float32(0.0)  # -0.0 becomes 0.0
        return
    best, most = 0, 0
    for code in range(9):
        n = (counts >> (4 * code)) & 15
        if code != VALID and n > most:
            best, most = code, n
    status[i] = best
    out[i] = flat if 3 <= best <= 5 else np.float32(np.nan)


@compiled_loop
def halve_row(
    a: Array, b: Array, c: Array, d: Array, p: Array, q: Array, r: Array, s: Array, rows: int, flat: Any, out: Array,
    status: Array,
) -> None:  # fmt: skip
    """Reduce one, two or four rows of values and codes by two, along the row too; others of the four are not used."""
    n = a.size
    for i in range(out.size):
        j = 2 * i
        width = 2 if j + 1 < n else 1
        total, counts = add_pair(a, p, j, width, 0.0, 0)
        if rows > 1:
            total, counts = add_pair(b, q, j, width, total, counts)
        if rows > 2:
            total, counts = add_pair(c, r, j, width, total, counts)
            total, counts = add_pair(d, s, j, width, total, counts)
        settle(total, counts, rows * width, flat, out, status, i)


@compiled_loop
def halve_two_rows(a: Array, b: Array, p: Array, q: Array, flat: Any, out: Array, status: Array) -> None:
    """Do the same for two rows of even length, quickly where all pixels are valid."""
    others = 0
    for j in range(2 * out.size):
        others += (p[j] ^ VALID) | (q[j] ^ VALID)
    if others == 0:
        for i in range(out.size):
            total = np.float64(a[2 * i]) + np.float64(a[2 * i + 1]) + np.float64(b[2 * i]) + np.float64(b[2 * i + 1])
            out[i] = np.float32(total * 0.25) + np.float32(0.0)
        status[:] = VALID
        return
    for i in range(out.size):
        total, counts = add_pair(a, p, 2 * i, 2, 0.0, 0)
        total, counts = add_pair(b, q, 2 * i, 2, total, counts)
        settle(total, counts, 4, flat, out, status, i)


@compiled_loop
def halve_planes(values: Array, codes: Array, deep: bool, flat: Any, out: Array, status: Array) -> None:
    """Reduce planes by two along y and x, and along z where `deep`."""
    nz, ny, nx = values.shape
    for z in range(out.shape[0]):
        za = 2 * z if deep else z
        zb = za + 1 if deep and za + 1 < nz else za
        for y in range(out.shape[1]):
            ya = 2 * y
            yb = min(ya + 1, ny - 1)
            if zb == za and yb > ya and nx > 1:
                even = nx // 2
                halve_two_rows(
                    values[za, ya], values[za, yb], codes[za, ya], codes[za, yb], flat, out[z, y, :even],
                    status[z, y, :even],
                )  # fmt: skip
                at = 2 * even
            else:
                at = 0
            if at < nx:
                # in one plane the rows are two, and in one row the planes
                ba, bb = (za, yb) if yb > ya else (zb, ya)
                rows = (1 + (zb > za)) * (1 + (yb > ya))
                halve_row(
                    values[za, ya, at:], values[ba, bb, at:], values[zb, ya, at:], values[zb, yb, at:],
                    codes[za, ya, at:], codes[ba, bb, at:], codes[zb, ya, at:], codes[zb, yb, at:],
                    rows, flat, out[z, y, at // 2 :], status[z, y, at // 2 :],
                )  # fmt: skip
