"""The definition of the map, pixel by pixel, in exact arithmetic; no cleverness."""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import isfinite, isnan, isqrt, prod

import numpy as np

from bigncc import Window


def continued(index: int, length: int, border: str) -> int | None:
    """Where scipy.ndimage finds the sample at `index` of a line; None outside."""
    if 0 <= index < length:
        return index
    if border == "nearest":
        return min(max(index, 0), length - 1)
    if border == "reflect":  # d c b a | a b c d | d c b a
        index %= 2 * length
        return index if index < length else 2 * length - 1 - index
    if border == "mirror":  # d c b | a b c d | c b a
        if length == 1:
            return 0
        index %= 2 * (length - 1)
        return index if index < length else 2 * (length - 1) - index
    return None


@lru_cache
def weights(window):
    """The weight of each sample, by its place from the middle."""
    if window.weights == "footprint":
        found = window.table.array
    else:
        lines = window.taps if window.weights == "gaussian" else [np.ones(r + 1) for r in window.radius]
        lines = [[Fraction(w) for w in (*line[:0:-1], *line)] for line in lines]
        found = np.array([prod(each) for each in product(*lines)], object).reshape(window.shape)
    return {
        tuple(p - r for p, r in zip(place, window.radius, strict=True)): Fraction(found[place])
        for place in np.ndindex(window.shape)
    }


def samples(f, g, vf, vg, window, centre):
    """The valid pairs of the window at `centre` with their weights, what it could weigh, whether it leaves the image.

    Weights are what a Gaussian's or a table's float64 say; the window is the box around them.
    """
    pairs, possible, leaves = [], 0, False
    counts = weights(window)
    for offset in product(*(range(-r, r + 1) for r in window.radius)):
        weight = counts[offset]
        place = tuple(c + o for c, o in zip(centre, offset, strict=True))
        inside = all(0 <= p < n for p, n in zip(place, f.shape, strict=True))
        leaves |= not inside
        if not inside and window.border in ("shrink", "valid"):
            continue
        if not weight:
            continue
        possible += weight
        if not inside and window.border == "constant":
            pairs.append((weight, Fraction(window.cval), Fraction(window.cval)))
            continue
        at = tuple(continued(p, n, window.border) for p, n in zip(place, f.shape, strict=True))
        a, b = f[at].item(), g[at].item()
        if vf[at] == 1 and vg[at] == 1 and isfinite(a) and isfinite(b):
            pairs.append((weight, Fraction(a), Fraction(b)))
    return pairs, possible, leaves


def moments(pairs):
    """n^2 times covariance and both variances, exactly, n being the sum of the weights."""
    n = sum(w for w, _, _ in pairs)
    f, g = (sum(values) for values in zip(*((w * a, w * b) for w, a, b in pairs), strict=True))
    ff, gg, fg = (sum(values) for values in zip(*((w * a * a, w * b * b, w * a * b) for w, a, b in pairs), strict=True))
    return n * fg - f * g, n * ff - f * f, n * gg - g * g


def pixel(f, g, vf, vg, window, centre):
    """(r as Decimal or None, status) of one pixel of 2-D or 3-D images; floats have no status 8 here."""
    pairs, possible, leaves = samples(f, g, vf, vg, window, centre)
    n = sum(w for w, _, _ in pairs)
    if leaves and window.border == "valid":
        return None, 7
    if len(pairs) < 2 or n < Fraction(window.min_valid_fraction) * possible:
        return None, 6 if vg[centre] == 2 else 2
    cov, va, vb = moments(pairs)
    flat = [v == 0 or v < Fraction(std) ** 2 * n * n for v, std in zip((va, vb), window.deviations, strict=True)]
    if any(flat):
        value = None if isnan(window.flat) else Decimal(0)
        return value, 5 if all(flat) else (3 if flat[0] else 4)
    return coefficient(cov, va, vb), 1


def coefficient(cov, va, vb):
    """Cov / sqrt(va vb) to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        square = cov * cov / (va * vb)
        root = (Decimal(square.numerator) / Decimal(square.denominator)).sqrt()
        return -root if cov < 0 else root


def maps(f, g, window: Window, vf=None, vg=None):
    """The oracle for every pixel: a list of values and an array of status codes."""
    vf = np.ones(f.shape, np.uint8) if vf is None else vf
    vg = np.ones(g.shape, np.uint8) if vg is None else vg
    results = [pixel(f, g, vf, vg, window, centre) for centre in np.ndindex(f.shape)]
    return [r for r, _ in results], np.array([s for _, s in results], np.uint8).reshape(f.shape)


def assert_rounded(got: np.ndarray, exact) -> None:
    """Each float32 is within 0.5 ulp (1 + 2^-26) of the exact value, NaN is the canonical one, and no zero is -0.0."""
    for value, r in zip(got.ravel(), exact, strict=True):
        if r is None:
            assert value.view(np.uint32) == 0x7FC00000, value
            continue
        assert not (value == 0 and np.signbit(value))
        ulp = Decimal(float(np.spacing(np.abs(value)))) if value else Decimal(2) ** -149
        # the spacing below a power of two is half of that above
        error = abs(Decimal(float(value)) - r)
        assert error <= ulp / 2 * (1 + Decimal(2) ** -26), (value, r, error / ulp)


def interior_sums(image: np.ndarray, size) -> np.ndarray:
    """Exact sums of an integer image over all windows that lie inside it."""
    for axis, n in enumerate(size):
        total = np.cumsum(image, axis=axis, dtype=np.int64)
        padded = np.insert(total, 0, 0, axis=axis)
        after, before = np.arange(n, padded.shape[axis]), np.arange(padded.shape[axis] - n)
        image = padded.take(after, axis) - padded.take(before, axis)
    return image


def ulps(got: np.ndarray, f: np.ndarray, g: np.ndarray, size) -> float:
    """Largest error of float32 values in units in the last place, over all windows inside a pair of integer images."""
    a, b = f.astype(np.int64), g.astype(np.int64)
    sums = [interior_sums(image, size).ravel().astype(object) for image in (a, b, a * a, b * b, a * b)]
    n, worst, unit = int(np.prod(size)), 0.0, 80
    for value, sf, sg, sff, sgg, sfg in zip(got.ravel(), *sums, strict=True):
        cov, variances = n * sfg - sf * sg, (n * sff - sf * sf) * (n * sgg - sg * sg)
        root = isqrt((cov * cov << 2 * unit) // variances)
        exact = -root if cov < 0 else root
        error = abs(int(np.ldexp(float(value), unit)) - exact)
        worst = max(worst, error / np.ldexp(float(np.spacing(np.abs(value))), unit))
    return worst


def coarser(ncc, status, axes, flat):
    """The next level of a map: exact means (Fraction, or None where there is no coefficient) and codes.

    The value of a pixel without one is told by its code.
    """
    fixed = ncc.ndim - axes
    shape = tuple(n if i < fixed else -(-n // 2) for i, n in enumerate(ncc.shape))
    means, codes = np.empty(shape, object), np.empty(shape, np.uint8)
    for place in np.ndindex(shape):
        cell = tuple(slice(p, p + 1) if i < fixed else slice(2 * p, 2 * p + 2) for i, p in enumerate(place))
        there = status[cell].ravel().tolist()
        valid = [Fraction(float(v)) for v, code in zip(ncc[cell].ravel(), there, strict=True) if code == 1]
        others = sorted(code for code in there if code != 1)
        codes[place] = 1 if 2 * len(valid) >= len(there) else max(others, key=lambda code: (others.count(code), -code))
        means[place] = sum(valid) / len(valid) if codes[place] == 1 else None
    return means, codes
