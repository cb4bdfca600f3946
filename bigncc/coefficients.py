"""From the sums of a row of windows to coefficients, status and statistics: plain loops for numba.

One loop makes the values of a row, and counts the windows that may be anything but valid. Only a row with such a window
is judged one by one. All sums come as flat lines behind each other: f, g in one, f*f, g*g, f*g in the other.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled_loop, inlined_loop
from bigncc.lines import LEAST

Array = NDArray[Any]

UNIT = np.float32(2.0**24)
BINS = 64
TABLE = 80
"""Places for 64 bins and 9 status codes."""

SAFE = 1e280
"""Beyond this, or below its inverse, a product of two variances may have lost digits."""

SMALL = 1e-140
"""Two variances above this have a product in the safe range, and are above `LEAST`."""

NEVER = 2**31 - 1
"""More samples than any window has."""


@compiled_loop
def difference(n: int, ab: Any, a: Any, b: Any, kind: Any) -> float:
    """Return ``n * ab - a * b`` in arithmetic of `kind`.

    Of integers it is exact in float64 while both products stay below 2^53, and rounded once in int64 below 2^63.
    """
    return float(kind(n) * kind(ab) - kind(a) * kind(b))


@compiled_loop
def wide_difference(n: int, ab: Any, a: Any, b: Any) -> float:
    """Return ``n * ab - a * b`` of integers rounded once, with 31-bit limbs: exact where 64 bits would overflow.

    For 16-bit samples about the middle of their range and n < 2^31: ``|ab| <= 2^30 n < 2^61``, ``|a|, |b| <= 2^15 n <
    2^46``; so every product below stays under 2^62.
    """
    low = (1 << 31) - 1
    c, d = np.int64(ab) >> 31, np.int64(ab) & low
    p, q = np.int64(a) >> 31, np.int64(a) & low
    s, t = np.int64(b) >> 31, np.int64(b) & low
    count = np.int64(n)  # floats are compiled, too, and never wide
    units = count * d - q * t
    middle = count * c - p * t - q * s + (units >> 31)
    high = (middle >> 31) - p * s
    rest = ((middle & low) << 31) | (units & low)
    if high < 0:
        # a small negative number has high = -1 and a rest near 2^62: negate before the limbs are rounded
        return -(float(-high - 1) * 2.0**62 + float((1 << 62) - rest))
    return float(high) * 2.0**62 + float(rest)


@compiled_loop
def inverse_root(x: float) -> float:
    """Return 1 / sqrt(x) within 2^-51 of itself, for numbers between 2^-126 and 2^127.

    A root and a division in float32 take a fifth of the time of those in float64. What they give errs by less than
    2^-22, and one step of Householder's method of third order leaves 5/2 of the cube of that.
    """
    y = float(np.float32(1.0) / np.sqrt(np.float32(x)))
    rest = 1.0 - x * y * y
    return y + y * rest * (0.5 + 0.375 * rest)


@compiled_loop
def exact_coefficients(sums: Any, count: Array, kind: Any, r: Array) -> int:
    """Write r of one row of windows from exact sums; return how many have no contrast.

    What rounding may add to 1 is less than half of a float32's last place, and a covariance of zero is not negative.
    Sums that are not wide have n^2 times a variance below 2^63; those that are get their values from `settle`.
    """
    simple, products, pitch = sums
    f, g, ff = simple, simple[pitch:], products
    gg, fg = products[pitch:], products[2 * pitch :]
    odd = 0
    for j in range(r.size):
        cov = difference(count[j], fg[j], f[j], g[j], kind)
        vf = difference(count[j], ff[j], f[j], f[j], kind)
        vg = difference(count[j], gg[j], g[j], g[j], kind)
        both = vf * vg
        r[j] = np.float32(cov * inverse_root(both))
        odd += 0 if both > 0.0 else 1
    return odd


@compiled_loop
def rounded_coefficients(sums: Any, count: Array, least: Array, resolution: float, r: Array) -> int:
    """Write r of one row of windows, clipped to [-1, 1], never -0.0; return how many may have too little contrast."""
    simple, products, pitch = sums
    f, g, ff = simple, simple[pitch:], products
    gg, fg = products[pitch:], products[2 * pitch :]
    # where one factor is below the resolution, so is the product; twice, as factors are rounded
    share = 2.0 * resolution
    odd = 0
    for j in range(r.size):
        n = float(count[j])
        cov = n * fg[j] - f[j] * g[j]
        vf = n * ff[j] - f[j] * f[j]
        vg = n * gg[j] - g[j] * g[j]
        both = vf * vg
        value = np.float32(cov / np.sqrt(both))
        value = np.float32(1.0) if value > np.float32(1.0) else value
        value = np.float32(-1.0) if value < np.float32(-1.0) else value
        r[j] = value + np.float32(0.0)
        # false for the NaN of an overflow
        fine = (both > share * (n * ff[j]) * (n * gg[j])) & (both < SAFE) & ((vf if vf < vg else vg) > SMALL)
        odd += 0 if fine | (count[j] < least[j]) else 1
    return odd


@compiled_loop
def too_few(count: Array, least: Array) -> int:
    """Return how many windows of a row have too few samples."""
    few = 0
    for j in range(least.size):
        few += 1 if count[j] < least[j] else 0
    return few


@compiled_loop
def differences(sums: Any, count: Array, resolution: float, kind: Any, wide: bool, lines: Array, marks: Array) -> None:
    """Write n^2 times covariance and variances, and mark the windows that are flat, or below the resolution.

    Of a variance that is below the resolution no more is known, so that it is written as that.
    """
    simple, products, pitch = sums
    f, g, ff = simple, simple[pitch:], products
    gg, fg = products[pitch:], products[2 * pitch :]
    cov, vf, vg = lines[0], lines[1], lines[2]
    if wide:
        for j in range(marks.shape[1]):
            cov[j] = wide_difference(count[j], fg[j], f[j], g[j])
            vf[j] = wide_difference(count[j], ff[j], f[j], f[j])
            vg[j] = wide_difference(count[j], gg[j], g[j], g[j])
    else:
        for j in range(marks.shape[1]):
            cov[j] = difference(count[j], fg[j], f[j], g[j], kind)
            vf[j] = difference(count[j], ff[j], f[j], f[j], kind)
            vg[j] = difference(count[j], gg[j], g[j], g[j], kind)
    flat_f, flat_g, lost = marks[0], marks[1], marks[2]
    for j in range(marks.shape[1]):
        n = float(count[j])
        flat_f[j] = 0 if vf[j] > 0.0 else 1
        flat_g[j] = 0 if vg[j] > 0.0 else 1
        least_f, least_g = resolution * (n * float(ff[j])), resolution * (n * float(gg[j]))
        lost[j] = 0 if (vf[j] > max(least_f, LEAST)) & (vg[j] > max(least_g, LEAST)) else 1
        # also instead of the NaN of an overflow
        vf[j] = vf[j] if vf[j] > least_f else least_f
        vg[j] = vg[j] if vg[j] > least_g else least_g


@compiled_loop
def judge(
    lines: Array, marks: Array, count: Array, least: Array, rules: Any, outside: Array, r: Array, status: Array
) -> None:
    """Give each window its status, in the order 7, 6, 2, 5, 3, 4, 8, 1, and its value."""
    vf, vg, flat_f, flat_g, lost = lines[1], lines[2], marks[0], marks[1], marks[2]
    std_f, std_g, _, blank = rules
    for j in range(r.size):
        square = float(count[j]) * float(count[j])
        f = (flat_f[j] == 1) | (vf[j] < std_f * square)
        g = (flat_g[j] == 1) | (vg[j] < std_g * square)
        code = (5 if g else 3) if f else (4 if g else (8 if lost[j] == 1 else 1))
        few = 7 if least[j] == NEVER else (6 if outside[j] == 2 else 2)
        code = few if count[j] < least[j] else code
        value = np.float32(blank) if (code >= 3) & (code <= 5) else np.float32(np.nan)
        r[j] = r[j] if code == 1 else value
        status[j] = code


@compiled_loop
def settle(lines: Array, all_of_them: bool, r: Array, status: Array) -> None:
    """Give valid windows whose variances have a product beyond the safe range their value, from two roots."""
    cov, vf, vg = lines[0], lines[1], lines[2]
    for j in range(r.size):
        both = vf[j] * vg[j]
        if status[j] == 1 and (all_of_them or not (both < SAFE and both > 1.0 / SAFE)):
            value = cov[j] / (np.sqrt(vf[j]) * np.sqrt(vg[j]))
            value = 1.0 if value > 1.0 else value
            value = -1.0 if value < -1.0 else value
            r[j] = np.float32(value) + np.float32(0.0)


@compiled_loop
def follow(image: Array, joint: Array, masked: bool, place: Any, left: int, right: int, runs: Array) -> None:
    """Add a row to `runs`: per column the value, the first row since when it holds, and the last valid row."""
    za, zb, row = place
    value, since, last, low, high = runs[0], runs[1], runs[2], runs[3], runs[4]
    low[:] = np.inf
    high[:] = -np.inf
    for plane in range(za, zb):
        for j in range(right - left):
            if not masked or joint[plane, row, left + j]:
                sample = float(image[plane, row, left + j])
                low[j] = min(low[j], sample)
                high[j] = max(high[j], sample)
    for j in range(right - left):
        if low[j] <= high[j]:
            if low[j] != high[j]:
                value[j], since[j] = np.nan, row + 1
            elif low[j] != value[j]:
                value[j], since[j] = low[j], last[j] + 1
            last[j] = row


@compiled_loop
def constant(image: Array, joint: Array, masked: bool, frame: Any, runs: Array, known: int, flat: Array) -> None:
    """Write 1 into `flat` where the jointly valid samples of a window are all equal, exactly; else 0.

    `runs` was followed up to row `known`; rows that it missed are made up for, so a row is looked at once at most.
    """
    za, zb, ya, yb, left, right, lead, size = frame
    value, since, last, low, high = runs[0], runs[1], runs[2], runs[3], runs[4]
    if known < ya:
        value[:] = np.nan
        since[:] = ya
        last[:] = ya - 1
    for row in range(max(ya, known + 1), yb):
        follow(image, joint, masked, (za, zb, row), left, right, runs)
    low[:] = np.inf
    high[:] = -np.inf
    for j in range(right - left):
        if last[j] >= ya:
            low[j + lead] = value[j] if since[j] <= ya else -np.inf
            high[j + lead] = value[j] if since[j] <= ya else np.inf
    length, done = flat.size + size - 1, 1
    while done < size:
        # windows of `done` columns that overlap as needed: extremes may count a sample twice
        shift = min(done, size - done)
        for j in range(length - shift):
            low[j] = min(low[j], low[j + shift])
            high[j] = max(high[j], high[j + shift])
        length -= shift
        done += shift
    for j in range(length):
        flat[j] = 1 if low[j] == high[j] else 0


@inlined_loop
def finish_row(
    sums: Any, count: Array, least: Array, few: int, rules: Any, kind: Any, wide: bool, images: Any, masked: bool,
    frame: Any, state: Any, equal: Any, outside: Array, r: Array, status: Array,
) -> bool:  # fmt: skip
    """Turn the sums of one row of windows into coefficients and status; say whether all windows are valid.

    `few` of them have too few samples.
    """
    known, lines, marks = state
    status[:] = 1
    strict = rules[0] > 0.0 or rules[1] > 0.0
    if equal is None:
        odd = exact_coefficients(sums, count, kind, r)
    if equal is not None:
        odd = rounded_coefficients(sums, count, least, rules[2], r)
    if odd == 0 and few == 0 and not strict and not wide:
        return True
    marks = marks[:, : r.size]
    differences(sums, count, rules[2], kind, wide, lines, marks)
    if equal is not None:
        marks[:2] = 0
        if odd or strict:
            constant(images[4], images[2], masked, frame, equal[0], known[0], marks[0])
            constant(images[5], images[2], masked, frame, equal[1], known[0], marks[1])
            known[0] = frame[3] - 1
    judge(lines, marks, count, least, rules, outside, r, status)
    settle(lines, wide, r, status)
    return False


@compiled_loop
def outlook(depth: int, x: int, rx: int, nx: int, fraction: float, whole: int, full: Array, least: Array) -> int:
    """Write how many samples each window of a row could have, and how many it must have for a value.

    `depth` counts its rows and planes; `whole` is the number below which a window leaves the image, if that matters.
    Return how many windows could not have enough.
    """
    for j in range(full.size):
        possible = depth * (min(nx, x + j + rx + 1) - max(0, x + j - rx))
        full[j] = possible
        least[j] = max(2, np.int64(np.ceil(fraction * possible))) if possible >= whole else NEVER
    return too_few(full, least)


@compiled_loop
def tally(r: Array, status: Array, ordinary: bool, integers: Array, extremes: Array, bins: Array) -> None:
    """Add one row to the statistics: sums of r and r^2 in units of 2^-24, extremes, and how many fall into each bin.

    A row is one loop for the vectors and one for the table. Extremes are kept per column, and neighbours count in eight
    tables, so that no addition waits for the one before. A pixel that is not valid counts under its status.
    """
    low, high = extremes[0], extremes[1]
    total, squares = np.int64(0), np.int64(0)
    if ordinary:
        for j in range(r.size):
            k = np.int32(np.rint(r[j] * UNIT))
            total += np.int64(k)
            squares += (np.int64(k) * np.int64(k) + (1 << 23)) >> 24
            low[j] = r[j] if r[j] < low[j] else low[j]
            high[j] = r[j] if r[j] > high[j] else high[j]
            bins[j] = min((k + (1 << 24)) >> 19, BINS - 1)
    else:
        for j in range(r.size):
            valid = status[j] == 1
            k = np.int32(np.rint((r[j] if valid else np.float32(0.0)) * UNIT))
            total += np.int64(k)
            squares += (np.int64(k) * np.int64(k) + (1 << 23)) >> 24
            low[j] = r[j] if valid & (r[j] < low[j]) else low[j]
            high[j] = r[j] if valid & (r[j] > high[j]) else high[j]
            bins[j] = min((k + (1 << 24)) >> 19, BINS - 1) if valid else BINS + status[j]
    integers[0], integers[1] = integers[0] + total, integers[1] + squares
    tables = integers[2:]
    for j in range(r.size):
        tables[np.uint64(j & 7) * np.uint64(TABLE) + np.uint64(bins[j])] += 1
