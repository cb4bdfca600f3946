"""Block matching: a window of one image against all candidates around its place in another; plain loops for numba.

All candidates of a row lie side by side, and so do the sums that are made for them: `accumulate` adds one product to
each of them at a time, which is what lets the compiler use vectors. Its order of additions depends on the window alone,
and what does not count is an exact zero.

What travels together is a tuple:

* ``images``: f, g, f*f, g*g and the validities of f and g, all float64, with zeros where a candidate leaves the image;
* ``frame``: size of the window and reach of the search, ``(z, y, x)`` each;
* ``corner``: where the region that is searched for a node begins;
* ``sums``: n, F, G, FF, GG, FG of each candidate.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.coefficients import difference, wide_difference
from bigncc.compiled import compiled_loop

Array = NDArray[Any]

NONE = -np.inf
"""The coefficient of a candidate that has none."""


@compiled_loop
def accumulate(line: Array, weights: Array, samples: Array) -> None:
    """Add ``weights[k] * samples[j + k]`` to each ``line[j]``, k by k."""
    n, whole = line.size, weights.size - weights.size % 4
    for k in range(0, whole, 4):
        p, q, r, s = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        a, b, c, d = samples[k : k + n], samples[k + 1 :], samples[k + 2 :], samples[k + 3 :]
        for j in range(n):
            line[j] = line[j] + p * a[j] + q * b[j] + r * c[j] + s * d[j]
    for k in range(whole, weights.size):
        p, a = weights[k], samples[k : k + n]
        for j in range(n):
            line[j] += p * a[j]


@compiled_loop
def correlate(cube: Array, weights: Array, samples: Array, frame: Any, corner: Any) -> None:
    """Sum, for each candidate, the products of a window of `weights` with the samples that it meets there."""
    (wz, wy, wx), (rz, ry, rx) = frame
    z, y, x = corner
    cube[:] = 0.0
    for a in range(cube.shape[0]):
        for b in range(cube.shape[1]):
            for k in range(wz):
                for i in range(wy):
                    row = weights[z + rz + k, y + ry + i, x + rx : x + rx + wx]
                    accumulate(cube[a, b], row, samples[z + a + k, y + b + i, x:])


@compiled_loop
def add_boxes(boxes: Array, lines: Array, ones: Array, g: Array, frame: Any, z: int, y: int) -> None:
    """Sum samples and squares over the windows at all places of a row of nodes."""
    (wz, wy, wx), _ = frame
    plain, squares = lines[0], lines[1]
    width = boxes.shape[3]
    for a in range(boxes.shape[1]):
        for b in range(boxes.shape[2]):
            lines[:] = 0.0
            for k in range(wz):
                for i in range(wy):
                    row = g[z + a + k, y + b + i]
                    for j in range(row.size):
                        plain[j] += row[j]
                        squares[j] += row[j] * row[j]
            boxes[:, a, b] = 0.0
            accumulate(boxes[0, a, b, : width - wx + 1], ones[:wx], plain)
            accumulate(boxes[1, a, b, : width - wx + 1], ones[:wx], squares)


@compiled_loop
def window_sums(f: Array, frame: Any, corner: Any) -> Any:
    """Return the sums of samples and squares of a window of the reference."""
    (wz, wy, wx), (rz, ry, rx) = frame
    z, y, x = corner
    plain, squares = 0.0, 0.0
    for k in range(wz):
        for i in range(wy):
            row = f[z + rz + k, y + ry + i, x + rx : x + rx + wx]
            for j in range(wx):
                plain += row[j]
                squares += row[j] * row[j]
    return plain, squares


@compiled_loop
def all_valid(vf: Array, vg: Array, frame: Any, corner: Any) -> bool:
    """Say whether everything counts that is compared for a node."""
    (wz, wy, wx), (rz, ry, rx) = frame
    z, y, x = corner
    missing = 0
    for k in range(wz + 2 * rz):
        for i in range(wy + 2 * ry):
            row = vg[z + k, y + i, x : x + wx + 2 * rx]
            for j in range(row.size):
                missing += 0 if row[j] == 1.0 else 1
    for k in range(wz):
        for i in range(wy):
            row = vf[z + rz + k, y + ry + i, x + rx : x + rx + wx]
            for j in range(wx):
                missing += 0 if row[j] == 1.0 else 1
    return missing == 0


@compiled_loop
def share(sums: Array, boxes: Array, own: Any, frame: Any, x: int) -> None:
    """Give all candidates of a node the sums of its window, and each those of the place that it is at."""
    (wz, wy, wx), _ = frame
    sums[0] = float(wz * wy * wx)
    sums[1] = own[0]
    sums[3] = own[1]
    for a in range(sums.shape[1]):
        for b in range(sums.shape[2]):
            plain, squares, at, of = boxes[0, a, b, x:], boxes[1, a, b, x:], sums[2, a, b], sums[4, a, b]
            for j in range(sums.shape[3]):
                at[j] = plain[j]
                of[j] = squares[j]


@compiled_loop
def sum_up(sums: Array, images: Any, masked: bool, boxes: Array, frame: Any, corner: Any) -> None:
    """Make the sums of all candidates of a node: what they share is made once, where everything counts."""
    f, g, ff, gg, vf, vg = images
    if masked and not all_valid(vf, vg, frame, corner):
        correlate(sums[0], vf, vg, frame, corner)
        correlate(sums[1], f, vg, frame, corner)
        correlate(sums[2], vf, g, frame, corner)
        correlate(sums[3], ff, vg, frame, corner)
        correlate(sums[4], vf, gg, frame, corner)
    else:
        share(sums, boxes, window_sums(f, frame, corner), frame, corner[2])
    correlate(sums[5], f, g, frame, corner)


@compiled_loop
def coefficients(r: Array, sums: Array, least: float, rules: Any) -> None:
    """Write r of all candidates, NONE where there are too few samples or too little contrast."""
    std_f, std_g, resolution = rules
    n, f, g, ff, gg, fg = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    for j in range(r.size):
        square = n[j] * n[j]
        vf = n[j] * ff[j] - f[j] * f[j]
        vg = n[j] * gg[j] - g[j] * g[j]
        cov = n[j] * fg[j] - f[j] * g[j]
        fine = (n[j] >= least) & (vf > resolution * (n[j] * ff[j])) & (vg > resolution * (n[j] * gg[j]))
        fine = fine & (vf > 0.0) & (vg > 0.0) & (vf >= std_f * square) & (vg >= std_g * square)
        value = cov / (np.sqrt(max(vf, 0.0)) * np.sqrt(max(vg, 0.0)))
        value = min(max(value, -1.0), 1.0)
        r[j] = value if fine else NONE


@compiled_loop
def large_coefficients(r: Array, sums: Array, least: float, rules: Any, wide: bool) -> None:
    """Do the same with sums of integers whose products a float64 does not hold; each difference is rounded once."""
    std_f, std_g, _ = rules
    for j in range(r.size):
        n: Any = np.int64(sums[0, j])
        f, g, ff = np.int64(sums[1, j]), np.int64(sums[2, j]), np.int64(sums[3, j])
        gg, fg = np.int64(sums[4, j]), np.int64(sums[5, j])
        if wide:
            vf, vg = wide_difference(n, ff, f, f), wide_difference(n, gg, g, g)
            cov = wide_difference(n, fg, f, g)
        else:
            vf, vg = difference(n, ff, f, f, np.int64), difference(n, gg, g, g, np.int64)
            cov = difference(n, fg, f, g, np.int64)
        square = float(n) * float(n)
        fine = (n >= least) & (vf > 0.0) & (vg > 0.0) & (vf >= std_f * square) & (vg >= std_g * square)
        r[j] = min(max(cov / (np.sqrt(vf) * np.sqrt(vg)), -1.0), 1.0) if fine else NONE


@compiled_loop
def highest(cube: Array, frame: Any) -> Any:
    """Return where the highest coefficient is; of equal ones the shortest displacement, and of these the first."""
    rz, ry, rx = frame[1]
    best, length, at = NONE, 0, (-1, -1, -1)
    for a in range(cube.shape[0]):
        for b in range(cube.shape[1]):
            for c in range(cube.shape[2]):
                if cube[a, b, c] >= best and cube[a, b, c] > NONE:
                    here = (a - rz) ** 2 + (b - ry) ** 2 + (c - rx) ** 2
                    if cube[a, b, c] > best or here < length:
                        best, length, at = cube[a, b, c], here, (a, b, c)
    return at


@compiled_loop
def is_summit(cube: Array, a: int, b: int, c: int) -> bool:
    """Say whether no candidate beside one is higher."""
    nz, ny, nx = cube.shape
    for i in range(max(0, a - 1), min(nz, a + 2)):
        for j in range(max(0, b - 1), min(ny, b + 2)):
            for k in range(max(0, c - 1), min(nx, c + 2)):
                if cube[i, j, k] > cube[a, b, c]:
                    return False
    return True


@compiled_loop
def second(cube: Array, at: Any) -> float:
    """Return the highest positive summit that is not beside the one at `at`, or 0."""
    best = 0.0
    for a in range(cube.shape[0]):
        for b in range(cube.shape[1]):
            for c in range(cube.shape[2]):
                apart = max(abs(a - at[0]), abs(b - at[1]), abs(c - at[2])) > 1
                if apart and cube[a, b, c] > best and is_summit(cube, a, b, c):
                    best = cube[a, b, c]
    return best


@compiled_loop
def quadratic(cube: Array, at: Any, frame: Any, slope: Array, bend: Array) -> bool:
    """Fit a quadratic to the 3^n candidates around one by least squares: its gradient and minus its Hessian there.

    An axis that is not searched has a bend of 1 and no slope. False if a candidate is at the end of the search, or one
    beside it has no coefficient.
    """
    rz, ry, rx = frame[1]
    a, b, c = at
    sz, sy, sx = min(rz, 1), min(ry, 1), min(rx, 1)
    slope[:] = 0.0
    bend[:] = 0.0
    if (sz and (a == 0 or a == 2 * rz)) or (sy and (b == 0 or b == 2 * ry)) or (sx and (c == 0 or c == 2 * rx)):
        return False
    for i in range(-sz, sz + 1):
        for j in range(-sy, sy + 1):
            for k in range(-sx, sx + 1):
                r = cube[a + i, b + j, c + k]
                if r == NONE:
                    return False
                place = i, j, k
                for p in range(3):
                    slope[p] += place[p] * r
                    bend[p, p] -= (3 * place[p] * place[p] - 2) * r
                    for q in range(p):
                        bend[p, q] -= place[p] * place[q] * r
    cells = (1.0 + 2 * sz) * (1 + 2 * sy) * (1 + 2 * sx)
    for p in range(3):
        slope[p] *= 1.5 / cells
        bend[p, p] = bend[p, p] * 3.0 / cells if frame[1][p] else 1.0
        for q in range(p):
            bend[p, q] *= 2.25 / cells
    return True


@compiled_loop
def factorised(bend: Array) -> bool:
    """Replace the lower half of a symmetric matrix by its factors L D L'; False if it is not positive definite."""
    for p in range(3):
        for q in range(p):
            for k in range(q):
                bend[p, q] -= bend[p, k] * bend[q, k] * bend[k, k]
            bend[p, q] /= bend[q, q]
        for k in range(p):
            bend[p, p] -= bend[p, k] * bend[p, k] * bend[k, k]
        if not bend[p, p] > 0.0:
            return False
    return True


