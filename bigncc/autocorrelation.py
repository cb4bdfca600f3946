"""How samples of both images resemble their neighbours, cell by cell, and how far chance then lets r stray from 0.

Plain loops for numba. A variogram, half the mean squared difference of samples at a distance, is taken of differences
alone, so that no mean has to be known; what r sees is a window's samples about their own mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled

Array = NDArray[Any]

SCALARS = 19
"""What is needed of two autocorrelation matrices along an axis; those of all axes are multiplied."""

SMOOTH = 1e-3
"""A window whose samples vary about their mean by less than this share of the variance around it has no digits left."""


DIAGONALS = (1, 2)
"""Distances along the diagonals of the last two axes, which tell noise from texture."""


@compiled
def bases(first: int, size: int, step: int, length: int, lag: int) -> Any:
    """Return start and stop of a cell's samples along an axis that are the middle of a pair in the block, and its ends.

    An end is where it lies after the middle.
    """
    a = -(lag // 2)
    b = a + lag
    start, stop = first + step // 2, min(first + size, length - max(0, a, b))
    before = max(0, -a, -b)
    if start < before:
        start += (before - start + step - 1) // step * step
    return start, stop, a, b


@compiled
def add_differences(
    f: Array, g: Array, joint: Array, masked: bool, first: Array, size: Array, step: Array, lag: Any, scales: Any,
    out: Array,
) -> None:  # fmt: skip
    """Add the squared differences of the pairs that are `lag` apart, and their number, of one cell."""
    z0, z1, za, zb = bases(first[0], size[0], step[0], f.shape[0], lag[0])
    y0, y1, ya, yb = bases(first[1], size[1], step[1], f.shape[1], lag[1])
    x0, x1, xa, xb = bases(first[2], size[2], step[2], f.shape[2], lag[2])
    a, b, n = 0.0, 0.0, 0
    for z in range(z0, z1, step[0]):
        for y in range(y0, y1, step[1]):
            f0, f1 = f[z + za, y + ya], f[z + zb, y + yb]
            g0, g1 = g[z + za, y + ya], g[z + zb, y + yb]
            j0, j1 = joint[(z + za) * masked, (y + ya) * masked], joint[(z + zb) * masked, (y + yb) * masked]
            for x in range(x0, x1, step[2]):
                if masked and not (j0[x + xa] and j1[x + xb]):
                    continue
                d = scales[0] * (np.float64(f0[x + xa]) - np.float64(f1[x + xb]))
                e = scales[1] * (np.float64(g0[x + xa]) - np.float64(g1[x + xb]))
                a += d * d
                b += e * e
                n += 1
    out[0] += a
    out[1] += b
    out[2] += n


@compiled
def add_samples(
    f: Array, g: Array, joint: Array, masked: bool, first: Array, size: Array, step: Array, pivots: Any, out: Array
) -> None:
    """Add the samples of one cell, their sums and sums of squares."""
    z0, z1, _, _ = bases(first[0], size[0], step[0], f.shape[0], 0)
    y0, y1, _, _ = bases(first[1], size[1], step[1], f.shape[1], 0)
    x0, x1, _, _ = bases(first[2], size[2], step[2], f.shape[2], 0)
    (middle, scale), (other_middle, other_scale) = pivots
    for z in range(z0, z1, step[0]):
        for y in range(y0, y1, step[1]):
            for x in range(x0, x1, step[2]):
                if masked and not joint[z, y, x]:
                    continue
                d = (np.float64(f[z, y, x]) - middle) * scale
                e = (np.float64(g[z, y, x]) - other_middle) * other_scale
                out[0] += 1.0
                out[1] += d
                out[2] += d * d
                out[3] += e
                out[4] += e * e


@compiled
def look(
    f: Array, g: Array, joint: Array, masked: bool, grid: Any, lags: Array, pivots: Any, sums: Array, moments: Array
) -> None:
    """Sum squared differences, and samples, over the cells of a block.

    Parameters
    ----------
    f, g : ndarray, ``[z, y, x]``
        Blocks of both images.
    joint : ndarray of uint8
        1 where both are valid, if `masked`.
    grid : (ndarray, ndarray, ndarray)
        Per axis: where the first cell begins in the block, as it may before it; samples of a cell; from one of its
        samples that is looked at to the next.
    lags : ndarray, ``[5, lag]``
        Distances along each axis, and along both diagonals of the last two; 0 stands for none. A pair belongs to the
        cell of its middle.
    pivots : tuple of (float, float)
        Value and scale of both images.
    sums : ndarray, ``[z, y, x, 5, lag, 3]``
        Made: for each cell, squared differences of both images, and pairs.
    moments : ndarray, ``[z, y, x, 5]``
        Made: for each cell, samples, and their sums and sums of squares in both images.
    """
    first, size, step = grid
    scales = pivots[0][1], pivots[1][1]
    sums[:] = 0.0
    moments[:] = 0.0
    begin = np.zeros(3, np.int64)
    for z in range(moments.shape[0]):
        for y in range(moments.shape[1]):
            for x in range(moments.shape[2]):
                begin[0], begin[1], begin[2] = first[0] + z * size[0], first[1] + y * size[1], first[2] + x * size[2]
                add_samples(f, g, joint, masked, begin, size, step, pivots, moments[z, y, x])
                for way in range(5):
                    for k in range(lags.shape[1]):
                        d = lags[way, k]
                        if d:
                            lag = d * (way == 0), d * (way in (1, 3, 4)), d * ((way in (2, 3)) - (way == 4))
                            add_differences(f, g, joint, masked, begin, size, step, lag, scales, sums[z, y, x, way, k])


@compiled
def alike(squares: Array, image: int, variance: float) -> float:
    """Return the correlation of the samples of pairs; NaN where there is no pair."""
    if not squares[2] > 0:
        return np.nan
    found: float = min(1.0, max(-1.0, 1.0 - squares[image] / squares[2] / 2.0 / variance))
    return found


@compiled
def correlogram(squares: Array, lags: Array, image: int, variance: float, out: Array) -> bool:
    """Fill `out` with the autocorrelation at each distance, linear between lags; say whether there is any to know.

    Where no pair is left at a lag, as at a mask's edge, the shorter one stands for it.
    """
    out[0] = 1.0
    at, value, known = 0, 1.0, False
    for k in range(lags.size):
        lag = lags[k]
        if lag == 0 or at >= out.size - 1:
            break
        here = alike(squares[k], image, variance)
        if here == here:
            known = True
        else:
            here = value
        for d in range(at + 1, min(lag, out.size - 1) + 1):
            out[d] = value + (here - value) * ((d - at) / (lag - at))
        at, value = lag, here
    return known


@compiled
def texture(squares: Array, lags: Array, image: int, variance: float, window: Array, r: Array) -> float:
    """Return which share of the variance is texture and no noise, and change `r` to the autocorrelation of texture.

    Of texture, the correlation at a distance along a diagonal is the product of those along both axes. Noise lowers
    each of the three by the same factor, and so the product twice.
    """
    above = below = 0.0
    for k in range(lags.shape[1]):
        d = lags[3, k]
        if d:
            one, other = alike(squares[3, k], image, variance), alike(squares[4, k], image, variance)
            across = (one + other) / 2
            if across == across:
                above += across * r[1, d] * r[2, d]
                below += across * across
    if not below > 0.0:
        return 1.0
    highest = 0.0
    for axis in range(3):
        for d in range(1, window[axis]):
            highest = max(highest, r[axis, d])
    share = min(1.0, max(above / below, highest))
    if not share > 0.0:
        return 1.0
    for axis in range(3):
        for d in range(1, window[axis]):
            r[axis, d] = max(-1.0, r[axis, d] / share)
    return share


@compiled
def multiply(mirrored: Array, v: Array, out: Array) -> None:
    """Fill `out` with the product of a vector and a Toeplitz matrix, given as the values around its diagonal."""
    n = out.size
    out[:] = 0.0
    for j in range(n):
        for i in range(n):
            out[i] += mirrored[n - 1 - j + i] * v[j]


@compiled
def along(a: Array, c: Array, n: int, vectors: Array, out: Array) -> None:
    """Multiply into `out` what the matrices A and C of one axis give to the traces of `spread`.

    With u the unit vector of equal components: u'Au, u'Cu, u'AAu, u'CCu, u'ACu, u'AACu, u'ACCu, u'ACAu, u'CACu,
    u'AACCu, u'ACCAu, u'CAACu, tr A, tr AA, tr CC, tr AC, tr AAC, tr ACC, tr AACC.
    """
    u, va, vc, aa, cc, ca, ac = vectors[:7, :n]
    both_a, both_c = vectors[7, : 2 * n - 1], vectors[8, : 2 * n - 1]
    for i in range(n):
        both_a[n - 1 - i] = both_a[n - 1 + i] = a[i]
        both_c[n - 1 - i] = both_c[n - 1 + i] = c[i]
    u[:] = 1.0 / math.sqrt(n)
    multiply(both_a, u, va)
    multiply(both_c, u, vc)
    multiply(both_a, va, aa)
    multiply(both_c, vc, cc)
    multiply(both_c, va, ca)
    multiply(both_a, vc, ac)
    p = q = pp = qq = pq = ppq = pqq = pqp = qpq = ppqq = pqqp = qppq = aaa = ccc = acc = 0.0
    for i in range(n):
        p += u[i] * va[i]
        q += u[i] * vc[i]
        pp += va[i] * va[i]
        qq += vc[i] * vc[i]
        pq += va[i] * vc[i]
        ppq += aa[i] * vc[i]
        pqq += va[i] * cc[i]
        pqp += va[i] * ca[i]
        qpq += vc[i] * ac[i]
        ppqq += aa[i] * cc[i]
        pqqp += ca[i] * ca[i]
        qppq += ac[i] * ac[i]
        pairs = 2.0 * (n - i) if i else 1.0 * n
        aaa += pairs * a[i] * a[i]
        ccc += pairs * c[i] * c[i]
        acc += pairs * a[i] * c[i]
    inner = p, q, pp, qq, pq, ppq, pqq, pqp, qpq, ppqq, pqqp, qppq, 1.0 * n, aaa, ccc, acc
    for k in range(16):
        out[k] *= inner[k]
    along_squares(a, c, n, vectors, out)


@compiled
def along_squares(a: Array, c: Array, n: int, vectors: Array, out: Array) -> None:
    """Do it for tr AAC, tr ACC and tr AACC: the square of a Toeplitz matrix, from each line to the next."""
    both_a, both_c = vectors[7, : 2 * n - 1], vectors[8, : 2 * n - 1]
    square_a, square_c, aac, acc, aacc = vectors[:5, :n]
    first_a, first_c = vectors[9, :n], vectors[10, :n]
    aac[:] = acc[:] = aacc[:] = 0.0
    multiply(both_a, a[:n], square_a)
    multiply(both_c, c[:n], square_c)
    first_a[:], first_c[:] = square_a, square_c
    for i in range(n):
        if i:
            for j in range(n - 1, 0, -1):
                square_a[j] = square_a[j - 1] + a[i] * a[j] - a[n - i] * a[n - j]
                square_c[j] = square_c[j - 1] + c[i] * c[j] - c[n - i] * c[n - j]
            square_a[0], square_c[0] = first_a[i], first_c[i]  # it is symmetric
        for j in range(n):
            aac[j] += square_a[j] * both_c[n - 1 - i + j]
            acc[j] += square_c[j] * both_a[n - 1 - i + j]
            aacc[j] += square_a[j] * square_c[j]
    out[16] *= aac.sum()
    out[17] *= acc.sum()
    out[18] *= aacc.sum()


@compiled
def spread(s: Array, shares: Any) -> float:
    """Return the variance of r between two independent images, from the products of `along` over all axes.

    P and Q are the covariance matrices of the window's samples about their mean, divided by their traces; those of
    texture, A and C, have their share in them, and noise the rest. To first order the variance is tr PQ (Clifford,
    Richardson and Hemon; Dutilleul). The window's own variance, by which r divides, varies from window to window, and
    to the second order the mean of ff'/f'f is (1 + 2 tr PP) P - 2 PP.
    """
    a, c, aa, cc, ac, aac, acc, aca, cac, aacc, acca, caac = s[:12]
    n = s[12] - 1.0
    # the traces of products of A and C about the mean
    ta, tc = s[12] - a, s[12] - c
    taa, tcc, tac = s[13] - 2 * aa + a * a, s[14] - 2 * cc + c * c, s[15] - 2 * ac + a * c
    taac = s[16] - 2 * aac - aca + 2 * a * ac + aa * c - a * a * c
    tacc = s[17] - 2 * acc - cac + 2 * c * ac + cc * a - c * c * a
    taacc = (
        s[18] - 2 * aacc - acca - caac + 2 * a * acc + 2 * c * aac + aa * cc + ac * ac
        - 2 * a * c * ac - c * c * aa - a * a * cc + a * a * c * c
    )  # fmt: skip
    p, q = shares
    u, v = 1.0 - p, 1.0 - q
    first, second = u * n + p * ta, v * n + q * tc
    if not (first > SMOOTH * n and second > SMOOTH * n):
        return 1.0
    pp = (u * u * n + 2 * u * p * ta + p * p * taa) / first**2
    qq = (v * v * n + 2 * v * q * tc + q * q * tcc) / second**2
    pq = (u * v * n + u * q * tc + p * v * ta + p * q * tac) / (first * second)
    ppq = v * (pp * first**2) + q * (u * u * tc + 2 * u * p * tac + p * p * taac)
    pqq = u * (qq * second**2) + p * (v * v * ta + 2 * v * q * tac + q * q * tacc)
    ppqq = (
        u * u * (qq * second**2) + 2 * u * p * (v * v * ta + 2 * v * q * tac + q * q * tacc)
        + p * p * (v * v * taa + 2 * v * q * taac + q * q * taacc)
    )  # fmt: skip
    f, g = 1 + 2 * pp, 1 + 2 * qq
    found: float = f * g * pq - 2 * g * ppq / (first**2 * second) - 2 * f * pqq / (first * second**2)
    found += 4 * ppqq / (first * second) ** 2
    return found


@compiled
def bounded(a: Array, c: Array, shares: Any, shape: Array, work: Any) -> float:
    """Return the variance of r in a full window of a shape: at least that of as many independent samples, at most 1."""
    vectors, products = work
    products[:] = 1.0
    n = 1.0
    for axis in range(3):
        n *= shape[axis]
        along(a[axis], c[axis], shape[axis], vectors, products)
    return min(1.0, max(1.0 / (n - 1.0), spread(products, shares)))


@compiled
def settle(sums: Array, moments: Array, lags: Array, window: Array, pooled: Array, out: Array) -> None:
    """Fill `out`, ``[2, z, y, x]``, for each cell from what `look` found in it and in those around it.

    First the variance of r in a full window, NaN where nothing is known; then the power of its number of samples that
    the variance falls with, as found at half the size.

    Parameters
    ----------
    sums, moments, lags
        As for `look`.
    window, pooled : ndarray
        Size per axis; and how many cells on each side are looked at together.
    """
    longest = window.max()
    half = (window + 1) // 2
    a, c = np.ones((3, longest)), np.ones((3, longest))
    work = np.empty((11, 2 * longest)), np.empty(SCALARS)
    near, seen = np.zeros(sums.shape[3:]), np.zeros(5)
    shape = moments.shape
    n, few = float(window[0] * window[1] * window[2]), float(half[0] * half[1] * half[2])
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                near[:] = 0.0
                seen[:] = 0.0
                for i in range(max(0, z - pooled[0]), min(shape[0], z + pooled[0] + 1)):
                    for j in range(max(0, y - pooled[1]), min(shape[1], y + pooled[1] + 1)):
                        for k in range(max(0, x - pooled[2]), min(shape[2], x + pooled[2] + 1)):
                            near += sums[i, j, k]
                            seen += moments[i, j, k]
                out[0, z, y, x] = out[1, z, y, x] = np.nan
                variances = seen[0] * seen[2] - seen[1] * seen[1], seen[0] * seen[4] - seen[3] * seen[3]
                if not (variances[0] > 0 and variances[1] > 0):
                    continue
                known = True
                for axis in range(3):
                    if window[axis] > 1:
                        for image, r in enumerate((a, c)):
                            variance = variances[image] / (seen[0] * seen[0])
                            known &= correlogram(near[axis], lags[axis], image, variance, r[axis, : window[axis]])
                if not known:
                    continue
                squared = seen[0] * seen[0]
                shares = (
                    texture(near, lags, 0, variances[0] / squared, window, a),
                    texture(near, lags, 1, variances[1] / squared, window, c),
                )
                full = bounded(a, c, shares, window, work)
                out[0, z, y, x] = full
                out[1, z, y, x] = 1.0
                if few > 2:
                    smaller = bounded(a, c, shares, half, work)
                    power = math.log(smaller / full) / math.log((n - 1) / (few - 1))
                    out[1, z, y, x] = min(1.0, max(0.0, power))
