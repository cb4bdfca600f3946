"""Window sums and coefficients of one contiguous block: plain loops for numba, no arrays of the block's size.

A strip of columns is walked from top to bottom. Each row enters as its five (masked: six) moment lines
``f, g, f*f, g*g, f*g[, 1]``; a chain of additions turns lines into sums over the window's rows, the same chain turns
those into sums over its columns, and one loop turns sums into coefficient, status and statistics.

The order of the additions depends on the window alone and a sample that does not count enters as an exact zero, so a
pixel's bits do not depend on the block that it was computed in. Integer sums are exact in any case.

All loops are in this file because the cache of compiled code knows a function by its own file only.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigncc.compiled import compiled

Array = NDArray[Any]

UNIT = 2.0**24


@compiled
def add_moments(
    line: Array, pitch: int, lead: int, samples: Any, joint: Array, middle: Any, masked: bool, first: bool
) -> None:
    """Add the moments of one row of samples about `middle` to the lines that begin at ``q * pitch + lead``.

    What the lines held before is forgotten if this is the `first` row of samples.
    """
    f, g = samples
    pf, pg = middle
    zero = pf - pf
    n = f.size
    if first and (masked or n < pitch):
        line[:] = 0
    s0, s1 = line[lead : lead + n], line[pitch + lead : pitch + lead + n]
    s2, s3 = line[2 * pitch + lead : 2 * pitch + lead + n], line[3 * pitch + lead : 3 * pitch + lead + n]
    s4, s5 = line[4 * pitch + lead : 4 * pitch + lead + n], line[5 * pitch + lead : 5 * pitch + lead + n]
    if masked:
        for j in range(n):
            # a select, not a product: an invalid sample may be NaN
            a = f[j] - pf if joint[j] else zero
            b = g[j] - pg if joint[j] else zero
            s0[j] += a
            s1[j] += b
            s2[j] += a * a
            s3[j] += b * b
            s4[j] += a * b
            s5[j] += joint[j]
    elif first:
        for j in range(n):
            a = f[j] - pf
            b = g[j] - pg
            s0[j] = a
            s1[j] = b
            s2[j] = a * a
            s3[j] = b * b
            s4[j] = a * b
    else:
        for j in range(n):
            a = f[j] - pf
            b = g[j] - pg
            s0[j] += a
            s1[j] += b
            s2[j] += a * a
            s3[j] += b * b
            s4[j] += a * b


@compiled
def add_lines(out: Array, source: Array, at: Array, terms: int) -> None:
    """Write the sum of the `terms` lines of `source` that begin at ``at[0], at[1], ...``, added in this order."""
    n = out.size
    a, b = source[at[0] : at[0] + n], source[at[1] : at[1] + n]
    c, d = source[at[2] : at[2] + n], source[at[3] : at[3] + n]
    e, f = source[at[4] : at[4] + n], source[at[5] : at[5] + n]
    if terms == 2:
        for j in range(n):
            out[j] = a[j] + b[j]
    elif terms == 3:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j]
    elif terms == 4:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j] + d[j]
    elif terms == 5:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j] + d[j] + e[j]
    else:
        for j in range(n):
            out[j] = a[j] + b[j] + c[j] + d[j] + e[j] + f[j]


@compiled
def add_rows(rings: Array, first: Array, slots: Array, steps: Array, row: int, length: int, at: Array) -> None:
    """Bring every level of the vertical chain up to date after row `row` came in.

    Level l keeps its latest ``slots[l]`` lines in a ring that begins at ``first[l]``; the line that sums the rows
    from s on lies in slot ``s % slots[l]``.
    """
    for level in range(1, slots.size):
        k, m, plus = steps[level - 1, 0], steps[level - 1, 1], steps[level - 1, 2]
        start = row - (k * m + plus) + 1
        if start < 0:
            return
        for t in range(k):
            at[t] = first[level - 1] + (start + t * m) % slots[level - 1] * length
        if plus:
            at[k] = first[0] + row % slots[0] * length
        target = first[level] + start % slots[level] * length
        add_lines(rings[target : target + length], rings, at, k + plus)


@compiled
def add_columns(lines: Array, base: int, top: int, steps: Array, length: int, at: Array) -> int:
    """Turn the line at `base` into sums over neighbouring columns, buffers from `top` on; return where they are."""
    source = base
    for level in range(steps.shape[0]):
        k, m, plus = steps[level, 0], steps[level, 1], steps[level, 2]
        for t in range(k):
            at[t] = source + t * m
        if plus:
            at[k] = base + k * m
        source = top + level * length
        add_lines(lines[source : source + length - k * m - plus + 1], lines, at, k + plus)
    return source


@compiled
def wide_difference(n: int, fg: int, f: int, g: int) -> float:
    """Return ``n * fg - f * g`` rounded once, with 31-bit limbs: exact where 64 bits would overflow.

    For 16-bit samples about the middle of their range and n < 2^31: ``|fg| <= 2^30 n < 2^61``, ``|f|, |g| <= 2^15 n <
    2^46``; so every product below stays under 2^62.
    """
    low = (1 << 31) - 1
    a, b = fg >> 31, fg & low
    p, q = f >> 31, f & low
    s, t = g >> 31, g & low
    units = n * b - q * t
    middle = n * a - p * t - q * s + (units >> 31)
    high = (middle >> 31) - p * s
    rest = ((middle & low) << 31) | (units & low)
    if high < 0:
        # a small negative number has high = -1 and a rest near 2^62: negate before the limbs are rounded
        return -(float(-high - 1) * 2.0**62 + float((1 << 62) - rest))
    return float(high) * 2.0**62 + float(rest)


@compiled
def differences(sums: Array, pitch: int, count: Array, wide: bool, cov: Array, vf: Array, vg: Array) -> None:
    """Write n^2 times covariance and variances of one row of windows."""
    w = count.size
    f, g = sums[:w], sums[pitch : pitch + w]
    ff, gg, fg = sums[2 * pitch : 2 * pitch + w], sums[3 * pitch : 3 * pitch + w], sums[4 * pitch : 4 * pitch + w]
    if wide:
        for j in range(w):
            n = int(count[j])
            cov[j] = wide_difference(n, int(fg[j]), int(f[j]), int(g[j]))
            vf[j] = wide_difference(n, int(ff[j]), int(f[j]), int(f[j]))
            vg[j] = wide_difference(n, int(gg[j]), int(g[j]), int(g[j]))
    else:
        for j in range(w):
            n = count[j]
            cov[j] = n * fg[j] - f[j] * g[j]
            vf[j] = n * ff[j] - f[j] * f[j]
            vg[j] = n * gg[j] - g[j] * g[j]


@compiled
def coefficients(cov: Array, vf: Array, vg: Array, exact: bool, r: Array) -> None:
    """Write r, clipped to [-1, 1], never -0.0; what it is in windows without variance does not matter."""
    if exact:
        # integers cannot overflow the product, and one root rounds once less
        for j in range(r.size):
            value = cov[j] / np.sqrt(vf[j] * vg[j])
            value = 1.0 if value > 1.0 else value
            value = -1.0 if value < -1.0 else value
            r[j] = np.float32(value) + np.float32(0.0)
    else:
        for j in range(r.size):
            value = cov[j] / (np.sqrt(vf[j]) * np.sqrt(vg[j]))
            value = 1.0 if value > 1.0 else value
            value = -1.0 if value < -1.0 else value
            r[j] = np.float32(value) + np.float32(0.0)


@compiled
def suspects(
    sums: Array, pitch: int, count: Array, possible: Array, vf: Array, vg: Array, rules: Array, mark: Array
) -> int:
    """Mark the windows that may be anything but valid; return how many.

    `rules` holds min_valid_fraction, the squares of both min_std, the resolution, the number of samples below which a
    window leaves the image (0 where that is allowed), and the value of flat windows.
    """
    w = count.size
    ff, gg = sums[2 * pitch : 2 * pitch + w], sums[3 * pitch : 3 * pitch + w]
    fraction, std_f, std_g, resolution, whole = rules[0], rules[1], rules[2], rules[3], rules[4]
    found = 0
    for j in range(w):
        n = float(count[j])
        few = (n < fraction * possible[j]) | (n < 2.0) | (possible[j] < whole)
        # negated, so that a NaN from an overflow is a suspect too
        f = (not vf[j] > resolution * (n * float(ff[j]))) | (vf[j] < std_f * n * n)
        g = (not vg[j] > resolution * (n * float(gg[j]))) | (vg[j] < std_g * n * n)
        odd = few | f | g
        mark[j] = 1.0 if odd else 0.0
        found += 1 if odd else 0
    return found


@compiled
def constant(image: Array, joint: Array, masked: bool, frame: Any, low: Array, high: Array, flat: Array) -> None:
    """Write 1 into `flat` where the jointly valid samples of a window are all equal, exactly; else 0.

    The strip's columns lie from `lead` on in `low` and `high`, which are `size` - 1 longer than the output.
    """
    (za, zb, ya, yb), left, right, lead, _, size = frame
    low[:] = np.inf
    high[:] = -np.inf
    for z in range(za, zb):
        for y in range(ya, yb):
            for x in range(left, right):
                if not masked or joint[z, y, x]:
                    value = float(image[z, y, x])
                    j = x - left + lead
                    low[j] = min(low[j], value)
                    high[j] = max(high[j], value)
    length, done = low.size, 1
    while done < size:
        # windows of `done` columns that overlap as needed: extremes may count a sample twice
        shift = min(done, size - done)
        for j in range(length - shift):
            low[j] = min(low[j], low[j + shift])
            high[j] = max(high[j], high[j + shift])
        length -= shift
        done += shift
    for j in range(length):
        flat[j] = 1.0 if low[j] == high[j] else 0.0


@compiled
def judge(
    mark: Array,
    count: Array,
    possible: Array,
    vf: Array,
    vg: Array,
    flats: Array,
    centre: Array,
    viewed: bool,
    rules: Array,
    r: Array,
    status: Array,
) -> None:
    """Give each marked window its status, in the order 7, 6, 2, 5, 3, 4, 8, 1, and its value."""
    for j in range(mark.size):
        if mark[j] == 0.0:
            continue
        n = float(count[j])
        # a variance of floats may round to less than zero, which is not below a min_std of zero
        flat_f = flats[0, j] == 1.0 or max(vf[j], 0.0) < rules[1] * n * n
        flat_g = flats[1, j] == 1.0 or max(vg[j], 0.0) < rules[2] * n * n
        value = np.float32(np.nan)
        if possible[j] < rules[4]:
            code = 7
        elif n < rules[0] * possible[j] or n < 2.0:
            code = 6 if viewed and centre[j] == 2 else 2
        elif flat_f or flat_g:
            code = 5 if flat_f and flat_g else (3 if flat_f else 4)
            value = np.float32(rules[5])
        elif flats[2, j] == 1.0:
            code = 8
        else:
            code = 1
            value = r[j]
        status[j] = code
        r[j] = value


@compiled
def weigh(
    sums: Array, pitch: int, images: Any, flags: Any, frame: Any, scratch: Array, resolution: float, count: Array
) -> Array:
    """Return three lines: 1 where reference or moving is flat, exactly, and 1 where a variance has no digits left."""
    f, g, joint, _ = images
    masked, exact = flags[0], flags[2]
    w = count.size
    vf, vg, flats = scratch[1, :w], scratch[2, :w], scratch[4:7, :w]
    if exact:
        for j in range(w):
            flats[0, j] = 1.0 if vf[j] <= 0.0 else 0.0
            flats[1, j] = 1.0 if vg[j] <= 0.0 else 0.0
            flats[2, j] = 0.0
    else:
        low, high = scratch[7, :pitch], scratch[8, :pitch]
        constant(f, joint, masked, frame, low, high, flats[0])
        constant(g, joint, masked, frame, low, high, flats[1])
        for j in range(w):
            ff, gg = count[j] * sums[2 * pitch + j], count[j] * sums[3 * pitch + j]
            flats[2, j] = 0.0 if vf[j] > resolution * ff and vg[j] > resolution * gg else 1.0
    return flats


@compiled
def finish_row(
    sums: Array, pitch: int, images: Any, centre: Array, flags: Any, frame: Any, rules: Array, scratch: Array,
    full: Array, r: Array, status: Array,
) -> int:  # fmt: skip
    """Turn the sums of one row of windows into coefficients and status; return how many are out of the ordinary."""
    masked, viewed, exact, wide = flags
    (za, zb, ya, yb), left, right, _, begin, size = frame
    w = r.size
    possible, vf, vg, cov = scratch[0, :w], scratch[1, :w], scratch[2, :w], scratch[3, :w]
    if possible[0] != (zb - za) * (yb - ya) * (min(right, begin + size) - max(left, begin)):
        # most rows have as many samples as the one before
        for j in range(w):
            possible[j] = (zb - za) * (yb - ya) * (min(right, begin + j + size) - max(left, begin + j))
            full[j] = possible[j]
    count = sums[5 * pitch : 5 * pitch + w] if masked else full[:w]
    differences(sums, pitch, count, wide, cov, vf, vg)
    coefficients(cov, vf, vg, exact, r)
    status[:] = 1
    mark = scratch[9, :w]
    found = suspects(sums, pitch, count, possible, vf, vg, rules, mark)
    if found:
        flats = weigh(sums, pitch, images, flags, frame, scratch, rules[3], count)
        judge(mark, count, possible, vf, vg, flats, centre, viewed, rules, r, status)
    return found


@compiled
def tally(r: Array, status: Array, ordinary: bool, integers: Array, extremes: Array) -> None:
    """Add one row to the statistics: counts per status, sums of r and r^2, extremes, four interleaved histograms.

    The extremes are kept per column, as a single running minimum would wait for itself at each pixel.
    """
    low, high = extremes[0], extremes[1]
    total, squares = 0, 0
    if ordinary:
        integers[1] += r.size
        for j in range(r.size):
            value = float(r[j])
            total += int(np.floor(value * UNIT + 0.5))
            squares += int(np.floor(value * value * UNIT + 0.5))
            low[j] = r[j] if r[j] < low[j] else low[j]
            high[j] = r[j] if r[j] > high[j] else high[j]
    else:
        for j in range(r.size):
            integers[status[j]] += 1
            valid = status[j] == 1
            value = float(r[j]) if valid else 0.0
            total += int(np.floor(value * UNIT + 0.5))
            squares += int(np.floor(value * value * UNIT + 0.5))
            low[j] = r[j] if valid and r[j] < low[j] else low[j]
            high[j] = r[j] if valid and r[j] > high[j] else high[j]
    for j in range(r.size):
        if ordinary or status[j] == 1:
            # neighbours fall into the same bin: four tables keep the additions independent
            integers[11 + (j & 3) * 64 + min(63, int((r[j] + np.float32(1.0)) * np.float32(32.0)))] += 1
    integers[9] += total
    integers[10] += squares


@compiled
def walk(
    images: Any, flags: Any, frame: Any, buffers: Any, widths: Any, rules: Array, ncc: Array, status: Array,
    totals: Array, extremes: Array,
) -> None:  # fmt: skip
    """Walk the core plane by plane and strip by strip; each strip from top to bottom."""
    f, g, joint, view = images
    masked, viewed = flags[0], flags[1]
    roi, size, middle = frame
    rows, columns, slots, lines, full = buffers
    quantities, strip = widths
    rz, ry, rx = size[0] // 2, size[1] // 2, size[2] // 2
    nz, ny, nx = f.shape
    at = np.zeros(6, np.int64)
    first = np.zeros(slots.size + 1, np.int64)
    scratch = np.zeros((10, strip + size[2] - 1))
    for z in range(roi[0], roi[1]):
        za, zb = max(0, z - rz), min(nz, z + rz + 1)
        for x in range(roi[4], roi[5], strip):
            w = min(strip, roi[5] - x)
            pitch = w + size[2] - 1
            length = quantities * pitch
            left, right = max(0, x - rx), min(nx, x + w + rx)
            for level in range(slots.size):
                first[level + 1] = first[level] + slots[level] * length
            scratch[0, 0] = 0.0
            for row in range(roi[3] - roi[2] + size[1] - 1):
                inside = roi[2] - ry + row
                line = lines[first[0] + row % slots[0] * length :][:length]
                if 0 <= inside < ny:
                    for plane in range(za, zb):
                        valid = joint[plane, inside, left:right] if masked else joint[0, 0]
                        samples = f[plane, inside, left:right], g[plane, inside, left:right]
                        add_moments(line, pitch, left - (x - rx), samples, valid, middle, masked, plane == za)
                else:
                    line[:] = 0
                add_rows(lines, first, slots, rows, row, length, at)
                y = inside - ry
                if y < roi[2]:
                    continue
                sums = lines[add_columns(lines, first[slots.size - 1], first[slots.size], columns, length, at) :]
                span = za, zb, max(0, y - ry), min(ny, y + ry + 1)
                out = ncc[z - roi[0], y - roi[2], x - roi[4] : x - roi[4] + w]
                code = status[z - roi[0], y - roi[2], x - roi[4] : x - roi[4] + w]
                centre = view[z, y, x : x + w] if viewed else view[0, 0]
                place = span, left, right, left - (x - rx), x - rx, size[2]
                found = finish_row(sums, pitch, images, centre, flags, place, rules, scratch, full, out, code)
                tally(out, code, found == 0, totals, extremes)


@compiled
def all_finite(samples: Array) -> bool:
    """Say whether no sample is NaN or infinite."""
    check = samples[:1].sum() * 0
    for j in range(samples.size):
        check += samples[j] * 0
    return bool(check == 0)