@compiled_loop
def solve(factors: Array, right: Array) -> None:
    """Replace a right side by the solution, from the factors."""
    for p in range(3):
        for k in range(p):
            right[p] -= factors[p, k] * right[k]
    for p in range(3):
        right[p] /= factors[p, p]
    for p in range(2, -1, -1):
        for k in range(p + 1, 3):
            right[p] -= factors[k, p] * right[k]


@compiled_loop
def settle(out: Array, cube: Array, n: float, at: Any, frame: Any, work: Any) -> None:
    """Write displacement, peak, ratio and uncertainty of a node whose best candidate is known."""
    slope, bend, unit = work
    peak = cube[at[0], at[1], at[2]]
    rest = second(cube, at)
    out[3] = np.float32(peak) + np.float32(0.0)
    out[4] = np.float32(rest / peak) if peak > 0.0 else np.float32(1.0)
    out[5] = np.float32(np.inf)
    for p in range(3):
        out[p] = np.float32(at[p] - frame[1][p])
    if peak <= 0.0 or not quadratic(cube, at, frame, slope, bend) or not factorised(bend):
        return
    solve(bend, slope)
    variance = 0.0
    for p in range(3):
        out[p] = np.float32(at[p] - frame[1][p] + min(max(slope[p], -1.0), 1.0)) + np.float32(0.0)
        unit[:] = 0.0
        unit[p] = 1.0
        solve(bend, unit)
        variance += unit[p] if frame[1][p] else 0.0
    out[5] = np.float32(np.sqrt(max(1.0 - peak * peak, 0.0) / (n * peak) * variance))


@compiled_loop
def possible(corner: Any, frame: Any, edges: Any) -> float:
    """Return how many samples of a node's window lie inside the image."""
    inside = 1.0
    for p in range(3):
        start = corner[p] + frame[1][p]
        inside *= max(0, min(start + frame[0][p], edges[p][1]) - max(start, edges[p][0]))
    return inside


@compiled_loop
def match(
    images: Any, masked: bool, frame: Any, edges: Any, nodes: Any, arithmetic: int, limits: Any, rules: Any, space: Any,
    out: Array,
) -> None:  # fmt: skip
    """Search the displacement of every node.

    Parameters
    ----------
    images, frame
        As above.
    masked : bool
        Whether something may not count; else only f and g are looked at.
    edges : tuple
        First and last sample of the image along each axis, among what may be zeros around it.
    nodes : tuple
        The first node's corner, and the step, along each axis.
    arithmetic : int
        0: float64 holds all products of sums; 1: int64 does; 2: neither.
    limits : tuple
        Share of valid samples that a candidate needs, and how many a window needs inside the image.
    rules : tuple
        Least variances of f and g, and the share of the mean square that is lost in rounding.
    space : tuple
        Arrays to work in: sums and coefficients, each by place and in a line, boxes, lines, ones, slope, bend, unit.
    out : ndarray, ``[z, y, x, 6]``
        Displacement ``z, y, x``, peak, ratio, uncertainty.
    """
    sums, flat, cube, r, boxes, lines, ones, slope, bend, unit = space
    for k in range(out.shape[0]):
        z = nodes[0][0] + k * nodes[0][1]
        for i in range(out.shape[1]):
            y = nodes[1][0] + i * nodes[1][1]
            add_boxes(boxes, lines, ones, images[1], frame, z, y)
            for j in range(out.shape[2]):
                corner = z, y, nodes[2][0] + j * nodes[2][1]
                here = out[k, i, j]
                here[:] = np.float32(np.nan)
                inside = possible(corner, frame, edges)
                if inside < limits[1]:
                    continue
                sum_up(sums, images, masked, boxes, frame, corner)
                least = max(2.0, limits[0] * inside)
                if arithmetic == 0:
                    coefficients(r, flat, least, rules)
                else:
                    large_coefficients(r, flat, least, rules, arithmetic == 2)
                at = highest(cube, frame)
                if at[0] >= 0:
                    settle(here, cube, sums[0, at[0], at[1], at[2]], at, frame, (slope, bend, unit))
